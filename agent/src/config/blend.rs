//! Blending: one layer laid over another.
//!
//! Objects merge; lists and single values replace. A prefix of the key says otherwise:
//!
//! | prefix | effect |
//! |---|---|
//! | `+` | a list gets the items appended, an object gets the members |
//! | `-` | a list loses the items that are equal, an object the keys that are named; a single value goes when it is equal; `null` removes any key |
//! | `=` | the value replaces what was there, also an object |
//! | `?` | only when the key is not there yet |
//!
//! Keys that begin with `_` are ignored. The agent's own defaults are no layer: `+listen` where no layer says `listen` makes a
//! list of its own.

use super::node::{Member, Node, Value};
use super::problem::Problems;

/// Lays `over` on `base`.
pub(crate) fn blend(base: &mut Node, over: Node, problems: &mut Problems) {
    match (&mut base.value, over.value) {
        (Value::Object(members), Value::Object(more)) => {
            more.into_iter().for_each(|member| blend_member(members, member, problems));
        }
        (_, value) => *base = clean(Node { value, origin: over.origin }, problems),
    }
}

/// Lays a layer's file on `root`, below `under` when that is named, then those of its `conditional` blocks that hold:
/// `conditional: {COLLECTION: {CASE: {…}}}` holds where the property COLLECTION of the root is CASE. `profile` was decided
/// before.
pub(super) fn blend_file(root: &mut Node, mut file: Node, under: Option<&str>, profile: &str, problems: &mut Problems) {
    let place = |node: Node| match under {
        Some(key) => node.under(key),
        None => node,
    };
    let conditional = file.take("conditional");
    blend(root, place(file), problems);
    let collections = conditional.map(|node| cases(&node, problems)).unwrap_or_default();
    for collection in collections {
        let case = match (collection.key.as_str(), root.get(&collection.key).map(|node| &node.value)) {
            ("profile", _) => profile.to_owned(),
            (_, Some(Value::Text(case))) => case.clone(),
            _ => continue,
        };
        let Some(block) = cases(&collection.node, problems).into_iter().find(|member| member.key == case) else {
            continue;
        };
        let said = block.node.members().iter().find(|member| under.is_none() && split(&member.key).1 == "profile");
        if let Some(said) = said {
            let text = "cannot be set in a conditional block; set it beside `conditional`";
            problems.add(said.origin.clone(), "profile", text);
        }
        blend(root, place(block.node), problems);
    }
}

/// The members of an object; a problem for anything else.
fn cases(node: &Node, problems: &mut Problems) -> Vec<Member> {
    if !matches!(node.value, Value::Object(_)) {
        let text = format!("expected an object as {{profile: {{dev: {{}}}}}}, found {}", node.describe());
        problems.add(node.origin.clone(), "conditional", text);
    }
    node.members().iter().filter(|member| !member.key.starts_with('_')).cloned().collect()
}

fn blend_member(members: &mut Vec<Member>, member: Member, problems: &mut Problems) {
    let (prefix, name) = split(&member.key);
    if name.starts_with('_') {
        return;
    }
    let position = members.iter().position(|member| member.key == name);
    let Some(position) = position else {
        if prefix != Some('-') {
            let node = clean(member.node, problems);
            members.push(Member { key: name.to_owned(), origin: member.origin, node });
        }
        return;
    };
    let there = &mut members[position];
    match prefix {
        Some('?') => {}
        Some('=') => there.node = clean(member.node, problems),
        Some('+') => append(&mut there.node, member, problems),
        Some('-') => {
            if remove(&mut there.node, &member.node) {
                members.remove(position);
            }
        }
        _ => blend(&mut there.node, member.node, problems),
    }
}

fn append(base: &mut Node, more: Member, problems: &mut Problems) {
    match (&mut base.value, more.node.value) {
        (Value::List(items), Value::List(more)) => items.extend(more.into_iter().map(|item| clean(item, problems))),
        (Value::List(items), value) => items.push(clean(Node { value, origin: more.node.origin }, problems)),
        (Value::Object(_), value @ Value::Object(_)) => blend(base, Node { value, origin: more.node.origin }, problems),
        _ => {
            problems.add(more.origin, more.key, "`+` appends to a list or an object, and the value so far is neither");
        }
    }
}

/// Takes `less` out of `base`; true when the key itself is to go.
fn remove(base: &mut Node, less: &Node) -> bool {
    let gone: &[Node] = match &less.value {
        Value::Null => return true,
        Value::List(items) => items,
        _ => std::slice::from_ref(less),
    };
    match &mut base.value {
        Value::List(items) => items.retain(|item| !gone.iter().any(|less| less.same(item))),
        Value::Object(members) => members.retain(|member| {
            let named = gone.iter().any(|less| less.value == Value::Text(member.key.clone()));
            !named && less.get(&member.key).is_none()
        }),
        _ => return base.same(less),
    }
    false
}

