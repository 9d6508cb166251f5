//! A table with the conditions of DynamoDB, which remembers what was done to it.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::db::Item;
use crate::sync::answer::Answer;
use crate::sync::item::Current;
use crate::sync::pull::{Page, Query, Scope};
use crate::sync::question::{self, Place};

use super::index::{self, Index};

type Attributes = Map<String, Value>;

/// A version that somebody else made, as the device sees it: key, version, document.
pub type Foreign = (String, u64, Option<Item>);

/// Every document that is written is another, and tombstones differ in their version.
pub fn identity((key, version, document): &Foreign) -> String {
    match document {
        Some(document) => format!("{key} {}", json!(document)),
        None => format!("{key} removed at {version}"),
    }
}

#[derive(Default)]
pub struct Cloud {
    items: HashMap<String, Attributes>,
    index: Index,
    /// From when on the index shows the next change.
    pub shown_from: u64,
    /// Operations of the device that were stored, ever.
    pub stored: HashSet<String>,
    /// Operations stored since the item was last deleted or put, and the highest counter of each site, by key.
    since_deleted: HashMap<String, (HashSet<String>, HashMap<String, u64>)>,
    /// What the device wrote, by the database file that it was written from.
    pub written: HashMap<String, String>,
    /// The highest version that an item ever had, by key.
    highest: HashMap<String, u64>,
    /// What others wrote, with hard deletions as version 0 without a document.
    foreign: Vec<Foreign>,
    /// The same, to look them up.
    pub identities: HashSet<String>,
    /// Whether what another database file of the device wrote is somebody else's.
    is_by_file: bool,
    /// Whether two devices have the name at a time.
    has_two: bool,
}

impl Cloud {
    pub fn new(is_by_file: bool, has_two: bool) -> Self {
        Self { is_by_file, has_two, ..Self::default() }
    }

    pub fn current(&self, key: &str) -> Option<Current> {
        self.items.get(key).map(|item| Current::parse(item).unwrap())
    }

    /// Carries out UpdateItem. An error names the invariant that the device violated with it; `is_known` says whether
    /// the device took note of a version that somebody else made.
    pub fn update(
        &mut self,
        request: &Value,
        thing: &str,
        is_known: impl Fn(&Foreign) -> bool,
    ) -> Result<Answer, String> {
        let key = request["Key"]["sk"]["S"].as_str().unwrap().to_owned();
        assert_eq!(request["Key"]["pk"]["S"], format!("{thing}#M"));
        let update =
            Update { names: &request["ExpressionAttributeNames"], values: &request["ExpressionAttributeValues"] };
        if update.values.as_object().unwrap().values().any(|value| value["S"] == "poison") {
            return Ok(Answer::Refused("ValidationException: poison".to_owned()));
        }
        let before = self.items.get(&key);
        if let Some(condition) = request["ConditionExpression"].as_str() {
            if !update.holds(condition, before) {
                let current = before.map(|item| Box::new(Current::parse(item).unwrap()));
                return Ok(Answer::Differs(current));
            }
        }
        let mut after = before.cloned().unwrap_or_default();
        update.apply(request["UpdateExpression"].as_str().unwrap(), &mut after);
        self.check(&key, &after, thing, is_known)?;
        self.index.add(self.shown_from, &key, Some(&after));
        self.note_version(&key, &after);
        self.items.insert(key, after);
        Ok(Answer::Stored)
    }

    /// Somebody else changes the item by the rules: its new document, or nothing to remove it.
    pub fn edit(&mut self, key: &str, value: &str, stamp: &str, random: &mut fastrand::Rng) {
        // What lost its version begins above any that it had: the rule for those who delete for good.
        let last = self.highest.get(key).copied().unwrap_or(0);
        let item = self.items.entry(key.to_owned()).or_default();
        let version = Current::parse(item).unwrap().version.unwrap_or(last) + 1;
        item.insert("pk".into(), json!({"S": "thing#M"}));
        item.insert("_v".into(), json!({"N": version.to_string()}));
        item.insert("_op".into(), json!({"B": format!("cloud-{value}")}));
        item.insert("_w".into(), json!({"S": "cloud:app"}));
        item.insert("_ts".into(), json!({"S": stamp}));
        item.insert("gpk".into(), json!({"S": "thing"}));
        item.insert("_d".into(), json!({"BOOL": random.u8(..) < 40}));
        let is_of_value = !item.contains_key("value") || random.u8(..) < 160;
        if is_of_value {
            item.insert("value".into(), json!({"S": value}));
        }
        if !is_of_value || random.bool() {
            item.insert("color".into(), json!({"S": value}));
        }
        self.index.add(self.shown_from, key, Some(item));
        let item = item.clone();
        self.note_version(key, &item);
        self.remember(key);
    }

