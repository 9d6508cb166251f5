//! The effective configuration, to be shown: every key with its value and where it comes from.

use std::fmt::Write;

use serde_json::{Map, Value as Json};

use super::json5::is_plain_key;
use super::origin::{Origin, Source};

/// A key, its value and its origin. Secrets are masked.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The keys from the root to the value.
    pub path: Vec<String>,
    /// The value, in the form in which a file can say it.
    pub value: Json,
    /// Where it comes from.
    pub origin: Origin,
}

/// Every key of the configuration, in the order in which sections list them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effective(Vec<Entry>);

/// An object of the configuration, or a value.
enum Tree<'a> {
    Branch(Vec<(&'a str, Tree<'a>)>),
    Leaf(&'a Entry),
}

impl Effective {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    /// The entries.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// As JSON; with `origins` each value is `{value, origin}`.
    pub fn to_json(&self, origins: bool) -> Json {
        self.tree().to_json(origins)
    }

    /// As JSON5; with `origins` each value has a comment.
    pub fn to_json5(&self, origins: bool) -> String {
        let mut text = String::new();
        self.tree().write_json5(&mut text, 0, origins);
        text.push('\n');
        text
    }

    fn tree(&self) -> Tree<'_> {
        let mut root = Tree::Branch(Vec::new());
        self.0.iter().for_each(|entry| root.insert(&entry.path, entry));
        root
    }
}

impl<'a> Tree<'a> {
    fn insert(&mut self, path: &'a [String], entry: &'a Entry) {
        let (Tree::Branch(children), Some((key, rest))) = (self, path.split_first()) else { return };
        let position = children.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
            children.push((key, if rest.is_empty() { Tree::Leaf(entry) } else { Tree::Branch(Vec::new()) }));
            children.len() - 1
        });
        children[position].1.insert(rest, entry);
    }

    fn to_json(&self, origins: bool) -> Json {
        match self {
            Tree::Branch(children) => {
                Json::Object(children.iter().map(|(key, child)| ((*key).to_owned(), child.to_json(origins))).collect())
            }
            Tree::Leaf(entry) if origins => {
                let members =
                    [("value".into(), entry.value.clone()), ("origin".into(), entry.origin.to_string().into())];
                Json::Object(Map::from_iter(members))
            }
            Tree::Leaf(entry) => entry.value.clone(),
        }
    }

    fn write_json5(&self, text: &mut String, depth: usize, origins: bool) {
        let Tree::Branch(children) = self else { return };
        text.push_str("{\n");
        for (key, child) in children {
            let _ = write!(text, "{:indent$}{}: ", "", show_key(key), indent = 2 * depth + 2);
            match child {
                Tree::Branch(_) => {
                    child.write_json5(text, depth + 1, origins);
                    text.push_str(",\n");
                }
                Tree::Leaf(entry) => {
                    let _ = write!(text, "{},", show(&entry.value));
                    if origins {
                        let _ = write!(text, " // {}", show_origin(&entry.origin));
                    }
                    text.push('\n');
                }
            }
        }
        let _ = write!(text, "{:indent$}}}", "", indent = 2 * depth);
    }
}

fn show_origin(origin: &Origin) -> String {
    match origin.source {
        Source::Environment(_) => format!("environment {origin}"),
        Source::CommandLine(_) => format!("command line {origin}"),
        _ => origin.to_string(),
    }
}

fn show_key(key: &str) -> String {
    if is_plain_key(key) { key.to_owned() } else { show_text(key) }
}

/// A value on one line.
fn show(value: &Json) -> String {
    match value {
        Json::String(text) => show_text(text),
        Json::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Json::Object(members) => {
            let members: Vec<_> =
                members.iter().map(|(key, value)| format!("{}: {}", show_key(key), show(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        plain => plain.to_string(),
    }
}

/// A text in single quotes. JSON's escapes are JSON5's, so its own writer does all but the quotes.
fn show_text(text: &str) -> String {
    let escaped = Json::from(text).to_string();
    let inner = escaped.get(1..escaped.len() - 1).unwrap_or_default();
    format!("'{}'", inner.replace("\\\"", "\"").replace('\'', "\\'"))
}
