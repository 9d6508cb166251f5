//! The ways to the database: through the running agent, or directly when none runs.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use ioto::api::{Client, ClientError, percent_encode};
use ioto::config::Config;
use ioto::db::{Db, Done, Filter, Item, Model, Operation, Page, Query, Schema, Update};
use ioto::http1::Method;
use serde_json::{Value, json};

use super::Failure;

/// How long the agent may take for what reads or writes the whole file.
const LONG: Duration = Duration::from_secs(60 * 60);

/// The way to the database.
pub enum Door {
    Agent(Client),
    File(Db),
}

impl Door {
    /// Asks the agent, or opens the file when none runs.
    pub fn open(config: &Config, schema: Schema) -> Result<Self, Failure> {
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

    pub fn create(&self, model: &Model, item: Item) -> Result<Item, Failure> {
        match self {
            Self::Agent(client) => {
                let answer = ask(client, Method::Post, &path(model, None), Some(&Value::Object(item)))?;
                object(answer)
            }
            Self::File(db) => Ok(smol::block_on(db.create(model.name(), item))?),
        }
    }

    pub fn get(&self, model: &Model, key: &str) -> Result<Item, Failure> {
        match self {
            Self::Agent(client) => object(ask(client, Method::Get, &path(model, Some(key)), None)?),
            Self::File(db) => smol::block_on(db.get(model.name(), key))?.ok_or_else(|| missing(model, key)),
        }
    }

    pub fn upsert(&self, model: &Model, item: Item) -> Result<Item, Failure> {
        match self {
            Self::Agent(client) => {
                let target = format!("{}?upsert=true", path(model, None));
                object(ask(client, Method::Post, &target, Some(&Value::Object(item)))?)
            }
            Self::File(db) => Ok(smol::block_on(db.upsert(model.name(), item))?.0),
        }
    }

    pub fn update(&self, model: &Model, key: &str, update: Update) -> Result<Item, Failure> {
        match self {
            Self::Agent(client) => {
                let mut body = update.to_json();
                let set = body.shift_remove("set").and_then(|set| set.as_object().cloned()).unwrap_or_default();
                let orders = body.into_iter().map(|(name, value)| (format!("${name}"), value));
                let body = Value::Object(set.into_iter().chain(orders).collect());
                object(ask(client, Method::Patch, &path(model, Some(key)), Some(&body))?)
            }
            Self::File(db) => Ok(smol::block_on(db.update(model.name(), key, update))?),
        }
    }

    pub fn remove(&self, model: &Model, key: &str, condition: Option<Filter>) -> Result<(), Failure> {
        match (self, condition) {
            (Self::Agent(client), condition) => {
                let mut target = path(model, Some(key));
                if let Some(condition) = condition {
                    let _ = write!(target, "?if={}", percent_encode(&condition.to_json().to_string()));
                }
                ask(client, Method::Delete, &target, None).map(drop)
            }
            (Self::File(db), Some(condition)) => Ok(smol::block_on(db.remove_if(model.name(), key, condition))?),
            (Self::File(db), None) => match smol::block_on(db.remove(model.name(), key))? {
                true => Ok(()),
                false => Err(missing(model, key)),
            },
        }
    }

    /// Batches and transactions; what came of each operation, as JSON.
    pub fn several(&self, schema: &Schema, operations: Vec<Operation>, whole: bool) -> Result<Vec<Value>, Failure> {
        let models: Vec<String> = operations.iter().map(|operation| operation.model().to_owned()).collect();
        match (self, whole) {
            (Self::Agent(client), whole) => {
                let operations: Value = operations.iter().map(Operation::to_json).collect();
                let body = if whole { json!({"transaction": operations}) } else { json!({"batch": operations}) };
                match ask(client, Method::Post, "/api/db", Some(&body))?.get_mut("results").map(Value::take) {
                    Some(Value::Array(results)) => Ok(results),
                    _ => Err(Failure("the agent answered without results".into())),
                }
            }
            (Self::File(db), true) => {
                let done = smol::block_on(db.transact(operations))?;
                Ok(done.iter().zip(&models).map(|(done, model)| done.to_json(schema, model)).collect())
            }
            (Self::File(db), false) => {
                let results = smol::block_on(db.batch(operations))?.into_iter().zip(&models);
                let result = |(result, model): (Result<Done, ioto::db::Error>, &String)| match result {
                    Ok(done) => done.to_json(schema, model),
                    Err(error) => json!({"error": {"code": error.code(), "message": error.to_string()}}),
                };
                Ok(results.map(result).collect())
            }
        }
    }

    /// The newest conflicts of replication, as the API shows them.
    pub fn conflicts(&self, schema: &Schema, limit: usize) -> Result<Value, Failure> {
        match self {
            Self::Agent(client) => ask(client, Method::Get, &format!("/api/db?conflicts&limit={limit}"), None),
            Self::File(db) => {
                let conflicts = smol::block_on(db.conflicts(limit))?;
                let conflicts: Value = conflicts.iter().map(|conflict| conflict.to_json(schema)).collect();
                Ok(json!({"conflicts": conflicts}))
            }
        }
    }

    /// `check`, `compact`, `rekey` or `statistics`.
    pub fn care(&self, task: &str) -> Result<Value, Failure> {
        match (self, task) {
            (Self::Agent(client), "statistics") => ask(client, Method::Get, "/api/db?statistics", None),
            (Self::Agent(client), task) => {
                let client = client.clone().patience(LONG);
                ask(&client, Method::Post, "/api/db", Some(&json!({"task": task})))
            }
            (Self::File(db), "rekey") => Ok(json!({"rows": smol::block_on(db.rekey())?})),
            (Self::File(db), "check") => Ok(smol::block_on(db.verify())?.to_json()),
            (Self::File(db), task) => {
                if task == "compact" {
                    smol::block_on(db.compact())?;
                }
                Ok(smol::block_on(db.statistics())?.to_json())
            }
        }
    }

    /// Copies the database into a new file.
    pub fn backup(&self, to: &Path) -> Result<Value, Failure> {
        if to.exists() {
            return Err(Failure(format!("{} exists already; name a new file", to.display())));
        }
        let bytes = match self {
            Self::Agent(client) => {
                // The agent may write only to its own directories: it makes the copy there, and it is moved from here.
                let client = client.clone().patience(LONG);
                let answer = ask(&client, Method::Post, "/api/db", Some(&json!({"task": "backup"})))?;
                let from = answer["path"].as_str().unwrap_or_default().to_owned();
                let fail = |error| Failure(format!("cannot copy {from} to {}: {error}", to.display()));
                let bytes = std::fs::copy(&from, to).map_err(fail)?;
                std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(fail)?;
                let _ = std::fs::remove_file(&from);
                bytes
            }
            Self::File(db) => smol::block_on(db.backup(to))?,
        };
        Ok(json!({"path": to, "bytes": bytes}))
    }

    /// Gives changes to `take` until the agent stops.
    pub fn watch(
        &self,
        model: Option<&Model>,
        filter: Filter,
        mut take: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let Self::Agent(client) = self else {
            return Err(Failure("no agent runs, so nothing changes; start it to watch its database".into()));
        };
        let target = match model {
            Some(model) => {
                format!("{}?watch&where={}", path(model, None), percent_encode(&filter.to_json().to_string()))
            }
            None => "/api/db?watch".into(),
        };
        let mut is_over = false;
        let answer = client.events(&target, |data| {
            let step = if data.is_empty() { ControlFlow::Continue(()) } else { take(data) };
            is_over = step.is_break();
            step
        });
        match answer {
            Ok(None) if is_over => Ok(()),
            Ok(None) => Err(Failure("the agent has stopped".into())),
            Ok(Some((_, answer))) => Err(refusal(&answer)),
            Err(error) => Err(Failure(error.to_string())),
        }
    }

    pub fn find(&self, model: &Model, query: Query) -> Result<Page, Failure> {
        let client = match self {
            Self::Agent(client) => client,
            Self::File(db) => return Ok(smol::block_on(db.find(model.name(), query))?),
        };
        let mut target = path(model, None);
        let mut separator = '?';
        let limit = query.limit.map(|limit| ("limit".to_owned(), Value::from(limit)));
        let next = query.next.map(|next| ("next".to_owned(), Value::from(next)));
        let descending = query.descending.then(|| ("descending".to_owned(), Value::from("true")));
        let order = query.order.map(|order| ("order".to_owned(), Value::from(order)));
        let fields = Some(query.fields.join(",")).filter(|fields| !fields.is_empty());
        let fields = fields.map(|fields| ("fields".to_owned(), Value::from(fields)));
        let filter = ("where".to_owned(), query.filter.to_json());
        for (name, value) in [filter].into_iter().chain(limit).chain(next).chain(order).chain(fields).chain(descending)
        {
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
pub fn become_owner(path: &Path) -> Result<(), Failure> {
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
