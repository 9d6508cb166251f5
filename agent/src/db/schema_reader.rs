//! Reading `schema.json5`: every error with file, model, field and what was expected, all of them at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::Error;
use super::schema::{Enable, Field, Generate, Index, Model, Part, Schema, Sync, Template, Type};
use super::validate;

/// Characters of a name, at most.
const MAX_NAME: usize = 64;
/// Keys that have a meaning elsewhere (in the cloud, or in the product whose files can be brought along) and none here.
const IGNORED: &[&str] = &["format", "params", "description", "blend"];
const IGNORED_OF_PROCESS: &[&str] = &["actions", "delay", "description", "mem", "notify", "show"];
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
    "unique",
    "validate",
];

/// Reads a schema; `name` is what errors call the file.
pub(super) fn read(text: &str, name: &str) -> Result<Schema, Error> {
    let root = json5(text, name)?;
    let mut reader = Reader { name, errors: Vec::new() };
    let schema = reader.schema(&root);
    match reader.errors.is_empty() {
        true => Ok(schema),
        false => Err(Error::Schema(reader.errors.join("\n"))),
    }
}

#[cfg(test)]
fn json5(text: &str, name: &str) -> Result<Value, Error> {
    json5::from_str(text).map_err(|error| Error::Schema(format!("{name}: {error}")))
}

#[cfg(not(test))]
fn json5(text: &str, name: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::Schema(format!("{name}: {error}")))
}

