//! Reading a file of signatures: all that is wrong there at once, each with its line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value as Json;

use super::check::fits;
use super::model::{Block, Drop, KINDS, Kind, MAX_DEPTH, MAX_NAME, Others, Signature, Signatures};
use crate::config::{Member, Node, Origin, Problem, Source, Value, Web, WebSignatures, json5};
use crate::web::Error;

/// What makes an object a method, and what else it may say.
const METHOD: [&str; 5] = ["role", "request", "request.query", "query", "response"];
const BLOCK: [&str; 9] = ["type", "required", "default", "drop", "role", "fields", "of", "hasWild", "hasRequired"];
/// For people.
const REMARKS: [&str; 6] = ["description", "doc", "example", "label", "notes", "title"];
/// The field that stands for all fields that are not named.
const OTHERS: &str = "*";

impl Signatures {
    /// Reads the file of the settings. `knows` tells whether there is such a role or ability.
    ///
    /// # Errors
    /// All that is wrong, each with file, line and key.
    pub fn load(settings: &WebSignatures, knows: &dyn Fn(&str) -> bool) -> Result<Self, String> {
        let path = &settings.path;
        let fail = |text: String| format!("{}: {text}", path.display());
        let mut text = String::new();
        let most = json5::MAX_BYTES as u64 + 1;
        File::open(path).and_then(|file| file.take(most).read_to_string(&mut text)).map_err(|error| {
            fail(format!("the signatures cannot be read: {error}; web.signatures.path names the file"))
        })?;
        Self::parse(&text, path, settings.strict, knows)
    }

    /// Reads a text.
    pub fn parse(text: &str, path: &Path, strict: bool, knows: &dyn Fn(&str) -> bool) -> Result<Self, String> {
        let source = Source::File(path.into());
        let root = json5::parse(text, &source).map_err(|error| Problem::from(error).to_string())?;
        let mut reader = Reader { signatures: Self { strict, ..Self::default() }, problems: Vec::new(), knows };
        match root.value {
            Value::Object(_) => reader.group(&root, "", 1),
            _ => reader.expected(&root, "", "an object of controllers"),
        }
        reader.problems.sort_by_key(|problem| problem.origin.line);
        let lines: Vec<_> = reader.problems.iter().map(ToString::to_string).collect();
        if lines.is_empty() { Ok(reader.signatures) } else { Err(lines.join("\n")) }
    }
}

/// Reads the file of signatures, if it is wanted, and forgets it.
///
/// # Errors
/// All that is wrong there.
pub fn check_signatures(settings: &Web) -> Result<(), Error> {
    match settings.signatures.enable {
        true => Signatures::load(&settings.signatures, &|role| knows(settings, role)).map(drop).map_err(Error::Setting),
        false => Ok(()),
    }
}

/// Whether there is such a role or ability; without users there is none.
pub(in crate::web) fn knows(settings: &Web, ability: &str) -> bool {
    cfg!(feature = "users") && settings.auth.roles.knows(ability)
}

struct Reader<'a> {
    signatures: Signatures,
    problems: Vec<Problem>,
    knows: &'a dyn Fn(&str) -> bool,
}

/// Which block of a method is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Request,
    Other,
    /// A field or an item of another block.
    Inner,
}

