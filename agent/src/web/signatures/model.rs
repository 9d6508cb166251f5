//! What a file of signatures means.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

/// Blocks inside each other, at most.
pub(super) const MAX_DEPTH: usize = 16;
/// Bytes of the name `controller.method`, at most.
pub(super) const MAX_NAME: usize = 160;

/// All signatures of a file.
#[derive(Debug, Default)]
pub(in crate::web) struct Signatures {
    /// By their name, `controller.method`.
    pub(super) methods: HashMap<String, Signature>,
    /// What no signature names is refused.
    pub strict: bool,
}

/// One method of the API. A block that is `None` is not said.
#[derive(Debug, Default)]
pub(super) struct Signature {
    /// The name.
    pub name: String,
    /// The role or ability that the user must have; empty: it is open to all.
    pub role: String,
    /// The body of the request.
    pub request: Option<Block>,
    /// Its query variables.
    pub query: Option<Block>,
    /// The JSON of the answer.
    pub response: Option<Block>,
}

/// What a value must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    pub kind: Kind,
    pub required: bool,
    /// Taken where there is no value.
    pub default: Option<Value>,
    /// Of a request: the value is left out before it is looked at.
    pub drop_request: Drop,
    /// Of a response.
    pub drop_response: Drop,
    /// Who may say or see it; empty: everybody.
    pub role: String,
    /// The fields of an object.
    pub fields: BTreeMap<String, Block>,
    /// What is said about all other fields.
    pub others: Others,
    /// What the items of an array must be.
    pub of: Option<Box<Block>>,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Any,
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
    /// A text of RFC 3339 or a day, or whole milliseconds since 1970.
    Date,
}

/// Whether a value is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Drop {
    #[default]
    Never,
    Always,
    /// Unless the user has this role or ability.
    Unless(String),
}

/// The fields of an object that have no block.
#[derive(Clone, Debug, Default)]
pub(super) enum Others {
    /// They pass, but not in strict signatures.
    #[default]
    Unknown,
    /// They pass.
    Pass,
    /// Each must be this.
    Like(Box<Block>),
}

pub(super) const KINDS: [(&str, Kind); 8] = [
    ("any", Kind::Any),
    ("object", Kind::Object),
    ("array", Kind::Array),
    ("string", Kind::String),
    ("number", Kind::Number),
    ("boolean", Kind::Boolean),
    ("null", Kind::Null),
    ("date", Kind::Date),
];

impl Kind {
    /// As an error says it.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::Any => "a value",
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::Boolean => "true or false",
            Kind::Null => "null",
            Kind::Date => "a date as '2026-11-22T16:06:55Z'",
        }
    }

    /// Whether a value is of this type, as far as that shows without its parts.
    pub fn fits(self, value: &Value) -> bool {
        match self {
            Kind::Any => true,
            Kind::Object => value.is_object(),
            Kind::Array => value.is_array(),
            Kind::String => value.is_string(),
            Kind::Number => value.is_number(),
            Kind::Boolean => value.is_boolean(),
            Kind::Null => value.is_null(),
            Kind::Date => match value {
                Value::String(text) => is_date(text),
                value => value.is_i64(),
            },
        }
    }
}

fn is_date(text: &str) -> bool {
    // A day begins at midnight UTC.
    match text.len() {
        10 => crate::net::parse_iso8601(&format!("{text}T00:00:00Z")).is_some(),
        length => length <= 64 && crate::net::parse_iso8601(text).is_some(),
    }
}

impl Signatures {
    /// The signature of the longest beginning of a path, `user/get/7`, that has one: what follows it are parameters, and no
    /// way around the signature.
    pub(super) fn find(&self, path: &str) -> Option<&Signature> {
        let mut key = String::new();
        let mut found = None;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            // `a.b` is not `a/b`.
            if segment.contains('.') || key.len() + segment.len() >= MAX_NAME {
                break;
            }
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(segment);
            found = self.methods.get(&key).or(found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_of_a_path_that_has_a_signature_counts() {
        let methods = ["user.get", "user.get.all"].map(|name| {
            let signature = Signature { name: name.to_owned(), ..Signature::default() };
            (name.to_owned(), signature)
        });
        let signatures = Signatures { methods: methods.into(), strict: false };
        for (path, name) in [
            ("user/get", Some("user.get")),
            ("user/get/", Some("user.get")),
            ("//user//get//7", Some("user.get")),
            ("user/get/all", Some("user.get.all")),
            ("user/get/all/7/x.y", Some("user.get.all")),
            ("user/get/x.y", Some("user.get")),
            ("user.get", None),
            ("user", None),
            ("User/get", None),
            ("", None),
        ] {
            assert_eq!(signatures.find(path).map(|found| found.name.as_str()), name, "{path}");
        }
        assert!(signatures.find(&"x/".repeat(10_000)).is_none());
    }

    #[test]
    fn dates_are_texts_or_whole_numbers() {
        for (value, is_date) in [
            (Value::from("2026-11-22"), true),
            (Value::from("2026-11-22T16:06:55.5+01:00"), true),
            (Value::from("2026-02-30"), false),
            (Value::from("soon"), false),
            (Value::from(""), false),
            (Value::from("\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}"), false),
            (Value::from(1_700_000_000_000_i64), true),
            (Value::from(1.5), false),
            (Value::Null, false),
        ] {
            assert_eq!(Kind::Date.fits(&value), is_date, "{value}");
        }
    }
}