struct Reader<'a> {
    name: &'a str,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn schema(&mut self, root: &Value) -> Schema {
        let mut schema = Schema::default();
        let Some(root) = self.object(root, "the schema", "an object with 'models'") else {
            return schema;
        };
        self.only(root, "the schema", &["version", "indexes", "process", "models"], IGNORED);
        schema.version = match root.get("version") {
            None => String::new(),
            Some(Value::String(version)) => version.clone(),
            Some(other) => other.to_string(),
        };
        let empty = Map::new();
        let mut part = |key: &str| match root.get(key) {
            None => &empty,
            Some(value) => self.object(value, key, "an object").unwrap_or(&empty),
        };
        let (indexes, process, models) = (part("indexes"), part("process"), part("models"));
        let indexes = self.indexes(indexes);
        for (name, model) in models {
            let taken = schema.models.keys().find(|other| other.eq_ignore_ascii_case(name));
            if let Some(other) = taken {
                self.fail(&format!("model {name}"), &format!("must differ from '{other}' in more than case"));
            } else if let Some(model) = self.model(name, model, process.get(name), &indexes) {
                schema.models.insert(name.clone(), Arc::new(model));
            }
        }
        for name in process.keys().filter(|name| !models.contains_key(*name) && !name.starts_with('_')) {
            self.fail(&format!("process.{name}"), "there is no such model in 'models'");
        }
        schema
    }

    /// The indexes by name: hash and sort field.
    fn indexes(&mut self, indexes: &Map<String, Value>) -> BTreeMap<String, (String, Option<String>)> {
        let mut read = BTreeMap::new();
        for (name, index) in indexes.iter().filter(|(name, _)| !name.starts_with('_')) {
            let place = format!("indexes.{name}");
            let Some(index) = self.object(index, &place, "an object such as {hash: 'pk', sort: 'sk'}") else {
                continue;
            };
            let hash = self.text(index, "hash", &place);
            let sort = self.text(index, "sort", &place);
            match hash {
                Some(hash) => drop(read.insert(name.clone(), (hash, sort))),
                None => self.fail(&place, "needs 'hash', the name of a field"),
            }
        }
        read
    }

    fn model(
        &mut self,
        name: &str,
        value: &Value,
        process: Option<&Value>,
        indexes: &BTreeMap<String, (String, Option<String>)>,
    ) -> Option<Model> {
        let place = format!("model {name}");
        if !self.named(name, &place) {
            return None;
        }
        let value = self.object(value, &place, "an object of fields")?;
        let before = self.errors.len();
        let mut fields: Vec<Field> = Vec::new();
        for (field, value) in value.iter().filter(|(field, _)| !field.starts_with('_')) {
            let place = format!("{place}, field {field}");
            if fields.iter().any(|other| other.name.eq_ignore_ascii_case(field)) {
                self.fail(&place, "must differ from the other fields in more than case");
            } else if self.named(field, &place) {
                fields.extend(self.field(field, value, &place));
            }
        }
        let (enable, sync) = self.process(process, name);
        if self.errors.len() > before {
            return None;
        }
        if fields.iter().filter(|field| field.ttl).count() > 1 {
            self.fail(&place, "has more than one field with 'ttl'");
            return None;
        }
        let key = self.key(&fields, indexes, &place)?;
        let scalar = |name: &str| {
            let field = fields.iter().find(|field| field.name == name);
            field.is_some_and(|field| !matches!(field.kind, Type::Object | Type::Array))
        };
        let indexes = (indexes.iter())
            .filter(|(name, (hash, _))| *name != "primary" && scalar(hash) && *hash != fields[key].name)
            .map(|(_, (hash, sort))| Index { hash: hash.clone(), sort: sort.clone().filter(|sort| scalar(sort)) })
            .fold(Vec::new(), |mut unique: Vec<Index>, index| {
                if !unique.contains(&index) {
                    unique.push(index);
                }
                unique
            });
        Some(Model { name: name.into(), fields, key, enable, sync, indexes })
    }

    /// The field that is the key: `id`, else the generated one, else the sort field of the primary index.
    fn key(
        &mut self,
        fields: &[Field],
        indexes: &BTreeMap<String, (String, Option<String>)>,
        place: &str,
    ) -> Option<usize> {
        let sort = indexes.get("primary").and_then(|(_, sort)| sort.as_deref());
        let key = (fields.iter().position(|field| field.name == "id"))
            .or_else(|| fields.iter().position(|field| field.generate.is_some()))
            .or_else(|| fields.iter().position(|field| Some(field.name.as_str()) == sort));
        match key {
            Some(key) if fields[key].kind == Type::String => Some(key),
            Some(key) => {
                let rule = "is the key of the model: its type must be 'string'";
                self.fail(&format!("{place}, field {}", fields[key].name), rule);
                None
            }
            None => {
                let rule =
                    "has no key: it needs a field 'id', or one with 'generate', or the sort field of 'indexes.primary'";
                self.fail(place, rule);
                None
            }
        }
    }

    fn field(&mut self, name: &str, value: &Value, place: &str) -> Option<Field> {
        let value = self.object(value, place, "an object such as {type: 'string'}")?;
        let known = ["type", "required", "default", "enum", "generate", "hidden", "readonly", "ttl", "value"];
        self.only(value, place, &known, IGNORED_OF_FIELD);
        let kind = match value.get("type").and_then(Value::as_str) {
            Some("string") => Type::String,
            Some("number") => Type::Number,
            Some("boolean") => Type::Boolean,
            Some("date") => Type::Date,
            Some("object") => Type::Object,
            Some("array") => Type::Array,
            _ => {
                let types = "'string', 'number', 'boolean', 'date', 'object' or 'array'";
                self.fail(&format!("{place}, type"), &format!("must be {types}{}", found(value.get("type"))));
                return None;
            }
        };
        let mut field = Field {
            name: name.into(),
            kind,
            required: self.flag(value, "required", place),
            default: None,
            choices: Vec::new(),
            generate: self.generate(value.get("generate"), kind, place),
            template: self.template(value, kind, place),
            hidden: self.flag(value, "hidden", place),
            readonly: self.flag(value, "readonly", place),
            ttl: self.flag(value, "ttl", place),
        };
        if field.ttl && kind != Type::Date {
            self.fail(&format!("{place}, ttl"), "needs the type 'date'");
        }
        match value.get("enum") {
            None => {}
            Some(Value::Array(choices)) if !choices.is_empty() => {
                for choice in choices {
                    match validate::convert(kind, choice) {
                        Ok(choice) => field.choices.push(choice),
                        Err(rule) => self.fail(&format!("{place}, enum"), &format!("{choice} {rule}")),
                    }
                }
            }
            other => self.fail(&format!("{place}, enum"), &format!("must be a list of values{}", found(other))),
        }
        if let Some(default) = value.get("default") {
            match validate::check(&field, default) {
                Ok(default) => field.default = Some(default),
                Err(rule) => self.fail(&format!("{place}, default"), &format!("{rule}{}", found(Some(default)))),
            }
        }
        Some(field)
    }

    fn generate(&mut self, value: Option<&Value>, kind: Type, place: &str) -> Option<Generate> {
        let place = format!("{place}, generate");
        let generate = match value {
            None | Some(Value::Bool(false)) => return None,
            // `auto` and `true` leave the choice to the database.
            Some(Value::Bool(true)) => Some(Generate::Ulid),
            Some(Value::String(text)) => match text.as_str() {
                "ulid" | "auto" => Some(Generate::Ulid),
                "uid" => Some(Generate::Uid(10)),
                text => (text.strip_prefix("uid(").and_then(|rest| rest.strip_suffix(')')))
                    .and_then(|length| length.parse().ok())
                    .filter(|length| (1..=MAX_NAME).contains(length))
                    .map(Generate::Uid),
            },
            Some(_) => None,
        };
        if generate.is_none() {
            let rule = format!("must be 'ulid', 'uid', 'uid(1)' to 'uid({MAX_NAME})' or 'auto'{}", found(value));
            self.fail(&place, &rule);
        } else if kind != Type::String {
            self.fail(&place, "needs the type 'string'");
        }
        generate
    }

    fn template(&mut self, field: &Map<String, Value>, kind: Type, place: &str) -> Option<Template> {
        let text = self.text(field, "value", place)?;
        let place = format!("{place}, value");
        if kind != Type::String {
            self.fail(&place, "needs the type 'string'");
        }
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            let Some((variable, after)) = after.split_once('}').filter(|(variable, _)| !variable.is_empty()) else {
                self.fail(&place, &format!("must be text with variables such as '${{name}}', found '{text}'"));
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

    fn process(&mut self, value: Option<&Value>, model: &str) -> (Enable, Sync) {
        let place = format!("process.{model}");
        let Some(value) = value.and_then(|value| self.object(value, &place, "an object such as {sync: 'up'}")) else {
            return (Enable::default(), Sync::default());
        };
        self.only(value, &place, &["enable", "sync"], IGNORED_OF_PROCESS);
        let enable = match value.get("enable").map(|value| (value, value.as_str())) {
            None | Some((_, Some("both"))) => Enable::Both,
            Some((_, Some("device"))) => Enable::Device,
            Some((_, Some("cloud"))) => Enable::Cloud,
            Some((other, _)) => {
                let rule = format!("must be 'both', 'device' or 'cloud'{}", found(Some(other)));
                self.fail(&format!("{place}.enable"), &rule);
                Enable::Both
            }
        };
        let sync = match value.get("sync").map(|value| (value, value.as_str())) {
            None | Some((_, Some("none"))) => Sync::None,
            Some((_, Some("up"))) => Sync::Up,
            Some((_, Some("down"))) => Sync::Down,
            Some((_, Some("both"))) => Sync::Both,
            Some((other, _)) => {
                let rule = format!("must be 'none', 'up', 'down' or 'both'{}", found(Some(other)));
                self.fail(&format!("{place}.sync"), &rule);
                Sync::None
            }
        };
        if enable == Enable::Device && sync != Sync::None {
            self.fail(&format!("{place}.sync"), "must be 'none', because the model is enabled on the device only");
        }
        (enable, sync)
    }

    fn object<'v>(&mut self, value: &'v Value, place: &str, expected: &str) -> Option<&'v Map<String, Value>> {
        if !value.is_object() {
            self.fail(place, &format!("must be {expected}{}", found(Some(value))));
        }
        value.as_object()
    }

    fn text(&mut self, object: &Map<String, Value>, key: &str, place: &str) -> Option<String> {
        let value = object.get(key)?;
        if !value.is_string() {
            self.fail(&format!("{place}, {key}"), &format!("must be text{}", found(Some(value))));
        }
        value.as_str().map(str::to_owned)
    }

    fn flag(&mut self, object: &Map<String, Value>, key: &str, place: &str) -> bool {
        match object.get(key) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                self.fail(&format!("{place}, {key}"), &format!("must be true or false{}", found(Some(other))));
                false
            }
        }
    }

    /// Names become SQL identifiers, JSON paths and attribute names: only what needs no quoting in any of them.
    fn named(&mut self, name: &str, place: &str) -> bool {
        let fits = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.len() <= MAX_NAME;
        if !fits {
            let rule = format!("a name must be a letter and then letters, digits and '_', at most {MAX_NAME} in all");
            self.fail(place, &rule);
        }
        fits
    }

    fn only(&mut self, object: &Map<String, Value>, place: &str, known: &[&str], ignored: &[&str]) {
        for key in object.keys().filter(|key| !key.starts_with('_') && !known.contains(&key.as_str())) {
            match ignored.contains(&key.as_str()) {
                true if matches!(key.as_str(), "description" | "format" | "label" | "title") => {}
                true => log::warn!("{}: {place}: '{key}' has no effect on the device", self.name),
                false => self.fail(place, &format!("'{key}' is not known; known are {}", known.join(", "))),
            }
        }
    }

    fn fail(&mut self, place: &str, rule: &str) {
        self.errors.push(format!("{}: {place}: {rule}", self.name));
    }
}

fn found(value: Option<&Value>) -> String {
    value.map(|value| format!(", found {value}")).unwrap_or_default()
}
