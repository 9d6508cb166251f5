//! `IOTO_*` variables: `IOTO_WEB_LIMITS_HEADER=20k` says `web.limits.header: '20k'`.
//!
//! A name is compared in any case with the keys that sections read. A value that begins with `[` or `{` is JSON5, any other
//! is a text, which the reading of a flag, a number or a list with one item accepts.

use std::collections::BTreeMap;

use super::foreign;
use super::json5;
use super::node::{Node, quote};
use super::origin::{Origin, Source};
use super::problem::Problems;
use super::section::Kind;
use super::unread::distance;

/// What every variable of the agent begins with.
pub const PREFIX: &str = "IOTO_";

/// The layers that the variables make, sorted by name, so that `IOTO_WEB` comes before `IOTO_WEB_LISTEN`. Others than
/// `IOTO_*` are passed over.
pub(super) fn layers(
    variables: &[(String, String)],
    keys: &BTreeMap<String, Kind>,
    problems: &mut Problems,
) -> Vec<Node> {
    let mut values = Vec::new();
    let mut ours: Vec<(&str, &str, &str)> = Vec::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        ours.insert(ours.partition_point(|(_, known, _)| *known < rest), (name, rest, value));
    }
    for (name, rest, value) in ours {
        let source = Source::Environment(name.into());
        let path = rest.replace('_', ".");
        let known = keys.keys().find(|key| key.eq_ignore_ascii_case(&path)).cloned();
        let Some(key) = known.or_else(|| foreign::in_any_case(&path)) else {
            problems.add(Origin::of(source), "", format!("names no key of the configuration{}", hint(&path, keys)));
            continue;
        };
        match value.starts_with(['[', '{']) {
            false => values.push(Node::text(value, Origin::of(source)).under(&key)),
            true => match json5::parse(value, &source) {
                Ok(node) => values.push(node.under(&key)),
                Err(error) => problems.extend([error.into()]),
            },
        }
    }
    values
}

fn hint(path: &str, keys: &BTreeMap<String, Kind>) -> String {
    let path = path.to_ascii_lowercase();
    let near =
        keys.keys().map(|key| (distance(&path, &key.to_ascii_lowercase()), key)).filter(|(far, _)| *far <= 2).min();
    near.map_or(String::new(), |(_, key)| {
        let name = format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "_"));
        format!(", did you mean {}?", quote(&name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keys_in_any_case_and_values_texts_or_json5() {
        let keys = ["web", "web.limits.maxBody", "web.listen"].map(|key| (key.to_owned(), Kind::Value)).into();
        let rows = [
            ("IOTO_WEB_LIMITS_MAXBODY", "5", "{web: {limits: {maxBody: '5'}}}"),
            ("IOTO_web_Listen", "[1, 'a']", "{web: {listen: [1, 'a']}}"),
            ("IOTO_WEB", "{a: 1}", "{web: {a: 1}}"),
            ("IOTO_LIMITS_FIBERS", " {", "{limits: {FIBERS: ' {'}}"),
        ];
        for (name, value, expected) in rows {
            let mut problems = Problems::default();
            let layers = layers(&[(name.into(), value.into()), ("HOME".into(), "/".into())], &keys, &mut problems);
            let expected = json5::parse(expected, &Source::Default);
            assert!(problems.is_empty() && layers.len() == 1, "{name}: {problems}");
            assert!(expected.is_ok_and(|expected| expected.same(&layers[0])), "{name}: {layers:?}");
        }
        let mut problems = Problems::default();
        assert!(layers(&[("IOTO_LISTEN".into(), "x".into())], &keys, &mut problems).is_empty());
        assert_eq!(problems.to_string(), "IOTO_LISTEN: names no key of the configuration\n");
    }
}
