//! Reading the blended tree into typed sections.
//!
//! A [`Section`] is an object of the tree; each of its methods reads one key. Nothing stops at an error: a wrong value is
//! noted as a problem and the default is returned in its place. The [`Reader`] behind it remembers every key that was read
//! (what no one reads is an unknown key), with its effective value and where it comes from.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use super::effective::Entry;
use super::node::{Node, Value, quote};
use super::origin::Origin;
use super::problem::Problems;
use super::{Secret, units};

/// What a key that is read holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Keys of its own.
    Section,
    /// A value; an object in it has free keys.
    Value,
}

/// What was read so far.
pub(super) struct Reader {
    current: PathBuf,
    tokens: RefCell<BTreeMap<&'static str, PathBuf>>,
    keys: RefCell<BTreeMap<String, Kind>>,
    entries: RefCell<Vec<Entry>>,
    problems: RefCell<Problems>,
    idle: RefCell<Vec<String>>,
    notes: RefCell<Vec<String>>,
}

impl Reader {
    /// A reader for which paths of the environment and the command line are relative to `current`.
    pub(super) fn new(current: &Path) -> Self {
        Self {
            current: current.to_owned(),
            tokens: RefCell::default(),
            keys: RefCell::default(),
            entries: RefCell::default(),
            problems: RefCell::default(),
            idle: RefCell::default(),
            notes: RefCell::default(),
        }
    }

    /// The root of `tree` as a section.
    pub(super) fn root<'a>(&'a self, tree: &'a Node) -> Section<'a> {
        Section { reader: self, node: Some(tree), path: Vec::new(), pattern: String::new(), listed: false }
    }

    /// From now on `@token` stands for `directory`.
    pub(super) fn set_token(&self, token: &'static str, directory: &Path) {
        self.tokens.borrow_mut().insert(token, directory.to_owned());
    }

    /// The absolute path that `text` means where `origin` says it.
    pub(super) fn resolve(&self, text: &str, origin: &Origin) -> Result<PathBuf, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("expected a path, found {}", quote(text)));
        }
        let base = origin.directory().unwrap_or_else(|| self.current.clone());
        let Some(rest) = text.strip_prefix('@') else { return Ok(base.join(text).components().collect()) };
        let (token, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let tokens = self.tokens.borrow();
        match tokens.get(token) {
            Some(directory) => Ok(directory.join(rest.trim_start_matches('/')).components().collect()),
            None if tokens.is_empty() => Err(format!("expected a path without a token, found {}", quote(text))),
            None => {
                let known: Vec<_> = tokens.keys().map(|token| format!("@{token}")).collect();
                Err(format!("{} begins with an unknown token, expected one of {}", quote(text), known.join(" ")))
            }
        }
    }

    /// The keys that were read, by dotted path; the keys of list items are below `KEY[]`.
    pub(super) fn keys(&self) -> BTreeMap<String, Kind> {
        self.keys.borrow().clone()
    }

    /// What was noted so far.
    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.take()
    }

    /// Every value that was read, all that was wrong, and the values without effect.
    pub(super) fn finish(self) -> (Vec<Entry>, Problems, Vec<String>) {
        (self.entries.into_inner(), self.problems.into_inner(), self.idle.into_inner())
    }
}

/// One object of the configuration, or its absence.
#[derive(Clone)]
pub(super) struct Section<'a> {
    reader: &'a Reader,
    node: Option<&'a Node>,
    path: Vec<String>,
    pattern: String,
    listed: bool,
}

