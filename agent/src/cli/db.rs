//! `ioto db`: the database from the command line, through the running agent, or directly when none runs.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use ioto::api::{Client, ClientError, percent_encode};
use ioto::config::Config;
use ioto::db::{Db, Field, Item, MAX_LIMIT, Model, Page, Query, Schema};
use ioto::http1::Method;
use serde_json::{Map, Value, json};

use super::args::{Args, Usage};
use super::config;
use super::output::{USAGE, complain, print};

/// Characters of a value in a table of items.
const WIDEST: usize = 40;

/// Carries out `ioto db`.
pub fn main(args: Args) -> ExitCode {
    let verb = match Verb::read(&args) {
        Ok(verb) => verb,
        Err(usage) => return usage.complain(),
    };
    let loaded = match config::load(&args) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let schema = match Schema::load(&loaded.config.database.schema) {
        Ok(schema) => schema,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(USAGE);
        }
    };
    match verb.run(&loaded.config, schema) {
        Ok(Output { text, .. }) if !args.flag("json") => print(&text),
        Ok(Output { json, .. }) => print(&format!("{json:#}\n")),
        Err(Failure(message)) => {
            complain(&format!("ioto: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// What to do.
#[derive(Debug, PartialEq)]
enum Verb {
    Models,
    Create { model: String, fields: Vec<Assignment> },
    Get { model: String, key: String },
    Find { model: String, filters: Vec<Assignment>, limit: Option<usize>, next: Option<String>, descending: bool },
    Update { model: String, key: String, fields: Vec<Assignment> },
    Remove { model: String, key: String },
}

/// `field=value`, typed by the schema, or `field:=json`.
#[derive(Debug, PartialEq)]
struct Assignment {
    field: String,
    text: String,
    json: bool,
}

/// What to write.
struct Output {
    text: String,
    json: Value,
}

/// What went wrong, for the person at the terminal.
struct Failure(String);

impl Verb {
    fn read(args: &Args) -> Result<Self, Usage> {
        let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
        let text = |name| args.value(name).map(|value| value.to_string_lossy().into_owned());
        let owned = |word: &str| word.to_owned();
        if !matches!(words.first(), Some(&"find")) && ["limit", "next", "descending"].iter().any(|name| args.flag(name))
        {
            return Err(Usage("--limit, --next and --descending belong to `ioto db find`".into()));
        }
        match words.as_slice() {
            ["models"] => Ok(Self::Models),
            ["create", model, fields @ ..] => Ok(Self::Create { model: owned(model), fields: assignments(fields)? }),
            ["get", model, key] => Ok(Self::Get { model: owned(model), key: owned(key) }),
            ["find", model, filters @ ..] => {
                let limit = text("limit").map(|limit| match limit.parse() {
                    Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
                    _ => Err(Usage(format!("--limit: expected a number from 1 to {MAX_LIMIT}, found `{limit}`"))),
                });
                let (limit, next) = (limit.transpose()?, text("next"));
                let descending = args.flag("descending");
                Ok(Self::Find { model: owned(model), filters: assignments(filters)?, limit, next, descending })
            }
            ["update", model, key, fields @ ..] if !fields.is_empty() => {
                Ok(Self::Update { model: owned(model), key: owned(key), fields: assignments(fields)? })
            }
            ["remove", model, key] => Ok(Self::Remove { model: owned(model), key: owned(key) }),
            _ => Err(Usage(
                "expected `ioto db` and one of\n  models\n  create MODEL FIELD=VALUE…\n  get MODEL ID\n  \
                 find MODEL [FIELD=VALUE…] [--limit N] [--next KEY] [--descending]\n  update MODEL ID FIELD=VALUE…\n  remove MODEL ID\n\
                 A value that is JSON is written FIELD:=JSON."
                    .into(),
            )),
        }
    }

    fn run(self, config: &Config, schema: Schema) -> Result<Output, Failure> {
        let model = match &self {
            Self::Models => return Ok(models(&schema)),
            Self::Create { model, .. }
            | Self::Get { model, .. }
            | Self::Find { model, .. }
            | Self::Update { model, .. }
            | Self::Remove { model, .. } => schema.model(model).cloned().ok_or_else(|| unknown(model, &schema))?,
        };
        let door = Door::open(config, schema)?;
        match self {
            Self::Models => Err(Failure("the models were shown already".into())),
            Self::Create { fields, .. } => door.create(&model, item(&model, &fields)?).map(|item| one(&model, item)),
            Self::Get { key, .. } => door.get(&model, &key).map(|item| one(&model, item)),
            Self::Update { key, fields, .. } => {
                door.update(&model, &key, item(&model, &fields)?).map(|item| one(&model, item))
            }
            Self::Remove { key, .. } => {
                door.remove(&model, &key)?;
                Ok(Output { text: String::new(), json: json!({"removed": true}) })
            }
            Self::Find { filters, limit, next, descending, .. } => {
                let filter = item(&model, &filters)?.into();
                door.find(&model, Query { filter, limit, next, descending, ..Query::new() })
                    .map(|page| many(&model, page))
            }
        }
    }
}

fn assignments(words: &[&str]) -> Result<Vec<Assignment>, Usage> {
    let read = |word: &&str| match word.split_once('=') {
        Some((field, text)) if !field.is_empty() && field != ":" => {
            let json = field.ends_with(':');
            Ok(Assignment { field: field.trim_end_matches(':').into(), text: text.into(), json })
        }
        _ => Err(Usage(format!("expected FIELD=VALUE or FIELD:=JSON, found `{word}`"))),
    };
    words.iter().map(read).collect()
}

/// The values in the types of the schema.
fn item(model: &Model, assignments: &[Assignment]) -> Result<Item, Failure> {
    let mut item = Item::new();
    for Assignment { field: name, text, json } in assignments {
        let fail = |rule: &str| Failure(format!("model {}, {name} = {text}: {rule}", model.name()));
        let value = match (json, model.field(name)) {
            (true, _) => serde_json::from_str(text).map_err(|error| fail(&format!("is not JSON: {error}")))?,
            (false, Some(field)) => field.read(text).map_err(|rule| fail(&rule))?,
            (false, None) => {
                let names: Vec<&str> = model.fields().iter().map(Field::name).collect();
                return Err(fail(&format!("is not in the schema; its fields are {}", names.join(", "))));
            }
        };
        if item.insert(name.clone(), value).is_some() {
            return Err(fail("the field is given twice"));
        }
    }
    Ok(item)
}

/// The way to the database.
enum Door {
    Agent(Client),
    File(Db),
}

impl Door {
    fn open(config: &Config, schema: Schema) -> Result<Self, Failure> {
        let client = Client::new(config.directories.api_socket());
        match client.request(Method::Get, "/api/db", None) {
            Ok((200, _)) => Ok(Self::Agent(client)),
            Ok((404, _)) => Err(Failure("the running agent has its database switched off (services.database)".into())),
            Ok((_, answer)) => Err(refusal(&answer)),
            Err(ClientError::NotRunning) => {
                become_owner(&config.database.path)?;
                Ok(Self::File(Db::open(&config.database, schema)?))
            }
            Err(error) => Err(Failure(error.to_string())),
        }
    }

    fn create(&self, model: &Model, item: Item) -> Result<Item, Failure> {
        match self {
            Self::Agent(client) => {
                let answer = ask(client, Method::Post, &path(model, None), Some(&Value::Object(item)))?;
                object(answer)
            }
            Self::File(db) => Ok(smol::block_on(db.create(model.name(), item))?),
        }
    }

    fn get(&self, model: &Model, key: &str) -> Result<Item, Failure> {
        match self {
            Self::Agent(client) => object(ask(client, Method::Get, &path(model, Some(key)), None)?),
            Self::File(db) => smol::block_on(db.get(model.name(), key))?.ok_or_else(|| missing(model, key)),
        }
    }

    fn update(&self, model: &Model, key: &str, changes: Item) -> Result<Item, Failure> {
        match self {
            Self::Agent(client) => {
                object(ask(client, Method::Patch, &path(model, Some(key)), Some(&Value::Object(changes)))?)
            }
            Self::File(db) => Ok(smol::block_on(db.update(model.name(), key, changes))?),
        }
    }

    fn remove(&self, model: &Model, key: &str) -> Result<(), Failure> {
        match self {
            Self::Agent(client) => ask(client, Method::Delete, &path(model, Some(key)), None).map(drop),
            Self::File(db) => match smol::block_on(db.remove(model.name(), key))? {
                true => Ok(()),
                false => Err(missing(model, key)),
            },
        }
    }

    fn find(&self, model: &Model, query: Query) -> Result<Page, Failure> {
        let client = match self {
            Self::Agent(client) => client,
            Self::File(db) => return Ok(smol::block_on(db.find(model.name(), query))?),
        };
        let mut target = path(model, None);
        let mut separator = '?';
        let limit = query.limit.map(|limit| ("limit".to_owned(), Value::from(limit)));
        let next = query.next.map(|next| ("next".to_owned(), Value::from(next)));
        let order = query.descending.then(|| ("order".to_owned(), Value::from("descending")));
        let filter = ("where".to_owned(), query.filter.to_json());
        for (name, value) in [filter].into_iter().chain(limit).chain(next).chain(order) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(target, "{separator}{}={}", percent_encode(&name), percent_encode(&text));
            separator = '&';
        }
        let mut answer = object(ask(client, Method::Get, &target, None)?)?;
        let items = match answer.remove("items") {
            Some(Value::Array(items)) => items.into_iter().map(object).collect::<Result<_, _>>()?,
            _ => return Err(Failure("the agent answered without items".into())),
        };
        Ok(Page { items, next: answer.get("next").and_then(Value::as_str).map(str::to_owned) })
    }
}

/// Files that root makes here could not be opened by the agent: what root does, it does as the owner of the place.
fn become_owner(path: &Path) -> Result<(), Failure> {
    use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
    let owner = path.ancestors().find_map(|place| place.metadata().ok()).map(|place| (place.uid(), place.gid()));
    match owner {
        Some((uid, gid)) if uid != 0 && Uid::effective().is_root() => {
            let result = setgroups(&[]).and_then(|()| setgid(Gid::from_raw(gid)));
            let result = result.and_then(|()| setuid(Uid::from_raw(uid)));
            result.map_err(|error| Failure(format!("cannot become the owner of {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn path(model: &Model, key: Option<&str>) -> String {
    match key {
        Some(key) => format!("/api/db/{}/{}", model.name(), percent_encode(key)),
        None => format!("/api/db/{}", model.name()),
    }
}

fn ask(client: &Client, method: Method, target: &str, body: Option<&Value>) -> Result<Value, Failure> {
    match client.request(method, target, body) {
        Ok((status, answer)) if status < 400 => Ok(answer),
        Ok((_, answer)) => Err(refusal(&answer)),
        Err(error) => Err(Failure(error.to_string())),
    }
}

fn object(value: Value) -> Result<Item, Failure> {
    match value {
        Value::Object(item) => Ok(item),
        _ => Err(Failure("the agent answered without an item".into())),
    }
}

/// The agent's own words.
fn refusal(answer: &Value) -> Failure {
    let message = answer.pointer("/error/message").and_then(Value::as_str);
    Failure(message.unwrap_or("the agent refused and did not say why; see its log").into())
}

fn missing(model: &Model, key: &str) -> Failure {
    Failure(format!("model {} has no item '{key}'", model.name()))
}

fn unknown(model: &str, schema: &Schema) -> Failure {
    let names: Vec<&str> = schema.models().map(|model| model.name()).collect();
    Failure(match names.is_empty() {
        true => format!("there is no model '{model}': the schema has none"),
        false => format!("there is no model '{model}'; the schema has {}", names.join(", ")),
    })
}

fn models(schema: &Schema) -> Output {
    let mut text = String::new();
    let mut list = Vec::new();
    for model in schema.models() {
        let _ = writeln!(text, "{} (sync: {})", model.name(), model.sync());
        let mut fields = Vec::new();
        for field in model.fields() {
            let notes = [
                (field.name() == model.key().name(), "key"),
                (field.required(), "required"),
                (field.generated(), "generated"),
                (field.readonly(), "read-only"),
                (field.hidden(), "hidden"),
            ];
            let notes: Vec<&str> = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
            let line = format!("  {:<16} {:<8} {}", field.name(), field.kind().to_string(), notes.join(", "));
            let _ = writeln!(text, "{}", line.trim_end());
            fields.push(json!({"name": field.name(), "type": field.kind().to_string(), "notes": notes}));
        }
        list.push(json!({"name": model.name(), "sync": model.sync().to_string(), "fields": fields}));
    }
    Output { text, json: json!({"models": list}) }
}

/// An item, a line a field.
fn one(model: &Model, item: Item) -> Output {
    let item = model.visible(item);
    let width = item.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in &item {
        let _ = writeln!(text, "{name:<width$}  {}", shown(value));
    }
    Output { text, json: item.into() }
}

/// Items, a line each.
fn many(model: &Model, page: Page) -> Output {
    let items: Vec<Item> = page.items.into_iter().map(|item| model.visible(item)).collect();
    let fields = model.fields().iter().map(Field::name);
    let columns: Vec<&str> = fields.filter(|name| items.iter().any(|item| item.contains_key(*name))).collect();
    let cell = |item: &Item, name: &str| -> String {
        let text = item.get(name).map(shown).unwrap_or_default();
        match text.chars().count() > WIDEST {
            true => text.chars().take(WIDEST - 1).chain(['…']).collect(),
            false => text,
        }
    };
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|name| name.to_string()).collect()];
    rows.extend(items.iter().map(|item| columns.iter().map(|name| cell(item, name)).collect()));
    let width = |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in rows.iter().filter(|_| !items.is_empty()) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    let mut json = Map::from_iter([("items".to_owned(), Value::from_iter(items.into_iter().map(Value::Object)))]);
    if let Some(next) = page.next {
        let _ = writeln!(text, "More: --next '{next}'");
        json.insert("next".into(), next.into());
    }
    Output { text, json: json.into() }
}

/// A value for people: text without quotes, on one line and without control characters.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        other => other.to_string(),
    }
}

impl From<ioto::db::Error> for Failure {
    fn from(error: ioto::db::Error) -> Self {
        Self(error.to_string())
    }
}
