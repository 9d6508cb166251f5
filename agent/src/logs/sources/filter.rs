//! Which records are passed on.

use std::collections::VecDeque;

use super::super::Record;
use super::OWN;
use crate::config::LogFilter;

/// What lines of the agent about the forwarding itself begin with: those of the room `logs`.
const OWN_ROOM: &str = "logs: ";
/// Own lines that are passed on in [`OWN_TIME`] at most.
const OWN_MOST: usize = 600;
/// Microseconds.
const OWN_TIME: i64 = 60_000_000;

/// Decides about each record, before it is spooled.
///
/// The agent's own lines are in the logs that it reads. Passing them on must not make more of them, so those of the room
/// `logs`, which are about the forwarding, never go on: what the far side has to know of it is in records of the sources. The
/// other rooms do not write because a record is forwarded; should one begin to, the bound on own lines by the time of the
/// records holds, and a circle can not grow.
pub(super) struct Filter {
    settings: LogFilter,
    /// When own lines were passed on.
    own: VecDeque<i64>,
    /// Own lines beyond the bound, not yet told of.
    left_out: u64,
}

impl Filter {
    pub fn new(settings: &LogFilter) -> Self {
        Self { settings: settings.clone(), own: VecDeque::new(), left_out: 0 }
    }

    /// Whether the record goes on.
    pub fn passes(&mut self, record: &Record) -> bool {
        let s = &self.settings;
        if record.severity > s.severity {
            return false;
        }
        let named = |patterns: &[String], name: &str| patterns.iter().any(|pattern| matches(pattern, name));
        let has = |texts: &[String]| texts.iter().any(|text| record.text.contains(text.as_str()));
        let unit = record.unit.as_deref().unwrap_or_default();
        let wanted = (s.units.is_empty() || named(&s.units, unit))
            && (s.identifiers.is_empty() || named(&s.identifiers, &record.identifier))
            && (s.contains.is_empty() || has(&s.contains));
        let excluded = (record.unit.is_some() && named(&s.exclude_units, unit))
            || named(&s.exclude_identifiers, &record.identifier)
            || has(&s.exclude_contains);
        wanted && !excluded && (record.identifier != OWN || self.passes_own(record))
    }

    fn passes_own(&mut self, record: &Record) -> bool {
        if !self.settings.own || record.text.starts_with(OWN_ROOM) {
            return false;
        }
        // A clock that was set back must not close the way for ever.
        while self.own.front().is_some_and(|at| record.at.saturating_sub(*at).saturating_abs() > OWN_TIME) {
            self.own.pop_front();
        }
        if self.own.len() >= OWN_MOST {
            self.left_out += 1;
            if self.left_out.is_power_of_two() {
                log::warn!("{} lines of the agent itself were not forwarded: they come too fast", self.left_out);
            }
            return false;
        }
        self.own.push_back(record.at);
        true
    }
}

/// Whether `name` is as `pattern`, in which `*` stands for any text and `?` for a character.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    // Where the last `*` was: what follows it may begin later in the name, which is all the going back that there is.
    let mut star: Option<(&str, &str)> = None;
    let (mut pattern, mut name) = (pattern, name);
    loop {
        let mut rest = name.chars();
        match (pattern.chars().next(), rest.next()) {
            (Some('*'), _) => {
                pattern = &pattern[1..];
                star = Some((pattern, name));
                continue;
            }
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                pattern = &pattern[wanted.len_utf8()..];
                name = rest.as_str();
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = star else { return false };
        let mut rest = from.chars();
        if rest.next().is_none() {
            return false;
        }
        (pattern, name) = (after, rest.as_str());
        star = Some((after, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(identifier: &str, unit: Option<&str>, severity: u8, text: &str) -> Record {
        Record {
            identifier: identifier.into(),
            unit: unit.map(str::to_owned),
            severity,
            text: text.into(),
            ..Record::default()
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "x"),
            ("a*c", "abbc"),
            ("a*c", "ac"),
            ("?", "ä"),
            ("*.log", "a.log.log"),
            ("a*b*c", "aXbYbZc"),
            ("", ""),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "x"), ("?", ""), ("a*c", "acb"), ("a", "ab"), ("*.log", "a.logs"), ("a*b", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        // Never more than the product of the lengths.
        assert!(!matches(&"*a".repeat(50), &"a".repeat(49)));
        assert!(!matches(&("*a".repeat(100) + "b"), &"a".repeat(5000)));
    }

    #[test]
    fn each_rule_alone_decides() {
        let mut f = LogFilter { severity: 4, ..LogFilter::default() };
        assert!(Filter::new(&f).passes(&record("a", None, 4, "")));
        assert!(!Filter::new(&f).passes(&record("a", None, 5, "")));
        f = LogFilter { units: vec!["ssh*".into()], ..LogFilter::default() };
        assert!(Filter::new(&f).passes(&record("a", Some("ssh.service"), 4, "")));
        assert!(!Filter::new(&f).passes(&record("a", None, 4, "")));
        f = LogFilter { exclude_units: vec!["*".into()], ..LogFilter::default() };
        assert!(Filter::new(&f).passes(&record("a", None, 4, "")));
        assert!(!Filter::new(&f).passes(&record("a", Some("b"), 4, "")));
        f = LogFilter {
            contains: vec!["x".into(), "y".into()],
            exclude_contains: vec!["z".into()],
            ..LogFilter::default()
        };
        assert!(Filter::new(&f).passes(&record("a", None, 4, "-y-")));
        assert!(!Filter::new(&f).passes(&record("a", None, 4, "-yz-")));
        f = LogFilter { identifiers: vec!["a".into()], exclude_identifiers: vec!["a?".into()], ..LogFilter::default() };
        assert!(Filter::new(&f).passes(&record("a", None, 4, "")));
        assert!(!Filter::new(&f).passes(&record("ab", None, 4, "")));
    }

    #[test]
    fn a_circle_of_own_lines_can_not_grow() {
        let mut filter = Filter::new(&LogFilter::default());
        assert!(!filter.passes(&record(OWN, None, 4, "logs: the server at 10.0.0.1 does not answer")));
        assert!(filter.passes(&record(OWN, None, 4, "web: listening")));
        assert!(filter.passes(&record("other", None, 4, "logs: mine")));
        // One line each time one is passed on, for an hour at 100 lines a second.
        let mut own = |second: i64| Record { at: second * 10_000, ..record(OWN, None, 7, "net: sent a record") };
        let passed = (0..360_000).filter(|number| filter.passes(&own(*number))).count();
        assert!(passed <= OWN_MOST * 61, "{passed}");
        assert!(passed >= OWN_MOST * 59, "{passed}");
    }
}