    fn note_version(&mut self, key: &str, item: &Attributes) {
        let version = Current::parse(item).unwrap().version.unwrap_or(0);
        let highest = self.highest.entry(key.to_owned()).or_default();
        *highest = version.max(*highest);
    }

    /// Somebody puts an item there as if there were no rules, and wipes out what tells the device's changes apart.
    pub fn put(&mut self, key: &str, value: &str) {
        self.since_deleted.remove(key);
        let item = json!({"pk": {"S": "thing#M"}, "sk": {"S": key}, "value": {"S": value}});
        self.index.add(self.shown_from, key, item.as_object());
        self.items.insert(key.to_owned(), item.as_object().unwrap().clone());
        self.remember(key);
    }

    /// The item disappears without a trace.
    pub fn delete(&mut self, key: &str) {
        self.items.remove(key);
        self.index.add(self.shown_from, key, None);
        self.since_deleted.remove(key);
        self.foreign.push((key.to_owned(), 0, None));
    }

    /// All items, as they are.
    pub fn all(&self) -> impl Iterator<Item = (String, Current)> {
        self.items.iter().map(|(key, item)| (key.clone(), Current::parse(item).unwrap()))
    }

    /// Whether the index has the item, sooner or later.
    pub fn is_indexed(&self, key: &str) -> bool {
        self.items.get(key).is_some_and(|item| item.contains_key("gpk"))
    }

    /// A page of at most so many items.
    pub fn query(&self, scope: &Scope, limit: usize, start: Option<&Value>, now: u64) -> Page {
        let answer = match scope {
            Scope::Newest | Scope::Changes(_) => self.index.query(scope, limit, start, now),
            Scope::Model(_) => {
                let behind = start.map(|start| start["sk"]["S"].as_str().unwrap());
                let mut keys: Vec<_> =
                    self.items.keys().filter(|key| behind.is_none_or(|behind| key.as_str() > behind)).collect();
                keys.sort();
                let last = keys.get(limit - 1).filter(|_| keys.len() > limit).map(|key| json!({"sk": {"S": key}}));
                let items = keys.iter().take(limit).map(|key| index::with_key(key, &self.items[*key]));
                index::answer(items.collect(), last)
            }
        };
        let place = Place { table: "table".into(), index: "changes".into(), thing: "thing".into() };
        question::page(&place, &Query { id: 0, scope: scope.clone(), start: None }, &answer).unwrap()
    }

    /// Whether the item's count of versions ever began anew: it was deleted for good, or put there without the rules. An index that
    /// is behind may then show a higher version of the past, which only a read of the whole puts right.
    pub fn lost_count(&self, key: &str) -> bool {
        self.foreign.iter().any(|(other, version, _)| other == key && *version == 0)
    }

    pub fn was_deleted(&self, key: &str) -> bool {
        self.foreign.iter().any(|(deleted, version, item)| deleted == key && *version == 0 && item.is_none())
    }

    fn remember(&mut self, key: &str) {
        let current = self.current(key).unwrap();
        let version = (key.to_owned(), current.version.unwrap_or(0), current.item);
        self.identities.insert(identity(&version));
        self.foreign.push(version);
    }

