//! Changes of the schema against what is stored. What only adds is taken over at once; what the stored items do not fit is
//! refused, and nothing is changed.
//!
//! A schema that the file was used with before is taken again without a look: after an update was rolled back, the earlier firmware
//! works on, whatever the later one wrote. So it does with attributes and models that it does not know, which it keeps.

use rusqlite::Connection;
use serde_json::{Map, Value};

use super::error::Error;
use super::generate::Generator;
use super::outbox;
use super::query::Item;
use super::rows::{column, item, table};
use super::schema::{Field, Model, Part, Schema, Sync};
use super::seal;
use super::validate::{self, Maker};

/// Schemas of a model that are remembered.
const REMEMBERED: usize = 8;

/// Refuses a schema that the stored items do not fit. All that is wrong is in the one error, a line each.
pub(super) fn check(connection: &Connection, schema: &Schema, generator: &mut Generator) -> Result<(), Error> {
    let mut findings = Vec::new();
    let mut accepted = Vec::new();
    for model in schema.models().filter(|model| !model.process().memory) {
        let name = format!("rules:{}", model.name());
        let text: Option<String> = outbox::state(connection, &name)?;
        let mut known: Vec<Value> = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let rules = Value::Object(rules(model));
        if known.last() == Some(&rules) {
            continue;
        }
        match known.iter().position(|earlier| *earlier == rules) {
            Some(at) => {
                log::info!("model {}: the schema is an earlier one again, what was stored since is kept", model.name());
                known.remove(at);
            }
            None => {
                let mut maker = Maker { model, context: &schema.context, generator: &mut *generator, now: 0 };
                let found = Changed::new(model, known.last()).findings(connection, &mut maker)?;
                for Finding { text, is_key } in found {
                    // What the cloud wrote it alone can change, and it can only be asked by one who runs.
                    match model.sync() == Sync::Down || model.sync().down() && !is_key {
                        true => log::warn!("{text}"),
                        false => findings.push(text),
                    }
                }
            }
        }
        known.push(rules);
        known.drain(..known.len().saturating_sub(REMEMBERED));
        accepted.push((name, Value::Array(known).to_string()));
    }
    if !findings.is_empty() {
        let advice = "nothing was changed; go back to the schema from before, or change the items first, with that";
        return Err(Error::Schema(format!(
            "the stored items do not fit the schema: {}: {advice}",
            findings.join("; ")
        )));
    }
    accepted.iter().try_for_each(|(name, text)| outbox::set_state(connection, name, text))
}

/// What items have to be like, by field; the key under `$key`.
fn rules(model: &Model) -> Map<String, Value> {
    let mut rules = Map::new();
    rules.insert("$key".into(), format!("{} {}", model.key().name(), template(model.key())).into());
    for field in model.fields() {
        let mut rule = field.kind().to_string();
        if demands(field) {
            rule += " required";
        }
        if field.unique() {
            rule += " unique";
        }
        if !field.choices().is_empty() {
            rule += &format!(" of {}", Value::from(field.choices().to_vec()));
        }
        rules.insert(field.name().into(), rule.into());
    }
    rules
}

/// Whether an item without the field does not fit: one that is made by the database, or has a default, is made with the next
/// change.
fn demands(field: &Field) -> bool {
    field.required() && !field.generated() && field.default.is_none()
}

fn template(field: &Field) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Variable(name) => format!("${{{name}}}"),
    };
    field.template.iter().flat_map(|template| template.parts.iter().map(part)).collect()
}

/// What does not fit.
struct Finding {
    text: String,
    /// Items would not be found by their keys.
    is_key: bool,
}

/// What is different in a model.
struct Changed<'m> {
    model: &'m Model,
    key: bool,
    fields: Vec<&'m Field>,
}

impl<'m> Changed<'m> {
    fn new(model: &'m Model, before: Option<&Value>) -> Self {
        let rules = rules(model);
        let differs = |name: &str| before.is_none_or(|before| before.get(name) != rules.get(name));
        let fields = model.fields().iter().filter(|field| differs(field.name())).collect();
        Self { model, key: differs("$key"), fields }
    }

    fn findings(&self, connection: &Connection, maker: &mut Maker<'_>) -> Result<Vec<Finding>, Error> {
        let mut findings = self.read(connection, maker)?;
        for field in self.fields.iter().filter(|field| field.unique()) {
            let text = self.double(connection, field)?;
            findings.extend(text.map(|text| Finding { text, is_key: false }));
        }
        Ok(findings)
    }

    /// Reads the items once; of each field the first that does not fit is told, and how many there are.
    fn read(&self, connection: &Connection, maker: &mut Maker<'_>) -> Result<Vec<Finding>, Error> {
        if !self.key && self.fields.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Vec<(String, u64)> = vec![Default::default(); self.fields.len() + 1];
        let mut statement = connection.prepare(&format!("SELECT key, doc FROM {}", table(self.model)))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            let item = item(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?;
            let unfit = self.fields.iter().map(|field| unfit(field, &item));
            let unfit = unfit.chain([self.key.then(|| other_key(maker, &key, &item)).flatten()]);
            for ((text, count), unfit) in found.iter_mut().zip(unfit) {
                if let Some(what) = unfit {
                    *count += 1;
                    if *count == 1 {
                        *text = format!("the item '{key}' {what}");
                    }
                }
            }
        }
        let names = self.fields.iter().map(|field| (*field, false)).chain([(self.model.key(), true)]);
        let told = names.zip(found).filter(|(_, (_, count))| *count > 0).map(|((field, is_key), (text, count))| {
            let others = if count == 1 { String::new() } else { format!(" (and {} others)", count - 1) };
            Finding { text: format!("model {}, field {}: {text}{others}", self.model.name(), field.name()), is_key }
        });
        Ok(told.collect())
    }

    fn double(&self, connection: &Connection, field: &Field) -> Result<Option<String>, Error> {
        let column = column(field.name());
        let sql = format!(
            "SELECT min(key), max(key), {column} FROM {} WHERE {column} IS NOT NULL GROUP BY {column} \
             HAVING count(*) > 1 LIMIT 1",
            table(self.model)
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (one, other): (String, String) = (row.get(0)?, row.get(1)?);
        let place = format!("model {}, field {}", self.model.name(), field.name());
        Ok(Some(format!("{place}: the items '{one}' and '{other}' have the same value, and it must be unique now")))
    }
}

/// Why an item is not found by its key any more.
fn other_key(maker: &Maker<'_>, key: &str, item: &Item) -> Option<String> {
    match maker.key_of(item) {
        Some(other) if other == key => None,
        Some(other) => {
            Some(format!("would have the key '{other}'; the key of a model cannot be changed, use a new model"))
        }
        None => Some("has its key in another field; the key of a model cannot be changed, use a new model".into()),
    }
}

/// Why an item does not fit a field.
fn unfit(field: &Field, item: &Item) -> Option<String> {
    match item.get(field.name()) {
        Some(value) if seal::is_sealed(value) => None,
        Some(value) => {
            let rule = validate::check(field, value).err()?;
            let shown: String = value.to_string().chars().take(60).collect();
            Some(format!("has {shown}, and {rule} now"))
        }
        None if demands(field) => {
            Some("has no value, and it is required now; give the field a `default`, or each item a value".into())
        }
        None => None,
    }
}