impl Reader<'_> {
    /// Controllers, or the methods of one. A method may stand deeper, for the path `a/b/c`.
    fn group(&mut self, node: &Node, name: &str, depth: usize) {
        for Member { key, origin, node } in members(node) {
            let name = join(name, key);
            let is_text = matches!(node.value, Value::Text(_) | Value::Number(_));
            if is_text && (REMARKS.contains(&key.as_str()) || key == "version") {
                continue;
            }
            if key.is_empty() || key.contains(['.', '/', '%', '?', '#']) || key.chars().any(char::is_control) {
                self.problem(origin, &name, "is no segment of a path, expected a name as 'user'");
            } else if name.len() > MAX_NAME {
                self.problem(origin, &name, &format!("is longer than {MAX_NAME} bytes"));
            } else if depth > MAX_DEPTH {
                self.problem(origin, &name, &format!("is deeper than {MAX_DEPTH} levels"));
            } else if !matches!(node.value, Value::Object(_)) {
                let expected =
                    if depth == 1 { "an object of methods" } else { "an object as {request: {…}, response: {…}}" };
                self.expected(node, &name, expected);
            } else if depth > 1 && is_method(node) {
                let signature = self.method(node, &name);
                self.signatures.methods.insert(name, signature);
            } else {
                self.group(node, &name, depth + 1);
            }
        }
    }

    fn method(&mut self, node: &Node, name: &str) -> Signature {
        self.only(node, name, &METHOD);
        let block = |reader: &mut Self, key: &str, part| {
            node.get(key).and_then(|node| reader.block(node, &join(name, key), part, 1))
        };
        let mut query: Vec<Option<Block>> = Vec::new();
        let request = node.get("request");
        for (said, place) in [
            (node.get("query"), "query"),
            (node.get("request.query"), "request.query"),
            (request.and_then(|request| request.get("query")), "request.query"),
        ] {
            if let Some(said) = said {
                if !query.is_empty() {
                    self.problem(&said.origin, &join(name, place), "is a second query block, expected one");
                }
                let block = self.query(said, &join(name, place));
                query.push(block);
            }
        }
        // A request that tells only of its query says nothing about its body.
        let is_query_alone = request.is_some_and(|request| {
            request.get("query").is_some() && members(request).all(|member| member.key == "query")
        });
        Signature {
            name: name.to_owned(),
            role: self.role(node, name),
            request: if is_query_alone { None } else { block(self, "request", Part::Request) },
            query: query.into_iter().flatten().next(),
            response: block(self, "response", Part::Other),
        }
    }

    /// The query block, which may also be written as its fields alone.
    fn query(&mut self, node: &Node, place: &str) -> Option<Block> {
        if node.get("fields").is_some() || node.get("hasWild").is_some() || !matches!(node.value, Value::Object(_)) {
            let block = self.block(node, place, Part::Other, 1)?;
            if !matches!(block.kind, Kind::Object | Kind::Any) {
                self.expected(node, place, "an object of variables");
            }
            return Some(Block { kind: Kind::Object, ..block });
        }
        let mut block = Block { kind: Kind::Object, ..Block::default() };
        self.fields(node, place, &mut block, 1);
        Some(block)
    }

    fn block(&mut self, node: &Node, place: &str, part: Part, depth: usize) -> Option<Block> {
        if depth > MAX_DEPTH {
            self.problem(&node.origin, place, &format!("is deeper than {MAX_DEPTH} levels"));
            return None;
        }
        match node.value {
            // Its type alone.
            Value::Text(_) => {
                let kind = self.kind(node, place)?;
                let others = if kind == Kind::Object { Others::Pass } else { Others::Unknown };
                return Some(Block { kind, others, ..Block::default() });
            }
            Value::Null => return Some(Block { kind: Kind::Null, ..Block::default() }),
            Value::Object(_) => {}
            _ => {
                self.expected(node, place, "an object as {type: 'string'}");
                return None;
            }
        }
        let known: Vec<&str> = BLOCK.into_iter().chain((part == Part::Request).then_some("query")).collect();
        self.only(node, place, &known);
        if part != Part::Inner {
            for key in ["drop", "role"] {
                if let Some(said) = node.get(key) {
                    self.problem(&said.origin, &join(place, key), "is for fields; a whole block cannot have it");
                }
            }
        }
        let kind = match node.get("type") {
            Some(said) => self.kind(said, &join(place, "type"))?,
            None if node.get("fields").is_some() => Kind::Object,
            None if node.get("of").is_some() => Kind::Array,
            None => Kind::Any,
        };
        let mut block = Block {
            kind,
            required: self.flag(node, "required", place),
            role: self.role(node, place),
            ..Block::default()
        };
        self.flag(node, "hasRequired", place);
        (block.drop_request, block.drop_response) = self.drops(node, place);
        match node.get("fields") {
            Some(fields) if kind == Kind::Object => self.fields(fields, &join(place, "fields"), &mut block, depth),
            Some(fields) => self.expected(fields, &join(place, "fields"), "none, they need the type 'object'"),
            None => block.others = Others::Pass,
        }
        if self.flag(node, "hasWild", place) && matches!(block.others, Others::Unknown) {
            block.others = Others::Pass;
        }
        match node.get("of") {
            Some(of) if kind == Kind::Array => {
                block.of = self.block(of, &join(place, "of"), Part::Inner, depth + 1).map(Box::new);
            }
            Some(of) => self.expected(of, &join(place, "of"), "none, it needs the type 'array'"),
            None => {}
        }
        if let Some(default) = node.get("default") {
            let value = default.to_json();
            if !fits(&block, &value) {
                self.expected(default, &join(place, "default"), &format!("{} that fits", kind.describe()));
            }
            block.default = Some(value).filter(|value: &Json| kind == Kind::Null || !value.is_null());
        }
        Some(block)
    }

    fn fields(&mut self, node: &Node, place: &str, block: &mut Block, depth: usize) {
        if !matches!(node.value, Value::Object(_)) {
            return self.expected(node, place, "an object of fields");
        }
        for Member { key, node, .. } in members(node) {
            let Some(field) = self.block(node, &join(place, key), Part::Inner, depth + 1) else { continue };
            match key.as_str() {
                OTHERS => block.others = Others::Like(Box::new(field)),
                _ => drop(block.fields.insert(key.clone(), field)),
            }
        }
    }

    /// Whether a field is left out of requests, and of responses.
    fn drops(&mut self, node: &Node, place: &str) -> (Drop, Drop) {
        let Some(said) = node.get("drop") else { return Default::default() };
        let place = join(place, "drop");
        if let Value::Object(_) = said.value {
            self.only(said, &place, &["request", "response"]);
            let mut one = |key| said.get(key).map_or(Drop::Never, |said| self.drop_of(said, &join(&place, key)));
            return (one("request"), one("response"));
        }
        let drop = self.drop_of(said, &place);
        (drop.clone(), drop)
    }

    fn drop_of(&mut self, node: &Node, place: &str) -> Drop {
        match &node.value {
            Value::Flag(true) => Drop::Always,
            Value::Flag(false) => Drop::Never,
            Value::Text(role) => {
                self.known_role(role, node, place);
                Drop::Unless(role.clone())
            }
            _ => {
                self.expected(node, place, "true, false or the role that it is kept for");
                Drop::Always
            }
        }
    }

    fn role(&mut self, node: &Node, place: &str) -> String {
        let Some(said) = node.get("role") else { return String::new() };
        let place = join(place, "role");
        match &said.value {
            Value::Text(role) if role == "public" => String::new(),
            Value::Text(role) => {
                self.known_role(role, said, &place);
                role.clone()
            }
            _ => {
                self.expected(said, &place, "a role or an ability of web.auth.roles");
                String::new()
            }
        }
    }

    fn known_role(&mut self, role: &str, node: &Node, place: &str) {
        if !(self.knows)(role) {
            self.expected(node, place, "a role or an ability of web.auth.roles");
        }
    }

    fn kind(&mut self, node: &Node, place: &str) -> Option<Kind> {
        let found = match &node.value {
            Value::Text(text) => KINDS.iter().find(|(name, _)| name == text),
            _ => None,
        };
        if found.is_none() {
            let names: Vec<_> = KINDS.iter().map(|(name, _)| format!("'{name}'")).collect();
            self.expected(node, place, &format!("one of {}", names.join(" ")));
        }
        found.map(|(_, kind)| *kind)
    }

    fn flag(&mut self, node: &Node, key: &str, place: &str) -> bool {
        match node.get(key).map(|said| (said, &said.value)) {
            None => false,
            Some((_, Value::Flag(flag))) => *flag,
            Some((said, _)) => {
                self.expected(said, &join(place, key), "true or false");
                false
            }
        }
    }

    fn only(&mut self, node: &Node, place: &str, known: &[&str]) {
        for Member { key, origin, .. } in members(node) {
            let key = key.as_str();
            if !known.contains(&key) && !REMARKS.contains(&key) {
                self.problem(origin, &join(place, key), &format!("unknown key, expected one of {}", known.join(" ")));
            }
        }
    }

    fn expected(&mut self, node: &Node, place: &str, expected: &str) {
        self.problem(&node.origin, place, &format!("expected {expected}, found {}", node.describe()));
    }

    fn problem(&mut self, origin: &Origin, place: &str, text: &str) {
        self.problems.push(Problem { origin: origin.clone(), key: place.to_owned(), text: text.to_owned() });
    }
}