    /// The invariants that can be seen where a write of the device replaces `before` by `after`.
    fn check(
        &mut self,
        key: &str,
        after: &Attributes,
        thing: &str,
        is_known: impl Fn(&Foreign) -> bool,
    ) -> Result<(), String> {
        let now = Current::parse(after).unwrap();
        assert!(now.version >= Some(1));
        let (op, site) = (now.op.clone().unwrap(), now.site.clone().unwrap());
        let counter = now.counter.unwrap();
        if let Some(before) = self.items.get(key) {
            let was = Current::parse(before).unwrap();
            if was.version.is_some_and(|version| now.version != Some(version + 1)) {
                return Err(format!("I4 version {:?} of {key} follows {:?}", now.version, was.version));
            }
            let is_ours = was.writer.as_deref() == Some(thing) && (!self.is_by_file || was.site == now.site);
            if !is_ours || was.version.is_none() {
                let version = (key.to_owned(), was.version.unwrap_or(0), was.item);
                // One put without a version cannot be told from the next: to have recorded any of them is enough.
                let put = |other: &Foreign| version.1 == 0 && other.0 == key && other.1 == 0 && is_known(other);
                if !is_known(&version) && !self.foreign.iter().any(put) {
                    return Err(format!("I3 silent overwrite of {version:?}"));
                }
            }
            if before.contains_key("color") && !after.contains_key("color") {
                return Err(format!("I10 an attribute that the device does not know was removed from {key}"));
            }
        }
        let (ops, counters) = self.since_deleted.entry(key.to_owned()).or_default();
        // An item has room for one counter: what was stored before another device of this name wrote is not known.
        let site_before = self.items.get(key).and_then(|before| Current::parse(before).unwrap().site);
        let is_of_another = self.has_two && site_before != now.site;
        if !ops.insert(op.clone()) && !is_of_another {
            return Err(format!("I3b/I4 the change {counter} of {key} was stored twice"));
        }
        let last = counters.insert(site, counter);
        if last.is_some_and(|last| last > counter || last == counter && !is_of_another) {
            return Err(format!("I5 the change {counter} of {key} was stored after a newer one"));
        }
        if ["_ts", "gpk", "ttl"].iter().any(|name| after.contains_key(*name)) {
            return Err(format!("I8 {key} would come back to the device that wrote it"));
        }
        self.stored.insert(op);
        let version = (key.to_owned(), now.version.unwrap_or(0), now.item);
        self.written.insert(identity(&version), now.site.unwrap_or_default());
        Ok(())
    }
}

/// DynamoDB refuses a request that defines what it does not use; what is used and not defined shows by itself.
pub fn check_use(request: &Value) {
    let text = format!("{} {}", request["UpdateExpression"], request["ConditionExpression"]);
    let used: HashSet<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '#' && c != ':').collect();
    for definitions in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
        for defined in request[definitions].as_object().unwrap().keys() {
            assert!(used.contains(defined.as_str()), "{defined} is defined and not used: {request}");
        }
    }
}

/// The expressions of a request, as far as the device uses them.
struct Update<'a> {
    names: &'a Value,
    values: &'a Value,
}

impl Update<'_> {
    fn holds(&self, condition: &str, item: Option<&Attributes>) -> bool {
        condition.split(" OR ").any(|all| all.split(" AND ").all(|term| self.term(term.trim(), item)))
    }

    fn term(&self, term: &str, item: Option<&Attributes>) -> bool {
        let inner = |function: &str| term.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(name) = inner("attribute_not_exists") {
            return self.attribute(name, item).is_none();
        }
        if let Some(name) = inner("attribute_exists") {
            return self.attribute(name, item).is_some();
        }
        let (name, value) = term.split_once(" = ").unwrap();
        self.attribute(name, item).is_some_and(|is| is == &self.values[value])
    }

    fn attribute<'i>(&self, name: &str, item: Option<&'i Attributes>) -> Option<&'i Value> {
        item?.get(self.name(name))
    }

    fn name<'n>(&'n self, name: &'n str) -> &'n str {
        if name.starts_with('#') { self.names[name].as_str().unwrap() } else { name }
    }

    fn apply(&self, expression: &str, item: &mut Attributes) {
        let (sets, removes) =
            expression.strip_prefix("SET ").unwrap().split_once(" REMOVE ").unwrap_or((expression, ""));
        for set in sets.trim_start_matches("SET ").split(',') {
            let (name, value) = set.split_once('=').unwrap();
            assert!(!self.values[value].is_null(), "{value} is not defined");
            item.insert(self.name(name).to_owned(), self.values[value].clone());
        }
        for name in removes.split(',').filter(|name| !name.is_empty()) {
            item.shift_remove(self.name(name));
        }
        item.entry("pk").or_insert(json!({"S": "thing#M"}));
    }
}
