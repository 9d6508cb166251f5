//! A value of the configuration and the place where it is said.

use serde_json::Value as Json;

use super::Origin;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it begins.
    pub origin: Origin,
}

/// What JSON5 can say.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`: as if the key were not there.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A number; it may be infinite or not a number at all.
    Number(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Members in the order of the text.
    Object(Vec<Member>),
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub origin: Origin,
    /// The value.
    pub node: Node,
}

impl Node {
    /// A text.
    pub fn text(text: impl Into<String>, origin: Origin) -> Self {
        Self { value: Value::Text(text.into()), origin }
    }

    /// An object without members.
    pub fn object(origin: Origin) -> Self {
        Self { value: Value::Object(Vec::new()), origin }
    }

    /// The members of an object; of anything else, none.
    pub fn members(&self) -> &[Member] {
        match &self.value {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    /// The value of `key`, when this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.members().iter().find(|member| member.key == key).map(|member| &member.node)
    }

    /// The value at the end of a dotted path as `web.limits`.
    pub fn find(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, key| node.get(key))
    }

    /// Takes `key` out of an object.
    pub(super) fn take(&mut self, key: &str) -> Option<Node> {
        let Value::Object(members) = &mut self.value else { return None };
        let position = members.iter().position(|member| member.key == key)?;
        Some(members.remove(position).node)
    }

    /// This node as the value at the end of a dotted path, with objects around it.
    pub(super) fn under(self, path: &str) -> Self {
        path.rsplit('.').fold(self, |node, key| {
            let origin = node.origin.clone();
            let member = Member { key: key.to_owned(), origin: origin.clone(), node };
            Node { value: Value::Object(vec![member]), origin }
        })
    }

    /// What this is, in words that an error can quote; a long text is cut, and never more than one line.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "null".into(),
            Value::Flag(flag) => flag.to_string(),
            Value::Number(number) => format!("the number {number}"),
            Value::Text(text) => quote(text),
            Value::List(_) => "a list".into(),
            Value::Object(_) => "an object".into(),
        }
    }

    /// The same as plain JSON, which has neither places nor infinite numbers (they become null). Whole numbers stay whole.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Flag(flag) => Json::from(*flag),
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Json::from(*number as i64),
            Value::Number(number) => Json::from(*number),
            Value::Text(text) => Json::from(text.as_str()),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Object(members) => {
                Json::Object(members.iter().map(|member| (member.key.clone(), member.node.to_json())).collect())
            }
        }
    }

    /// Whether two nodes say the same, wherever they say it.
    pub(super) fn same(&self, other: &Node) -> bool {
        match (&self.value, &other.value) {
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|m| other.get(&m.key).is_some_and(|node| m.node.same(node)))
            }
            (a, b) => a == b,
        }
    }
}

/// `text` in backquotes, on one line and not long.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", one_line(&text[..end])),
        None => format!("`{}`", one_line(text)),
    }
}

/// `text` with control characters and line ends escaped: a key or a path can hold them.
pub(super) fn one_line(text: &str) -> String {
    let special = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        match special(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
        line
    })
}
