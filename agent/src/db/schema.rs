//! The schema: which models there are, and what their items look like.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::error::Error;
use super::query::Item;
use super::schema_process::{Policy, Process};

/// The models of the database, read from `schema.json5`.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub(super) version: String,
    pub(super) models: BTreeMap<String, Arc<Model>>,
    pub(super) context: BTreeMap<String, String>,
}

/// A kind of item.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    pub(super) key: usize,
    pub(super) process: Process,
    /// How items are found without looking at all: the secondary indexes, and one for each unique field.
    pub(super) indexes: Vec<Index>,
}

/// A secondary index of a model: by the value of `hash`, in the order of `sort` and the key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Index {
    pub(super) hash: String,
    pub(super) sort: Option<String>,
}

/// Where a model lives: `process.MODEL.enable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enable {
    /// On the device and in the cloud.
    #[default]
    Both,
    /// On the device only.
    Device,
    /// In the cloud only; the device has no table for it.
    Cloud,
}

/// In which direction a model replicates: `process.MODEL.sync`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Not at all.
    #[default]
    None,
    /// From the device to the cloud.
    Up,
    /// From the cloud to the device.
    Down,
    /// In both directions.
    Both,
}

impl Sync {
    /// Whether changes on the device go to the cloud.
    pub fn up(self) -> bool {
        matches!(self, Sync::Up | Sync::Both)
    }

    /// Whether changes in the cloud come to the device.
    pub fn down(self) -> bool {
        matches!(self, Sync::Down | Sync::Both)
    }
}

/// A field of a model.
#[derive(Clone, Debug)]
pub struct Field {
    pub(super) name: String,
    pub(super) kind: Type,
    pub(super) required: bool,
    pub(super) default: Option<Value>,
    pub(super) choices: Vec<Value>,
    pub(super) generate: Option<Generate>,
    pub(super) template: Option<Template>,
    pub(super) hidden: bool,
    pub(super) readonly: bool,
    pub(super) ttl: bool,
    pub(super) unique: bool,
    pub(super) encrypt: bool,
}

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// A finite number.
    Number,
    /// True or false.
    Boolean,
    /// A moment: ISO 8601 text, or milliseconds of UTC; stored as ISO 8601 text in UTC with milliseconds.
    Date,
    /// An object of any shape.
    Object,
    /// An array of any shape.
    Array,
    /// Bytes, as base64 text.
    Binary,
}

/// How a field is made when a new item has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generate {
    /// A ULID: 26 characters that sort by time.
    Ulid,
    /// So many random characters.
    Uid(usize),
}

/// A value made of other fields, such as `sensor#${room}#${id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) parts: Vec<Part>,
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Variable(String),
}

impl Schema {
    /// Reads a schema file. One that is not there means no models: the configuration has refused it already when it was named.
    pub fn load(path: &Path) -> Result<Self, Error> {
        match std::fs::read_to_string(path) {
            Ok(text) => super::schema_reader::read(&text, path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::file("read the schema", path, error)),
        }
    }

    /// Reads a schema from JSON5 text; `name` is what errors call it, and the files that it names with
    /// `blend` are looked for beside it. All that is wrong is in the one error, a line each.
    pub fn parse(text: &str, name: &str) -> Result<Self, Error> {
        super::schema_reader::read(text, Path::new(name))
    }

    /// Gives templates a value that is not in the items, such as `deviceId`.
    #[must_use]
    pub fn with_context(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.context.insert(name.into(), value.into());
        self
    }

    /// The schema's own version, as written.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A model that lives on the device.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(name).filter(|model| model.process.enable != Enable::Cloud)
    }

    /// The models that live on the device, by name.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values().filter(|model| model.process.enable != Enable::Cloud)
    }

    pub(super) fn demand(&self, name: &str) -> Result<&Arc<Model>, Error> {
        self.model(name).ok_or_else(|| Error::Model { model: name.into() })
    }
}

impl Model {
    /// Its name: a letter, then letters, digits and underscores.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its fields in the order of the schema.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// A field by name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field whose value is the row's key: `id`, else the one that is generated, else the primary index's sort field.
    pub fn key(&self) -> &Field {
        &self.fields[self.key]
    }

    /// The direction in which it replicates.
    pub fn sync(&self) -> Sync {
        self.process.sync
    }

    /// Who wins a conflict.
    pub fn conflict(&self) -> Policy {
        self.process.conflict
    }

    /// Where it lives.
    pub fn enable(&self) -> Enable {
        self.process.enable
    }

    /// How it is processed.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The item without its hidden fields: what the API and the command line show.
    pub fn visible(&self, mut item: Item) -> Item {
        for field in self.fields.iter().filter(|field| field.hidden) {
            item.shift_remove(&field.name);
        }
        item
    }

    /// Whether a field of it is sealed on the disk.
    pub(super) fn has_encrypted(&self) -> bool {
        self.fields.iter().any(Field::encrypted)
    }

    /// The moment after which rows are removed.
    pub(super) fn ttl(&self) -> Option<&Field> {
        self.fields.iter().find(|field| field.ttl)
    }
}

impl Field {
    /// Its name: a letter, then letters, digits and underscores.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type.
    pub fn kind(&self) -> Type {
        self.kind
    }

    /// Whether an item must have it.
    pub fn required(&self) -> bool {
        self.required
    }

    /// Whether the API and the command line leave it out.
    pub fn hidden(&self) -> bool {
        self.hidden
    }

    /// Whether it cannot be changed after the item was created.
    pub fn readonly(&self) -> bool {
        self.readonly
    }

    /// Whether no two items may have the same value. Kept for what this device writes; items that replicate down may break it.
    pub fn unique(&self) -> bool {
        self.unique
    }

    /// Whether its values are sealed on the disk: `encrypt: true`. They cannot be searched or ordered by.
    pub fn encrypted(&self) -> bool {
        self.encrypt
    }

    /// The values that it may have; any when empty.
    pub fn choices(&self) -> &[Value] {
        &self.choices
    }

    /// Whether its values can be compared: no objects and no arrays.
    pub(super) fn comparable(&self) -> bool {
        !matches!(self.kind, Type::Object | Type::Array)
    }

    /// Whether the database makes its value when a new item has none.
    pub fn generated(&self) -> bool {
        self.generate.is_some() || self.automatic()
    }

    /// Whether only the database sets it: the timestamps and the templates.
    pub fn automatic(&self) -> bool {
        self.template.is_some() || self.timestamp()
    }

    /// `created` and `updated`, when they are dates, are kept by the database.
    pub(super) fn timestamp(&self) -> bool {
        self.kind == Type::Date && matches!(self.name.as_str(), "created" | "updated")
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::String => "string",
            Type::Number => "number",
            Type::Boolean => "boolean",
            Type::Date => "date",
            Type::Object => "object",
            Type::Array => "array",
            Type::Binary => "binary",
        })
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sync::None => "none",
            Sync::Up => "up",
            Sync::Down => "down",
            Sync::Both => "both",
        })
    }
}
