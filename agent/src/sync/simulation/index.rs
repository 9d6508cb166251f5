//! The index of a table: what it shows is as the table was a while ago, item by item.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::sync::pull::Scope;

/// What happened to an item, and from when on the index shows it.
struct Entry {
    from: u64,
    key: String,
    /// The item; nothing when it was deleted.
    item: Option<Map<String, Value>>,
}

#[derive(Default)]
pub struct Index(Vec<Entry>);

impl Index {
    /// An item changed; the index shows that from the millisecond `from` on.
    pub fn add(&mut self, from: u64, key: &str, item: Option<&Map<String, Value>>) {
        // Changes of one item are shown in their order.
        let before = self.0.iter().rev().find(|entry| entry.key == key).map_or(0, |entry| entry.from);
        self.0.push(Entry { from: from.max(before), key: key.to_owned(), item: item.cloned() });
    }

    /// A page of the entries from a time on.
    pub fn query(&self, scope: &Scope, limit: usize, start: Option<&Value>, now: u64) -> Value {
        let mut shown: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in self.0.iter().filter(|entry| entry.from <= now) {
            shown.insert(&entry.key, entry);
        }
        let place =
            |item: &Map<String, Value>| Some(item.get("gpk").and(item.get("_ts")?.get("S"))?.as_str()?.to_owned());
        let entries = shown.into_iter().filter_map(|(key, entry)| {
            let item = entry.item.as_ref()?;
            Some(((place(item)?, key.to_owned()), item))
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        let (since, limit) = match scope {
            Scope::Newest => {
                entries.reverse();
                (None, 1)
            }
            Scope::Changes(since) => (since.clone(), limit),
            Scope::Model(_) => panic!("an index is not asked for a model"),
        };
        let behind = start.map(|start| (text(start, "_ts"), text(start, "sk")));
        let is_wanted = |place: &(String, String)| {
            since.as_ref().is_none_or(|since| place.0 >= *since) && behind.as_ref().is_none_or(|behind| place > behind)
        };
        let wanted: Vec<_> = entries.into_iter().filter(|(place, _)| is_wanted(place)).collect();
        let last = wanted.get(limit - 1).filter(|_| wanted.len() > limit).map(|(place, _)| place.clone());
        let items = wanted.into_iter().take(limit).map(|((_, key), item)| with_key(&key, item));
        answer(items.collect(), last.map(|(time, key)| json!({"_ts": {"S": time}, "sk": {"S": key}})))
    }
}

/// A page as the service writes it.
pub fn answer(items: Vec<Value>, next: Option<Value>) -> Value {
    let mut answer = json!({"Items": items});
    if let Some(next) = next {
        answer["LastEvaluatedKey"] = next;
    }
    answer
}

/// An item with its keys.
pub fn with_key(key: &str, item: &Map<String, Value>) -> Value {
    let mut item = item.clone();
    item.insert("pk".into(), json!({"S": "thing#M"}));
    item.insert("sk".into(), json!({"S": key}));
    item.into()
}

fn text(key: &Value, name: &str) -> String {
    key[name]["S"].as_str().unwrap().to_owned()
}
