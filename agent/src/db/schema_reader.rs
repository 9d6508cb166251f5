//! Reading `schema.json5`: every error with file, model, field and what was expected, all of them at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::error::Error;
use super::schema::{Field, Generate, Index, Model, Part, Schema, Template, Type};
use super::schema_parts;
use super::validate;
use crate::config::{Member, Node, Source, Value, json5};

/// Characters of a name, at most.
const MAX_NAME: usize = 64;
/// Keys that have a meaning elsewhere (in the cloud, or in the product whose files can be brought along) and none here.
const IGNORED: &[&str] = &["format", "params", "description"];
const IGNORED_OF_FIELD: &[&str] = &[
    "crypt",
    "description",
    "encode",
    "isoDates",
    "items",
    "label",
    "map",
    "nulls",
    "reference",
    "schema",
    "scope",
    "timestamps",
    "title",
    "validate",
];

/// The indexes by name: hash and sort field.
type Indexes = BTreeMap<String, (String, Option<String>)>;

/// Reads a schema; `name` is what errors call the file, and where the files are looked for that it blends.
pub(super) fn read(text: &str, name: &Path) -> Result<Schema, Error> {
    let source = Source::File(Arc::from(name));
    let root = json5::parse(text, &source).map_err(|error| Error::Schema(error.to_string()))?;
    let root = schema_parts::blend(root, name)?;
    let mut reader = Reader { errors: Vec::new() };
    let schema = reader.schema(&root);
    reader.errors.sort_by_key(|(line, _)| *line);
    match reader.errors.is_empty() {
        true => Ok(schema),
        false => Err(Error::Schema(reader.errors.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n"))),
    }
}

/// Reads, and gathers what is wrong.
pub(super) struct Reader {
    /// Line and text.
    errors: Vec<(u32, String)>,
}

impl Reader {
    fn schema(&mut self, root: &Node) -> Schema {
        let mut schema = Schema::default();
        self.object(root, "the schema", "an object with `models`");
        self.only(root, "the schema", &["version", "blend", "indexes", "process", "models"], IGNORED);
        schema.version = match root.get("version").map(|node| &node.value) {
            None => String::new(),
            Some(Value::Text(version)) => version.clone(),
            Some(Value::Number(version)) => version.to_string(),
            Some(_) => {
                self.expect(root.get("version"), "version", "text");
                String::new()
            }
        };
        for part in ["indexes", "process", "models"] {
            if let Some(node) = root.get(part) {
                self.object(node, part, "an object");
            }
        }
        let indexes = self.indexes(root);
        let process = |name: &str| root.get("process").and_then(|process| process.get(name));
        for Member { key: name, node, origin } in members(root.get("models")) {
            let place = format!("model {name}");
            let taken = schema.models.keys().find(|other| other.eq_ignore_ascii_case(name));
            if let Some(other) = taken {
                self.fail(origin.line, node, &place, &format!("must differ from `{other}` in more than case"));
            } else if let Some(model) = self.model(name, node, process(name), &indexes) {
                schema.models.insert(name.clone(), Arc::new(model));
            }
        }
        for Member { key: name, node, .. } in members(root.get("process")) {
            if !members(root.get("models")).any(|model| model.key == *name) {
                self.refuse(node, &format!("process.{name}"), "there is no such model in `models`");
            }
        }
        schema
    }

    fn indexes(&mut self, root: &Node) -> Indexes {
        let mut read = Indexes::new();
        for Member { key: name, node, .. } in members(root.get("indexes")) {
            let place = format!("indexes.{name}");
            self.object(node, &place, "an object such as {hash: 'pk', sort: 'sk'}");
            let sort = self.text(node, "sort", &place);
            match self.text(node, "hash", &place) {
                Some(hash) => drop(read.insert(name.clone(), (hash, sort))),
                None => self.refuse(node, &place, "needs `hash`, the name of a field"),
            }
        }
        read
    }

    fn model(&mut self, name: &str, node: &Node, process: Option<&Node>, indexes: &Indexes) -> Option<Model> {
        let place = format!("model {name}");
        let before = self.errors.len();
        self.named(name, node, &place);
        self.object(node, &place, "an object of fields");
        let mut fields: Vec<Field> = Vec::new();
        for Member { key: field, node, .. } in members(Some(node)) {
            let place = format!("{place}, field {field}");
            if fields.iter().any(|other| other.name.eq_ignore_ascii_case(field)) {
                self.refuse(node, &place, "must differ from the other fields in more than case");
            }
            self.named(field, node, &place);
            fields.extend(self.field(field, node, &place));
        }
        let process = self.process(process, name);
        if fields.iter().filter(|field| field.ttl).count() > 1 {
            self.refuse(node, &place, "has more than one field with `ttl`");
        }
        if self.errors.len() > before {
            return None;
        }
        let key = self.key(&fields, indexes, node, &place)?;
        self.searchable(&fields, key, indexes, node, &place);
        let indexes = model_indexes(&fields, key, indexes);
        Some(Model { name: name.into(), fields, key, process, indexes })
    }

    /// The field that is the key: `id`, else the generated one, else the sort field of the primary index.
    fn key(&mut self, fields: &[Field], indexes: &Indexes, node: &Node, place: &str) -> Option<usize> {
        let sort = indexes.get("primary").and_then(|(_, sort)| sort.as_deref());
        let key = (fields.iter().position(|field| field.name == "id"))
            .or_else(|| fields.iter().position(|field| field.generate.is_some()))
            .or_else(|| fields.iter().position(|field| Some(field.name.as_str()) == sort));
        match key {
            Some(key) if fields[key].kind == Type::String => Some(key),
            Some(key) => {
                let rule = "is the key of the model: its type must be 'string'";
                self.refuse(node, &format!("{place}, field {}", fields[key].name), rule);
                None
            }
            None => {
                let rule =
                    "has no key: it needs a field `id`, or one with `generate`, or the sort field of `indexes.primary`";
                self.refuse(node, place, rule);
                None
            }
        }
    }

    /// A field that is encrypted is for nothing that has to look into it.
    fn searchable(&mut self, fields: &[Field], key: usize, indexes: &Indexes, node: &Node, place: &str) {
        for (at, field) in fields.iter().enumerate().filter(|(_, field)| field.encrypt) {
            let is_in =
                |(hash, sort): &(String, Option<String>)| *hash == field.name || sort.as_ref() == Some(&field.name);
            let index = indexes.iter().find(|(name, fields)| *name != "primary" && is_in(fields));
            let variable = |part: &Part| matches!(part, Part::Variable(name) if *name == field.name);
            let user =
                |other: &&Field| other.template.as_ref().is_some_and(|template| template.parts.iter().any(variable));
            let rule = if at == key {
                "the key of the model".to_owned()
            } else if field.unique {
                "unique".to_owned()
            } else if field.ttl {
                "the time of the item's end (`ttl`)".to_owned()
            } else if field.automatic() {
                "made by the database".to_owned()
            } else if let Some((name, _)) = index {
                format!("in the index {name}")
            } else if let Some(user) = fields.iter().find(user) {
                format!("a part of the field {}", user.name)
            } else {
                continue;
            };
            let at = node.get(&field.name).unwrap_or(node);
            self.refuse(at, &format!("{place}, field {}, encrypt", field.name), &format!("cannot be {rule}"));
        }
    }

    fn field(&mut self, name: &str, node: &Node, place: &str) -> Option<Field> {
        let known = [
            "type", "required", "default", "enum", "generate", "hidden", "readonly", "ttl", "value", "unique",
            "encrypt",
        ];
        self.object(node, place, "an object such as {type: 'string'}");
        self.only(node, place, &known, IGNORED_OF_FIELD);
        let types = [
            ("string", Type::String),
            ("number", Type::Number),
            ("boolean", Type::Boolean),
            ("date", Type::Date),
            ("object", Type::Object),
            ("array", Type::Array),
            ("binary", Type::Binary),
        ];
        let Some(kind) = self.choice(node, "type", &types, place) else {
            if node.get("type").is_none() {
                self.refuse(
                    node,
                    place,
                    "needs a `type`: 'string', 'number', 'boolean', 'date', 'object', 'array' or 'binary'",
                );
            }
            return None;
        };
        let mut field = Field {
            name: name.into(),
            kind,
            required: self.flag(node, "required", place),
            default: None,
            choices: self.choices(node.get("enum"), kind, &format!("{place}, enum")),
            generate: self.generate(node.get("generate"), kind, &format!("{place}, generate")),
            template: self.template(node, kind, place),
            hidden: self.flag(node, "hidden", place),
            readonly: self.flag(node, "readonly", place),
            ttl: self.flag(node, "ttl", place),
            unique: self.flag(node, "unique", place),
            encrypt: self.flag(node, "encrypt", place),
        };
        if field.ttl && kind != Type::Date {
            self.refuse(node, &format!("{place}, ttl"), "needs the type 'date'");
        }
        if field.unique && matches!(kind, Type::Object | Type::Array) {
            self.refuse(node, &format!("{place}, unique"), "is not possible for objects and arrays");
        }
        if let Some(default) = node.get("default") {
            match validate::check(&field, &default.to_json()) {
                Ok(value) => field.default = Some(value),
                Err(rule) => {
                    self.expect(Some(default), &format!("{place}, default"), rule.trim_start_matches("must be "))
                }
            }
        }
        Some(field)
    }

    fn choices(&mut self, node: Option<&Node>, kind: Type, place: &str) -> Vec<serde_json::Value> {
        let choices = match node.map(|node| &node.value) {
            None => return Vec::new(),
            Some(Value::List(choices)) if !choices.is_empty() => choices,
            Some(_) => {
                self.expect(node, place, "a list of values");
                return Vec::new();
            }
        };
        let mut read = Vec::new();
        for choice in choices {
            match validate::convert(kind, &choice.to_json()) {
                Ok(choice) => read.push(choice),
                Err(rule) => self.expect(Some(choice), place, rule.trim_start_matches("must be ")),
            }
        }
        read
    }

    fn generate(&mut self, node: Option<&Node>, kind: Type, place: &str) -> Option<Generate> {
        let generate = match &node?.value {
            Value::Flag(false) => return None,
            // `auto` and `true` leave the choice to the database.
            Value::Flag(true) => Some(Generate::Ulid),
            Value::Text(text) => match text.as_str() {
                "ulid" | "auto" => Some(Generate::Ulid),
                "uid" => Some(Generate::Uid(10)),
                text => (text.strip_prefix("uid(").and_then(|rest| rest.strip_suffix(')')))
                    .and_then(|length| length.parse().ok())
                    .filter(|length| (1..=MAX_NAME).contains(length))
                    .map(Generate::Uid),
            },
            _ => None,
        };
        if generate.is_none() {
            self.expect(node, place, &format!("'ulid', 'uid', 'uid(1)' to 'uid({MAX_NAME})' or 'auto'"));
        } else if kind != Type::String {
            self.refuse(node?, place, "needs the type 'string'");
        }
        generate
    }

    fn template(&mut self, field: &Node, kind: Type, place: &str) -> Option<Template> {
        let text = self.text(field, "value", place)?;
        let place = format!("{place}, value");
        if kind != Type::String {
            self.refuse(field, &place, "needs the type 'string'");
        }
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let Some((variable, after)) = after.split_once('}').filter(|(variable, _)| !variable.is_empty()) else {
                self.expect(field.get("value"), &place, "text with variables such as '${name}'");
                return None;
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            parts.push(Part::Variable(variable.into()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Some(Template { parts })
    }

    pub(super) fn object(&mut self, node: &Node, place: &str, expected: &str) {
        if !matches!(node.value, Value::Object(_)) {
            self.expect(Some(node), place, expected);
        }
    }

    pub(super) fn choice<T: Copy>(&mut self, node: &Node, key: &str, names: &[(&str, T)], place: &str) -> Option<T> {
        let node = node.get(key)?;
        let chosen = match &node.value {
            Value::Text(text) => names.iter().find(|(name, _)| name == text).map(|(_, value)| *value),
            _ => None,
        };
        if chosen.is_none() {
            let names: Vec<String> = names.iter().map(|(name, _)| format!("'{name}'")).collect();
            self.expect(Some(node), &format!("{place}, {key}"), &format!("one of {}", names.join(", ")));
        }
        chosen
    }

    pub(super) fn text(&mut self, node: &Node, key: &str, place: &str) -> Option<String> {
        let node = node.get(key)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.expect(Some(node), &format!("{place}, {key}"), "text");
                None
            }
        }
    }

    pub(super) fn flag(&mut self, node: &Node, key: &str, place: &str) -> bool {
        match node.get(key).map(|node| (node, &node.value)) {
            None => false,
            Some((_, Value::Flag(flag))) => *flag,
            Some((node, _)) => {
                self.expect(Some(node), &format!("{place}, {key}"), "true or false");
                false
            }
        }
    }

    /// Names become SQL identifiers, JSON paths and attribute names: only what needs no quoting in any of them.
    fn named(&mut self, name: &str, node: &Node, place: &str) {
        let fits = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.len() <= MAX_NAME;
        if !fits {
            let rule = format!("a name must be a letter and then letters, digits and `_`, at most {MAX_NAME} in all");
            self.refuse(node, place, &rule);
        }
    }

    pub(super) fn only(&mut self, node: &Node, place: &str, known: &[&str], ignored: &[&str]) {
        for Member { key, origin, node } in members(Some(node)) {
            let key = key.as_str();
            if ignored.contains(&key) {
                if !matches!(key, "description" | "format" | "label" | "title") {
                    log::warn!("{origin}: {place}: `{key}` has no effect on the device");
                }
            } else if !known.contains(&key) {
                self.fail(origin.line, node, place, &format!("`{key}` is not known; known are {}", known.join(", ")));
            }
        }
    }

    pub(super) fn expect(&mut self, node: Option<&Node>, place: &str, expected: &str) {
        if let Some(node) = node {
            self.refuse(node, place, &format!("must be {expected}, found {}", node.describe()));
        }
    }

    pub(super) fn refuse(&mut self, node: &Node, place: &str, rule: &str) {
        self.fail(node.origin.line, node, place, rule);
    }

    fn fail(&mut self, line: u32, node: &Node, place: &str, rule: &str) {
        let mut origin = node.origin.clone();
        origin.line = line;
        self.errors.push((line, format!("{origin}: {place}: {rule}")));
    }
}

/// The secondary indexes that a model has the fields for, and one for each unique field.
fn model_indexes(fields: &[Field], key: usize, indexes: &Indexes) -> Vec<Index> {
    let field = |name: &str| fields.iter().find(|field| field.name == name && field.comparable());
    let key = fields[key].name.as_str();
    let secondary = (indexes.iter())
        .filter(|(name, (hash, _))| *name != "primary" && field(hash).is_some() && hash != key)
        .map(|(_, (hash, sort))| (hash, sort.as_ref().filter(|sort| field(sort).is_some() && *sort != key)))
        .map(|(hash, sort)| Index { hash: hash.clone(), sort: sort.cloned() });
    let mut made: Vec<Index> = secondary.collect();
    let unique = fields.iter().filter(|field| field.unique && field.name != key);
    made.extend(unique.map(|field| Index { hash: field.name.clone(), sort: None }));
    made.sort();
    made.dedup();
    made
}

/// The members of an object; those whose name begins with `_` are remarks.
fn members(node: Option<&Node>) -> impl Iterator<Item = &Member> {
    node.map(Node::members).unwrap_or_default().iter().filter(|member| !member.key.starts_with('_'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::db::Sync;

    fn refusal(text: &str) -> String {
        read(text, Path::new("schema.json5")).unwrap_err().to_string()
    }

    #[test]
    fn the_schema_that_the_image_ships_is_read() {
        let path = crate::corpus::source_tree().join("rootfs-overlay/usr/share/ioto/schema.json5");
        let schema = Schema::load(&path).unwrap();
        let reading = schema.model("Reading").unwrap();
        assert_eq!((reading.key().name(), reading.sync()), ("id", Sync::Up));
        assert!(reading.field("name").unwrap().required() && reading.ttl().is_some());
    }

    #[test]
    fn a_file_that_is_not_there_means_no_models() {
        assert_eq!(Schema::load(Path::new("/nowhere/schema.json5")).unwrap().models().count(), 0);
    }

    #[test]
    fn each_mistake_is_told_with_line_model_field_and_expectation() {
        let text = "{\n models: {\n  A: {\n   id: {type: 'string'},\n   n: {type: 'numbr'},\n   b: {type: 'boolean', \
                    default: 'yes'},\n   t: {type: 'string', ttl: true},\n   'x-y': {type: 'string'},\n  },\n  B: {},\n },\n \
                    process: {A: {sync: 'sideways'}, C: {}},\n colour: 1,\n}";
        assert_eq!(
            refusal(text).lines().collect::<Vec<_>>(),
            [
                "schema.json5:5: model A, field n, type: must be one of 'string', 'number', 'boolean', 'date', 'object', \
                 'array', 'binary', found `numbr`",
                "schema.json5:6: model A, field b, default: must be a boolean, found `yes`",
                "schema.json5:7: model A, field t, ttl: needs the type 'date'",
                "schema.json5:8: model A, field x-y: a name must be a letter and then letters, digits and `_`, at most 64 in all",
                "schema.json5:10: model B: has no key: it needs a field `id`, or one with `generate`, or the sort field of \
                 `indexes.primary`",
                "schema.json5:12: process.A, sync: must be one of 'none', 'up', 'down', 'both', found `sideways`",
                "schema.json5:12: process.C: there is no such model in `models`",
                "schema.json5:13: the schema: `colour` is not known; known are version, blend, indexes, process, models",
            ]
        );
        assert!(refusal("{models: ").starts_with("schema.json5:1: "), "{}", refusal("{models: "));
        assert_eq!(refusal("[]"), "schema.json5:1: the schema: must be an object with `models`, found a list");
    }

    #[test]
    fn the_key_is_the_id_else_what_is_generated_else_the_sort_field() {
        let key = |fields: &str| {
            let text = format!("{{indexes: {{primary: {{hash: 'pk', sort: 'sk'}}}}, models: {{M: {{{fields}}}}}}}");
            read(&text, Path::new("schema")).map(|schema| schema.model("M").unwrap().key().name().to_owned())
        };
        let (id, made, sk) =
            ("id: {type: 'string'}", "k: {type: 'string', generate: 'uid(5)'}", "sk: {type: 'string'}");
        assert_eq!(key(&[sk, made, id].join(",")).unwrap(), "id");
        assert_eq!(key(&[sk, made].join(",")).unwrap(), "k");
        assert_eq!(key(sk).unwrap(), "sk");
        assert!(key("id: {type: 'number'}").unwrap_err().to_string().contains("is the key of the model"));
    }

    #[test]
    fn models_that_sqlite_would_take_for_the_same_are_refused() {
        let error = refusal("{models: {Ab: {id: {type: 'string'}}, aB: {id: {type: 'string'}}}}");
        assert_eq!(error, "schema.json5:1: model aB: must differ from `Ab` in more than case");
    }

    #[test]
    fn a_model_of_the_cloud_alone_is_not_on_the_device() {
        let schema =
            read("{process: {A: {enable: 'cloud'}}, models: {A: {id: {type: 'string'}}}}", Path::new("schema"))
                .unwrap();
        assert!(schema.model("A").is_none() && schema.models().count() == 0);
    }
}