/// Whether an object is a method, and not a group of them.
fn is_method(node: &Node) -> bool {
    let mut members = members(node).peekable();
    members.peek().is_none() || members.any(|member| METHOD.contains(&member.key.as_str()))
}

/// The members of an object; those whose name begins with `_` are remarks.
fn members(node: &Node) -> impl Iterator<Item = &Member> {
    node.members().iter().filter(|member| !member.key.starts_with('_'))
}

fn join(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Signatures, String> {
        Signatures::parse(text, Path::new("s.json5"), false, &|role| role == "admin")
    }

    #[test]
    fn a_file_is_read_with_remarks_and_short_forms() {
        let text = "{
            _version: 1, version: '1.0', description: 'the API',
            user: {
                _note: 'x',
                get: {role: 'public', query: {id: {type: 'string', required: true}}, response: 'object'},
                put: {role: 'admin', request: {_x: 1, query: {dry: 'boolean'}, fields: {
                    name: {type: 'string', required: true, description: 'x'},
                    tags: {type: 'array', of: 'string', default: ['a']},
                    secret: {type: 'string', drop: {response: true}},
                    role: {type: 'string', role: 'admin', drop: 'admin'},
                    '*': 'number',
                }, hasRequired: true}},
                list: {'request.query': {fields: {type: {type: 'string'}}}, response: null},
                deep: {er: {response: {hasWild: true, fields: {}}}},
                ping: {},
            },
        }";
        let signatures = read(text).unwrap();
        let mut names: Vec<_> = signatures.methods.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["user.deep.er", "user.get", "user.list", "user.ping", "user.put"]);
        let put = &signatures.methods["user.put"];
        let request = put.request.as_ref().unwrap();
        assert_eq!((put.role.as_str(), request.fields.len()), ("admin", 4));
        assert!(matches!(request.others, Others::Like(_)));
        assert_eq!(put.query.as_ref().unwrap().fields["dry"].kind, Kind::Boolean);
        assert_eq!(request.fields["secret"].drop_request, Drop::Never);
        assert_eq!(request.fields["role"].drop_response, Drop::Unless("admin".into()));
        let list = &signatures.methods["user.list"];
        assert!(list.request.is_none() && list.query.as_ref().unwrap().fields.contains_key("type"));
        assert_eq!(signatures.methods["user.get"].role, "");
    }

    #[test]
    fn each_mistake_is_told_with_file_line_and_key() {
        let text = "{
 user: {
  get: {role: 'nobody', request: {type: 'objct'}},
  put: {request: {fields: {a: {typ: 'string'}, b: {type: 'number', default: 'x'}}}, respnse: {}},
  set: {request: {type: 'string', fields: {}}, response: {drop: true, type: 'string', of: 'string'}},
  'a/b': {},
  all: {request: {fields: {a: {required: 1, drop: 5}, b: 7}}, query: 5},
 },
 x: 5,
}";
        let problems = read(text).unwrap_err();
        let kinds = "one of 'any' 'object' 'array' 'string' 'number' 'boolean' 'null' 'date'";
        assert_eq!(
            problems.lines().collect::<Vec<_>>(),
            [
                format!("s.json5:3: user.get.role: expected a role or an ability of web.auth.roles, found `nobody`"),
                format!("s.json5:3: user.get.request.type: expected {kinds}, found `objct`"),
                format!(
                    "s.json5:4: user.put.respnse: unknown key, expected one of role request request.query query response"
                ),
                format!(
                    "s.json5:4: user.put.request.fields.a.typ: unknown key, expected one of type required default drop \
                     role fields of hasWild hasRequired"
                ),
                format!("s.json5:4: user.put.request.fields.b.default: expected a number that fits, found `x`"),
                format!(
                    "s.json5:5: user.set.request.fields: expected none, they need the type 'object', found an object"
                ),
                format!("s.json5:5: user.set.response.drop: is for fields; a whole block cannot have it"),
                format!("s.json5:5: user.set.response.of: expected none, it needs the type 'array', found `string`"),
                format!("s.json5:6: user.a/b: is no segment of a path, expected a name as 'user'"),
                format!("s.json5:7: user.all.query: expected an object as {{type: 'string'}}, found the number 5"),
                format!("s.json5:7: user.all.request.fields.a.required: expected true or false, found the number 1"),
                format!(
                    "s.json5:7: user.all.request.fields.a.drop: expected true, false or the role that it is kept for, \
                     found the number 5"
                ),
                format!(
                    "s.json5:7: user.all.request.fields.b: expected an object as {{type: 'string'}}, found the number 7"
                ),
                format!("s.json5:9: x: expected an object of methods, found the number 5"),
            ]
        );
        assert!(read("{user: ").unwrap_err().starts_with("s.json5:1: "));
        assert_eq!(read("[]").unwrap_err(), "s.json5:1: expected an object of controllers, found a list");
        let deep = format!("{{a: {{b: {{request: {}'string'{}}}}}}}", "{of: ".repeat(20), "}".repeat(20));
        assert!(read(&deep).unwrap_err().contains("is deeper than 16 levels"));
        let long = format!("{{{}: {{b: {{}}}}}}", "a".repeat(200));
        assert!(read(&long).unwrap_err().contains("is longer than 160 bytes"));
    }
}
