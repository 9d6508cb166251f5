//! `ioto db`: the database from the command line, through the running agent, or directly when none runs.

mod bulk;
mod door;
mod shown;
mod words;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use ioto::config::Config;
use ioto::db::{Filter, MAX_LIMIT, Model, Query, Schema};
use serde_json::{Value, json};

use self::door::{Door, become_owner};
use self::words::{Assignment, assignments, conditions, filter, item, update};
use super::args::{Args, Usage};
use super::config;
use super::output::{USAGE, complain, print};

/// Conflicts that are shown if nothing is said.
const NEWEST: usize = 100;

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
    match verb.run(&loaded.config, schema, args.flag("json")) {
        Ok(Output { text, .. }) if !args.flag("json") => print(&text),
        Ok(Output { json: Value::Null, .. }) => ExitCode::SUCCESS,
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
    Upsert { model: String, fields: Vec<Assignment> },
    Get { model: String, key: String },
    Find { model: String, conditions: Vec<Assignment>, query: Query },
    Update { model: String, key: String, fields: Vec<Assignment>, condition: Option<Filter> },
    Remove { model: String, key: String, condition: Option<Filter> },
    Several { file: String, whole: bool },
    Watch { model: Option<String>, conditions: Vec<Assignment>, filter: Option<Filter> },
    Import { model: String, file: String, csv: bool },
    Export { model: String, csv: bool },
    Conflicts(Option<usize>),
    Care(&'static str),
    Backup(String),
    Restore(String),
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
        let verb = words.first().copied().unwrap_or_default();
        belong(args, verb)?;
        let filter = text("where").map(|text| Filter::read(&text).map_err(|rule| Usage(format!("--where: {rule}"))));
        let filter = filter.transpose()?;
        let csv = |file: &str| match text("format").as_deref() {
            Some("csv") => Ok(true),
            Some("jsonl") => Ok(false),
            None => Ok(file.ends_with(".csv")),
            Some(other) => Err(Usage(format!("--format: expected jsonl or csv, found `{other}`"))),
        };
        Ok(match words.as_slice() {
            ["models"] => Self::Models,
            ["create", model, fields @ ..] => Self::Create { model: owned(model), fields: assignments(fields)? },
            ["upsert", model, fields @ ..] => Self::Upsert { model: owned(model), fields: assignments(fields)? },
            ["get", model, key] => Self::Get { model: owned(model), key: owned(key) },
            ["find", model, words @ ..] => {
                let mut query = Query { next: text("next"), order: text("order"), ..Query::new() };
                query.limit = limit(text("limit"))?;
                query.descending = args.flag("descending");
                query.fields = text("fields").map_or(Vec::new(), |fields| fields.split(',').map(owned).collect());
                query = filter.into_iter().fold(query, Query::matching);
                Self::Find { model: owned(model), conditions: conditions(words)?, query }
            }
            ["update", model, key, fields @ ..] if !fields.is_empty() => {
                let (model, key) = (owned(model), owned(key));
                Self::Update { model, key, fields: assignments(fields)?, condition: filter }
            }
            ["remove", model, key] => Self::Remove { model: owned(model), key: owned(key), condition: filter },
            ["batch", file] => Self::Several { file: owned(file), whole: false },
            ["transaction", file] => Self::Several { file: owned(file), whole: true },
            ["watch"] if filter.is_some() => return Err(Usage("--where needs a model: ioto db watch MODEL".into())),
            ["watch"] => Self::Watch { model: None, conditions: Vec::new(), filter: None },
            ["watch", model, words @ ..] => {
                Self::Watch { model: Some(owned(model)), conditions: conditions(words)?, filter }
            }
            ["import", model, file] => Self::Import { model: owned(model), file: owned(file), csv: csv(file)? },
            ["export", model] => Self::Export { model: owned(model), csv: csv("")? },
            ["conflicts"] => Self::Conflicts(limit(text("limit"))?),
            ["statistics"] => Self::Care("statistics"),
            ["check"] => Self::Care("check"),
            ["compact"] => Self::Care("compact"),
            ["rekey"] => Self::Care("rekey"),
            ["backup", file] => Self::Backup(owned(file)),
            ["restore", file] => Self::Restore(owned(file)),
            _ => {
                return Err(Usage(
                    "expected `ioto db` and one of\n  models\n  create MODEL FIELD=VALUE…\n  upsert MODEL FIELD=VALUE…\n  \
                     get MODEL ID\n  find MODEL [FIELD=VALUE…] [--where JSON] [--order FIELD] [--limit N] [--next KEY]\n  \
                     update MODEL ID FIELD=VALUE…\n  remove MODEL ID\n  batch FILE, transaction FILE\n  \
                     watch [MODEL [FIELD=VALUE…]]\n  import MODEL FILE, export MODEL [--format jsonl|csv]\n  \
                     conflicts [--limit N]\n  statistics, check, compact, rekey, backup FILE, restore FILE\nA value that is JSON is written FIELD:=JSON."
                        .into(),
                ));
            }
        })
    }

    fn model(&self) -> Option<&str> {
        match self {
            Self::Create { model, .. }
            | Self::Upsert { model, .. }
            | Self::Get { model, .. }
            | Self::Find { model, .. }
            | Self::Update { model, .. }
            | Self::Import { model, .. }
            | Self::Export { model, .. }
            | Self::Remove { model, .. } => Some(model),
            Self::Watch { model, .. } => model.as_deref(),
            _ => None,
        }
    }

    fn run(self, config: &Config, schema: Schema, json: bool) -> Result<Output, Failure> {
        let known = |model: &str| schema.model(model).cloned().ok_or_else(|| unknown(model, &schema));
        let model = self.model().map(known).transpose()?;
        if let Self::Restore(file) = &self {
            return restore(config, file);
        }
        if self == Self::Models {
            return Ok(shown::models(&schema));
        }
        let door = Door::open(config, schema.clone())?;
        match model {
            Some(model) => self.on_model(&door, &model, json),
            None => self.on_all(&door, &schema, json),
        }
    }

    fn on_model(self, door: &Door, model: &Model, json: bool) -> Result<Output, Failure> {
        match self {
            Self::Create { fields, .. } => {
                door.create(model, item(model, &fields)?).map(|item| shown::one(model, item))
            }
            Self::Upsert { fields, .. } => {
                door.upsert(model, item(model, &fields)?).map(|item| shown::one(model, item))
            }
            Self::Get { key, .. } => door.get(model, &key).map(|item| shown::one(model, item)),
            Self::Update { key, fields, condition, .. } => {
                let update = update(model, &fields, condition)?;
                door.update(model, &key, update).map(|item| shown::one(model, item))
            }
            Self::Remove { key, condition, .. } => {
                door.remove(model, &key, condition)?;
                Ok(Output { text: String::new(), json: json!({"removed": true}) })
            }
            Self::Find { conditions, query, .. } => {
                let query = query.matching(filter(model, &conditions)?);
                door.find(model, query).map(|page| shown::many(model, page))
            }
            Self::Watch { conditions, filter: more, .. } => {
                let filter = Filter::all(more.into_iter().chain([filter(model, &conditions)?]));
                watch(door, Some(model), filter, json)
            }
            Self::Import { file, csv, .. } => bulk::import(door, model, &file, csv),
            Self::Export { csv, .. } => bulk::export(door, model, csv),
            _ => Err(Failure("this needs no model".into())),
        }
    }

    fn on_all(self, door: &Door, schema: &Schema, json: bool) -> Result<Output, Failure> {
        match self {
            Self::Several { file, whole } => bulk::several(door, schema, &file, whole),
            Self::Watch { .. } => watch(door, None, Filter::all([]), json),
            Self::Conflicts(limit) => door.conflicts(schema, limit.unwrap_or(NEWEST)).map(shown::conflicts),
            Self::Care(task) => {
                let json = door.care(task)?;
                match json["sound"] == false {
                    true => Err(Failure(format!("the database is damaged: {}", json["findings"]))),
                    false => Ok(Output { text: shown::figures(&json), json }),
                }
            }
            Self::Backup(file) => {
                let json = door.backup(Path::new(&file))?;
                Ok(Output { text: format!("{} bytes in {file}\n", json["bytes"]), json })
            }
            _ => Err(Failure("this needs a model".into())),
        }
    }
}

