//! Hints: what the cloud says on `sync/THING/dirty` when somebody changed something. They may be lost, repeated and out of order,
//! and there is a page of the cloud behind each, so a hint only says when to ask, and whether all of a model.

use serde_json::Value;

use crate::net;

/// Longest hint that is read, in bytes; the cloud's have 50 names of models at most.
const LONGEST: usize = 128 * 1024;
/// Longest time.
const LONGEST_TIME: usize = 64;
/// Models that a hint names at most: one with so many may stand for more.
const MODELS: usize = 50;

/// A hint that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The latest time of the changes; nothing where only items were deleted.
    pub latest: Option<String>,
    /// Whose items were deleted without a tombstone.
    pub removed: Removed,
}

/// The models of which items were deleted for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// These.
    Models(Vec<String>),
    /// Perhaps every one.
    All,
}

impl Hint {
    /// Reads the message of a hint. An error says what is wrong with it, in words.
    pub fn parse(payload: &[u8]) -> Result<Self, String> {
        if payload.len() > LONGEST {
            return Err(format!("it has {} bytes", payload.len()));
        }
        let hint: Value = serde_json::from_slice(payload).map_err(|error| format!("it is not JSON: {error}"))?;
        if hint["v"] != 1 {
            return Err("it is not an object with v: 1".to_owned());
        }
        let models = hint["models"].as_array().ok_or("models is not a list")?;
        let models: Option<Vec<String>> = models.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        let models = models.ok_or("models is not a list of names")?;
        let latest = match hint["ts"].as_str().ok_or("ts is not a text")? {
            "" => None,
            time if time.len() <= LONGEST_TIME && net::parse_iso8601(time).is_some() => Some(time.to_owned()),
            _ => return Err("ts is not a time".to_owned()),
        };
        let removed = match &hint["removed"] {
            Value::Null | Value::Bool(false) => Removed::Models(Vec::new()),
            Value::Bool(true) if models.len() >= MODELS => Removed::All,
            Value::Bool(true) => Removed::Models(models),
            _ => return Err("removed is not true or false".to_owned()),
        };
        Ok(Self { latest, removed })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(hint: &Value) -> Result<Hint, String> {
        Hint::parse(hint.to_string().as_bytes())
    }

    #[test]
    fn a_hint_says_until_when_and_whether_items_were_deleted() {
        let time = "2026-11-23T06:29:51.123456Z";
        let hint = parse(&json!({"v": 1, "models": ["A"], "ts": time, "removed": false, "new": [1]})).unwrap();
        assert_eq!(hint, Hint { latest: Some(time.into()), removed: Removed::Models(vec![]) });
        let hint = parse(&json!({"v": 1, "models": ["A", "B"], "ts": "", "removed": true})).unwrap();
        assert_eq!(hint, Hint { latest: None, removed: Removed::Models(vec!["A".into(), "B".into()]) });
        let many: Vec<_> = (0..50).map(|n| format!("M{n}")).collect();
        let hint = parse(&json!({"v": 1, "models": many, "ts": "", "removed": true})).unwrap();
        assert_eq!(hint.removed, Removed::All, "the cloud names no more than so many");
    }

    #[test]
    fn what_is_no_hint_is_told_from_one() {
        let good = json!({"v": 1, "models": ["A"], "ts": "2026-11-23T06:29:51.123Z", "removed": true});
        assert!(parse(&good).is_ok());
        let spoiled = [
            ("v", json!(2)),
            ("models", json!("A")),
            ("models", json!([1])),
            ("ts", json!(1)),
            ("ts", json!("soon")),
            ("ts", json!(format!("2026-11-23T06:29:51.{}Z", "1".repeat(100)))),
            ("removed", json!("yes")),
        ];
        for (name, value) in spoiled {
            let mut hint = good.clone();
            hint[name] = value;
            assert!(parse(&hint).is_err(), "{hint}");
        }
        for payload in [&b""[..], b"[]", b"null", b"{\"v\": 1", b"\xff", b"1", &[b'['; 200_000]] {
            assert!(Hint::parse(payload).is_err(), "{payload:.20?}");
        }
    }
}