impl<'a> Section<'a> {
    /// The section `key` of this one.
    pub(super) fn section(&self, key: &str) -> Section<'a> {
        let pattern = self.know(key, Kind::Section);
        let node = self.get(key);
        if let Some(node) = node.filter(|node| !matches!(node.value, Value::Object(_))) {
            self.problem(key, format!("expected an object, found {}", node.describe()));
        }
        Section { reader: self.reader, node, path: self.path_of(key), pattern, listed: self.listed }
    }

    /// Whether `key` is said anywhere.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Notes what is wrong with `key`, at its place.
    pub(super) fn problem(&self, key: &str, text: impl Into<String>) {
        let origin = self.get(key).map(|node| node.origin.clone()).unwrap_or_default();
        self.reader.problems.borrow_mut().add(origin, self.path_of(key).join("."), text);
    }

    /// Notes what the owner should know about `key` although it is no error.
    pub(super) fn note(&self, key: &str, text: &str) {
        let place = self.get(key).map(|node| format!("{}: ", node.origin)).unwrap_or_default();
        self.reader.notes.borrow_mut().push(format!("{place}{}: {text}", self.path_of(key).join(".")));
    }

    /// Notes that the value of `key` was understood and has no effect.
    pub(super) fn no_effect(&self, key: &str) {
        if let Some(node) = self.get(key) {
            self.reader.idle.borrow_mut().push(format!("{} ({})", self.path_of(key).join("."), node.origin));
        }
    }

    /// Notes that an item of a list was understood and has no effect; this is the section of the item, `node` the item.
    pub(super) fn left_out(&self, node: &Node, why: &str) {
        let text = format!("{} {} {why} ({})", self.path.join("."), node.describe(), node.origin);
        self.reader.idle.borrow_mut().push(text);
    }

    /// The absolute path that `text` means, said by `node`.
    pub(super) fn resolve(&self, text: &str, node: &Node) -> Result<PathBuf, String> {
        self.reader.resolve(text, &node.origin)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        self.value(
            key,
            default,
            |flag| Json::from(*flag),
            |node| match &node.value {
                Value::Flag(flag) => Ok(*flag),
                Value::Text(text) if !node.origin.is_file() => {
                    text.parse().map_err(|_| format!("expected true or false, found {}", quote(text)))
                }
                _ => Err(format!("expected true or false, found {}", node.describe())),
            },
        )
    }

    /// A text.
    pub(super) fn text(&self, key: &str, default: &str) -> String {
        self.value(key, default.to_owned(), |text| Json::from(text.as_str()), text)
    }

    /// A text that need not be there; an empty one is as if it were not.
    pub(super) fn optional_text(&self, key: &str) -> Option<String> {
        self.value(
            key,
            None,
            |text: &Option<String>| Json::from(text.clone()),
            |node| Ok(Some(text(node)?).filter(|text| !text.is_empty())),
        )
    }

    /// A password, key or token: never shown.
    pub(super) fn secret(&self, key: &str) -> Secret {
        let show = |secret: &Secret| Json::from(if secret.is_empty() { "" } else { "***" });
        self.value(key, Secret::default(), show, |node| match &node.value {
            Value::Text(text) => Ok(Secret::new(text.as_str())),
            _ => Err("expected a text".into()),
        })
    }

    /// A whole number; `unlimited` where the range ends at [`units::UNLIMITED`].
    pub(super) fn count<T: Copy + TryFrom<u64> + TryInto<u64>>(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        default: T,
    ) -> T {
        self.whole(key, range, default, |count| match count == units::UNLIMITED {
            true => Json::from("unlimited"),
            false => Json::from(count),
        })
    }

    /// A number of bytes; `unlimited` where the range ends at [`units::UNLIMITED`].
    pub(super) fn size<T: Copy + TryFrom<u64> + TryInto<u64>>(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        default: T,
    ) -> T {
        self.whole(key, range, default, |bytes| Json::from(units::show_size(bytes)))
    }

    /// A time; `never` where the range ends at [`units::FOREVER`].
    pub(super) fn duration(&self, key: &str, range: RangeInclusive<Duration>, default: Duration) -> Duration {
        let show = |duration: &Duration| Json::from(units::show_duration(*duration));
        self.value(key, default, show, |node| {
            let duration = match &node.value {
                Value::Number(seconds) => units::seconds_of(*seconds),
                Value::Text(text) => units::duration(text),
                _ => None,
            };
            let from = units::show_duration(*range.start());
            let to = units::show_duration(*range.end());
            match duration {
                Some(duration) if range.contains(&duration) => Ok(duration),
                Some(_) => Err(format!("{} is out of range, expected {from} to {to}", node.describe())),
                None => Err(format!("expected a time as '10 mins', '500 ms' or 'never', found {}", node.describe())),
            }
        })
    }

    /// A path, made absolute.
    pub(super) fn path(&self, key: &str, default: &Path) -> PathBuf {
        let show = |path: &PathBuf| Json::from(path.to_string_lossy());
        self.value(key, default.to_owned(), show, |node| self.resolve(&text(node)?, node))
    }

    /// A file that need not be named; but when it is, it must be there and readable.
    pub(super) fn file(&self, key: &str) -> Option<PathBuf> {
        let show = |path: &Option<PathBuf>| path.as_ref().map_or(Json::Null, |path| Json::from(path.to_string_lossy()));
        self.value(key, None, show, |node| {
            let path = self.resolve(&text(node)?, node)?;
            match File::open(&path).and_then(|mut file| file.read(&mut [0])) {
                Ok(_) => Ok(Some(path)),
                Err(error) => Err(format!("the file `{}` cannot be read: {error}", path.display())),
            }
        })
    }

    /// One of several names.
    pub(super) fn choice<T: Copy + PartialEq>(&self, key: &str, names: &[(&str, T)], default: T) -> T {
        let show =
            |value: &T| names.iter().find(|(_, named)| named == value).map_or(Json::Null, |(name, _)| (*name).into());
        self.value(key, default, show, |node| choose(node, names))
    }

    /// A list, each item read by `parse`; from the environment also a single item.
    pub(super) fn list<T>(
        &self,
        key: &str,
        default: Vec<T>,
        show: impl Fn(&T) -> Json,
        parse: impl Fn(&Node, Section<'a>) -> Result<T, String>,
    ) -> Vec<T> {
        self.know(&format!("{key}[]"), Kind::Section);
        let show = |items: &Vec<T>| items.iter().map(&show).collect::<Json>();
        let Some(node) = self.get(key) else { return self.value(key, default, show, |_| Err(String::new())) };
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Text(_) if !node.origin.is_file() => std::slice::from_ref(node),
            _ => {
                return self
                    .value(key, default, show, |node| Err(format!("expected a list, found {}", node.describe())));
            }
        };
        let read = items.iter().enumerate().filter_map(|(index, item)| {
            let name = format!("{key}[{index}]");
            let pattern = join(&self.pattern, &format!("{key}[]"));
            let path = self.path_of(&name);
            let section = Section { reader: self.reader, node: Some(item), path, pattern, listed: true };
            parse(item, section)
                .map_err(|text| {
                    let key = self.path_of(&name).join(".");
                    self.reader.problems.borrow_mut().add(item.origin.clone(), key, text);
                })
                .ok()
        });
        let read: Vec<T> = read.collect();
        self.value(key, Vec::new(), show, |_| Ok(read))
    }

    /// As [`Section::list`], of texts; one text stands for the list of what its commas separate.
    pub(super) fn texts(&self, key: &str, parse: fn(&str) -> Result<String, String>) -> Vec<String> {
        let show = |item: &String| Json::from(item.as_str());
        match self.get(key).map(|node| &node.value) {
            Some(Value::Text(all)) => {
                let show = |items: &Vec<String>| items.iter().map(show).collect::<Json>();
                let items = all.split(',').map(str::trim).filter(|item| !item.is_empty());
                self.value(key, Vec::new(), show, |_| items.map(parse).collect())
            }
            _ => self.list(key, Vec::new(), show, |node, _| parse(&text(node)?)),
        }
    }

    /// An object with free keys, each value read by `parse` together with its key.
    pub(super) fn map<T>(
        &self,
        key: &str,
        show: impl Fn(&T) -> Json,
        parse: impl Fn(&str, &Node) -> Result<T, String>,
    ) -> Vec<(String, T)> {
        self.know(key, Kind::Value);
        let section = Section { path: self.path_of(key), node: self.get(key), ..self.clone() };
        if let Some(node) = section.node.filter(|node| !matches!(node.value, Value::Object(_))) {
            self.problem(key, format!("expected an object, found {}", node.describe()));
        }
        let members = section.node.map(Node::members).unwrap_or_default();
        if members.is_empty() {
            self.record(key, Json::Object(serde_json::Map::new()), Origin::default());
        }
        let read = members.iter().filter_map(|member| match parse(&member.key, &member.node) {
            Ok(value) => {
                section.record(&member.key, show(&value), member.node.origin.clone());
                Some((member.key.clone(), value))
            }
            Err(text) => {
                section.problem(&member.key, text);
                None
            }
        });
        read.collect()
    }

    /// Any other value: `parse` says what is wrong with a node and what was expected.
    pub(super) fn value<T>(
        &self,
        key: &str,
        default: T,
        show: impl Fn(&T) -> Json,
        parse: impl FnOnce(&Node) -> Result<T, String>,
    ) -> T {
        self.know(key, Kind::Value);
        let (value, origin) = match self.get(key).map(|node| (parse(node), &node.origin)) {
            Some((Ok(value), origin)) => (value, origin.clone()),
            Some((Err(text), _)) => {
                self.problem(key, text);
                (default, Origin::default())
            }
            None => (default, Origin::default()),
        };
        self.record(key, show(&value), origin);
        value
    }

    fn whole<T: Copy + TryFrom<u64> + TryInto<u64>>(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        default: T,
        show: impl Fn(u64) -> Json,
    ) -> T {
        let show = |value: &T| show((*value).try_into().unwrap_or(units::UNLIMITED));
        self.value(key, default, show, |node| {
            let number = match &node.value {
                Value::Number(number) => units::whole(*number),
                Value::Text(text) => units::size(text),
                _ => None,
            };
            let expected =
                || format!("expected {} to {}", units::show_size(*range.start()), units::show_size(*range.end()));
            match number {
                Some(number) if range.contains(&number) => T::try_from(number).map_err(|_| expected()),
                Some(_) => Err(format!("{} is out of range, {}", node.describe(), expected())),
                None => Err(format!("expected a whole number as 100, '20k' or '1MB', found {}", node.describe())),
            }
        })
    }

    /// The value of `key`; `null` is as if it were not said.
    fn get(&self, key: &str) -> Option<&'a Node> {
        self.node?.get(key).filter(|node| node.value != Value::Null)
    }

    fn know(&self, key: &str, kind: Kind) -> String {
        let pattern = join(&self.pattern, key);
        self.reader.keys.borrow_mut().insert(pattern.clone(), kind);
        pattern
    }

    /// List items are shown with their list.
    fn record(&self, key: &str, value: Json, origin: Origin) {
        if !self.listed {
            self.reader.entries.borrow_mut().push(Entry { path: self.path_of(key), value, origin });
        }
    }

    fn path_of(&self, key: &str) -> Vec<String> {
        self.path.iter().cloned().chain([key.to_owned()]).collect()
    }
}

/// The text of a node.
pub(super) fn text(node: &Node) -> Result<String, String> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        _ => Err(format!("expected a text, found {}", node.describe())),
    }
}

/// The value that a node names.
pub(super) fn choose<T: Copy>(node: &Node, names: &[(&str, T)]) -> Result<T, String> {
    let found = match &node.value {
        Value::Text(text) => names.iter().find(|(name, _)| name == text),
        _ => None,
    };
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| format!("'{name}'")).collect();
        format!("expected {}, found {}", names.join(" or "), node.describe())
    })
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