/// Refuses an option that has no meaning for the verb.
fn belong(args: &Args, verb: &str) -> Result<(), Usage> {
    let finds = ["next", "order", "descending", "fields"];
    if !["find", "conflicts"].contains(&verb) && args.flag("limit") {
        return Err(Usage("--limit belongs to `ioto db` find and conflicts".into()));
    }
    if verb != "find" && finds.iter().any(|name| args.flag(name)) {
        return Err(Usage("--next, --order, --descending and --fields belong to `ioto db find`".into()));
    }
    if args.flag("where") && !["find", "update", "remove", "watch"].contains(&verb) {
        return Err(Usage("--where belongs to `ioto db` find, update, remove and watch".into()));
    }
    match args.flag("format") && !["import", "export"].contains(&verb) {
        true => Err(Usage("--format belongs to `ioto db` import and export".into())),
        false => Ok(()),
    }
}

fn limit(text: Option<String>) -> Result<Option<usize>, Usage> {
    let read = |limit: String| match limit.parse() {
        Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        _ => Err(Usage(format!("--limit: expected a number from 1 to {MAX_LIMIT}, found `{limit}`"))),
    };
    text.map(read).transpose()
}

/// Shows changes, a line each, until the agent stops or nobody reads.
fn watch(door: &Door, model: Option<&Model>, filter: Filter, json: bool) -> Result<Output, Failure> {
    use std::io::Write;
    door.watch(model, filter, |data| {
        let line = if json { data.to_owned() } else { shown::change(data) };
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    Ok(Output { text: String::new(), json: Value::Null })
}

fn restore(config: &Config, file: &str) -> Result<Output, Failure> {
    if !Path::new(file).is_file() {
        return Err(Failure(format!("there is no file {file}")));
    }
    become_owner(&config.database.path)?;
    let before = ioto::db::restore(&config.database, Path::new(file))?;
    let text = match &before {
        Some(before) => format!("Restored; the database from before is {}\n", before.display()),
        None => "Restored\n".into(),
    };
    Ok(Output { text, json: json!({"restored": file, "before": before}) })
}

fn unknown(model: &str, schema: &Schema) -> Failure {
    let names: Vec<&str> = schema.models().map(|model| model.name()).collect();
    Failure(match names.is_empty() {
        true => format!("there is no model '{model}': the schema has none"),
        false => format!("there is no model '{model}'; the schema has {}", names.join(", ")),
    })
}

impl From<ioto::db::Error> for Failure {
    fn from(error: ioto::db::Error) -> Self {
        Self(error.to_string())
    }
}
