//! Topic names and topic filters: what is well formed, and which filter takes which topic. MQTT 3.1.1, section 4.7.

/// Bytes of a topic or filter at most: its length travels in two bytes [MQTT-4.7.3-3].
pub const MAX_LENGTH: usize = 65_535;

/// What precedes the real filter of a shared subscription: `$share/GROUP/FILTER`. Not part of MQTT 3.1.1, but mosquitto
/// and AWS IoT take it there too, and send messages with the plain topic.
const SHARED: &str = "$share/";

/// Whether a message may carry this topic: 1 to 65,535 bytes, no wildcard, no NUL [MQTT-4.7.1-1, 4.7.3-1, 4.7.3-2].
pub fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= MAX_LENGTH && !topic.bytes().any(|byte| matches!(byte, b'+' | b'#' | 0))
}

/// Whether one can subscribe to this filter: as a topic, but a level may be `+`, and the last one `#`
/// [MQTT-4.7.1-2, 4.7.1-3].
pub fn is_filter(filter: &str) -> bool {
    if filter.is_empty() || filter.len() > MAX_LENGTH || filter.contains('\0') {
        return false;
    }
    if filter.starts_with(SHARED) && shared_part(filter).is_empty() {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        let well_formed = match level {
            "+" => true,
            "#" => is_last,
            name => !name.contains(['+', '#']),
        };
        if !well_formed {
            return false;
        }
    }
    true
}

/// Whether the filter takes the topic. `#` takes its parent level too; a wildcard at the front takes no topic that
/// begins with `$` [MQTT-4.7.2-1]. Both are expected to be well formed.
pub fn matches(filter: &str, topic: &str) -> bool {
    let filter = shared_part(filter);
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The filter that topics are compared with: what follows the group of a shared subscription, or all of it.
fn shared_part(filter: &str) -> &str {
    match filter.strip_prefix(SHARED) {
        Some(rest) => rest.split_once('/').map_or("", |(_, filter)| filter),
        None => filter,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn topics_without_wildcards_are_accepted() {
        for topic in ["a", "/", "a/b", "/a", "a/", "a//b", "$SYS/x", "Ä/ö 1", " "] {
            assert!(is_topic(topic), "{topic:?}");
        }
        assert!(is_topic(&"x".repeat(MAX_LENGTH)));
    }

    #[test]
    fn topics_with_wildcards_nul_or_no_or_too_many_bytes_are_refused() {
        for topic in ["", "a/+", "#", "a+b", "a\0b"] {
            assert!(!is_topic(topic), "{topic:?}");
        }
        assert!(!is_topic(&"x".repeat(MAX_LENGTH + 1)));
    }

    #[test]
    fn a_wildcard_fills_a_whole_level_and_the_hash_is_the_last() {
        for filter in ["#", "+", "a/#", "+/a/+", "/+", "+//#", "a", "$SYS/#", "$share/group/a/+"] {
            assert!(is_filter(filter), "{filter:?}");
        }
        for filter in ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a/b#", "a/++", "a\0", "$share/group", "$share/group/"] {
            assert!(!is_filter(filter), "{filter:?}");
        }
    }

    #[test]
    fn the_examples_of_the_standard_match_as_it_says() {
        // Section 4.7.1.2, 4.7.1.3 and 4.7.2.
        let table = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "anything/at/all", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/monitor/Clients", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/monitor/Clients", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("A", "a", false),
            ("a//c", "a/b/c", false),
            ("a/+/c", "a//c", true),
            ("$share/group/a/+", "a/b", true),
            ("$share/group/#", "$SYS/x", false),
        ];
        for (filter, topic, expected) in table {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    /// The same rules said once more, by recursion over the levels.
    fn oracle(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => oracle(filter, topic),
            ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && oracle(filter, topic),
            _ => false,
        }
    }

    #[test]
    fn random_filters_match_like_the_recursive_rule() {
        let seed = crate::mqtt::test_seed();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut taken = 0;
        for _ in 0..20_000 {
            let mut level = |names: &[&'static str]| names[random.usize(..names.len())];
            let topic: Vec<_> = (0..3).map(|_| level(&["a", "b", ""])).collect();
            let mut filter: Vec<_> = (0..3).map(|_| level(&["a", "b", "", "+"])).collect();
            filter.truncate(1 + random.usize(..3));
            if random.bool() {
                filter.push("#");
            }
            let expected = oracle(&filter, &topic);
            taken += usize::from(expected);
            assert_eq!(matches(&filter.join("/"), &topic.join("/")), expected, "{filter:?} {topic:?} SEED={seed}");
        }
        assert!((1000..19_000).contains(&taken), "the test is not one-sided: {taken} of 20000");
    }
}