/// `node` with the prefixes of its keys carried out and the ignored keys gone, as if it were laid on nothing.
fn clean(node: Node, problems: &mut Problems) -> Node {
    let value = match node.value {
        Value::Object(more) => {
            let mut members = Vec::new();
            more.into_iter().for_each(|member| blend_member(&mut members, member, problems));
            Value::Object(members)
        }
        Value::List(items) => Value::List(items.into_iter().map(|item| clean(item, problems)).collect()),
        value => value,
    };
    Node { value, origin: node.origin }
}

/// The prefix of a key and its name.
fn split(key: &str) -> (Option<char>, &str) {
    match key.strip_prefix(['+', '-', '=', '?']) {
        Some(name) if !name.is_empty() => (key.chars().next(), name),
        _ => (None, key),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{json5, origin::Source};
    use super::*;

    fn node(text: &str) -> Node {
        json5::parse(text, &Source::Default).unwrap()
    }

    #[test]
    fn every_prefix_does_what_the_table_says() {
        let rows = [
            ("{a: 1}", "{b: 2}", "{a: 1, b: 2}"),
            ("{a: 1}", "{a: 2}", "{a: 2}"),
            ("{a: {b: 1, c: 2}}", "{a: {c: 3}}", "{a: {b: 1, c: 3}}"),
            ("{a: [1, 2]}", "{a: [3]}", "{a: [3]}"),
            ("{a: {b: 1}}", "{a: 5}", "{a: 5}"),
            ("{a: 5}", "{a: {'+b': [1], _c: 2}}", "{a: {b: [1]}}"),
            ("{a: [1, 2]}", "{'+a': [3]}", "{a: [1, 2, 3]}"),
            ("{a: [1, 2]}", "{'+a': 3}", "{a: [1, 2, 3]}"),
            ("{a: {b: 1}}", "{'+a': {c: 2}}", "{a: {b: 1, c: 2}}"),
            ("{}", "{'+a': [3]}", "{a: [3]}"),
            ("{a: [1, 'x', {b: 1}]}", "{'-a': ['x', {b: 1}, 7]}", "{a: [1]}"),
            ("{a: [1, 2]}", "{'-a': 2}", "{a: [1]}"),
            ("{a: {b: 1, c: 2, d: 3}}", "{'-a': ['b', 'c']}", "{a: {d: 3}}"),
            ("{a: {b: 1, c: 2}}", "{'-a': {b: null}}", "{a: {c: 2}}"),
            ("{a: 'x', b: 'y'}", "{'-a': 'x', '-b': 'x'}", "{b: 'y'}"),
            ("{a: {b: 1}}", "{'-a': null}", "{}"),
            ("{}", "{'-a': null}", "{}"),
            ("{a: {b: 1}}", "{'=a': {c: 2}}", "{a: {c: 2}}"),
            ("{}", "{'=a': 1}", "{a: 1}"),
            ("{a: 1}", "{'?a': 2, '?b': 3}", "{a: 1, b: 3}"),
            ("{a: 1}", "{a: null}", "{a: null}"),
            ("{a: 1}", "{_a: 2, '+_a': 3}", "{a: 1}"),
            ("{}", "{a: 1, '+a': 2, '=a': 3}", "{a: 3}"),
        ];
        for (base, over, expected) in rows {
            let mut problems = Problems::default();
            let mut blended = node(base);
            blend(&mut blended, node(over), &mut problems);
            assert!(blended.same(&node(expected)), "{base} with {over} is {}", blended.to_json());
            assert!(problems.is_empty() || over == "{a: 1, '+a': 2, '=a': 3}", "{base} with {over}: {problems}");
        }
    }

    #[test]
    fn appending_to_a_single_value_is_a_problem() {
        let mut problems = Problems::default();
        blend(&mut node("{a: 'x'}"), node("{'+a': 'y'}"), &mut problems);
        assert_eq!(problems.to_string(), "+a: `+` appends to a list or an object, and the value so far is neither\n");
    }

    #[test]
    fn a_conditional_block_is_laid_on_its_own_file_and_goes() {
        let text = "{model: 'b', x: 1, conditional: {profile: {dev: {x: 2, y: 2}}, model: {a: {z: 1}, b: {z: 2}}, other: {q: {}}}}";
        let mut problems = Problems::default();
        let mut root = node("{}");
        blend_file(&mut root, node(text), None, "dev", &mut problems);
        assert!(root.same(&node("{model: 'b', x: 2, y: 2, z: 2}")), "{}", root.to_json());
        blend_file(
            &mut root,
            node("{conditional: {profile: {prod: {x: 5}, dev: {w: 5}}}}"),
            Some("web"),
            "prod",
            &mut problems,
        );
        assert!(root.get("web").unwrap().same(&node("{x: 5}")), "{}", root.to_json());
        assert!(problems.is_empty());
    }
}
