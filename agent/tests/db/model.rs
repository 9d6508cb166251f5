//! Generated sequences of operations and queries, against a naive model in memory.
//!
//! `SEED=n RUNS=1` repeats the run that failed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use ioto::db::{Db, Done, Error, Filter, Heard, Item, Operation, Query, Schema, Test, Update, Watch};
use serde_json::{Value, json};
use smol::block_on;

use super::{Scratch, seed};

const RUNS: u64 = 10_000;
/// One in so many runs is on the disk, with the change log; the others are in memory, where nothing waits for a flush.
const ON_DISK: u64 = 100;

const FIELDS: &str = "{id: {type: 'string'}, name: {type: 'string'}, n: {type: 'number'}, flag: {type: 'boolean'}, \
                      day: {type: 'date'}, list: {type: 'array'}, code: {type: 'string', unique: true}}";

#[derive(Clone, Default)]
struct Naive(BTreeMap<String, Item>);

#[derive(Debug, PartialEq)]
enum Outcome {
    Item(Item, bool),
    Removed(bool),
    Checked,
    Refused(&'static str),
}

impl Naive {
    fn apply(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::Create { item, .. } => self.create(item),
            Operation::Upsert { item, .. } => match self.0.contains_key(item["id"].as_str().unwrap()) {
                true => self.update(item["id"].as_str().unwrap(), &Update::from(item.clone())),
                false => self.create(item),
            },
            Operation::Update { key, update, .. } => self.update(key, update),
            Operation::Remove { key, condition: None, .. } => Outcome::Removed(self.0.remove(key).is_some()),
            Operation::Remove { key, condition: Some(condition), .. } => match self.refusal(key, condition) {
                Some(refused) => refused,
                None => Outcome::Removed(self.0.remove(key).is_some()),
            },
            Operation::Check { key, condition, .. } => self.refusal(key, condition).unwrap_or(Outcome::Checked),
        }
    }

    fn refusal(&self, key: &str, condition: &Filter) -> Option<Outcome> {
        match self.0.get(key) {
            None => Some(Outcome::Refused("missing")),
            Some(item) if !holds(condition, item) => Some(Outcome::Refused("condition")),
            Some(_) => None,
        }
    }

    fn create(&mut self, fields: &Item) -> Outcome {
        let mut item = fields.clone();
        item.retain(|_, value| !value.is_null());
        let key = item["id"].as_str().unwrap().to_owned();
        if item.get("n").is_some_and(|n| !n.is_number()) || self.is_taken(&key, &item) {
            return Outcome::Refused("invalid");
        }
        if self.0.contains_key(&key) {
            return Outcome::Refused("exists");
        }
        self.0.insert(key, item.clone());
        Outcome::Item(item, true)
    }

    fn update(&mut self, key: &str, update: &Update) -> Outcome {
        let always = Filter::All(Vec::new());
        if let Some(refused) = self.refusal(key, update.condition.as_ref().unwrap_or(&always)) {
            return refused;
        }
        let before = self.0[key].clone();
        let mut item = before.clone();
        for (name, value) in &update.set {
            match value {
                Value::Null => drop(item.remove(name)),
                value => drop(item.insert(name.clone(), value.clone())),
            }
        }
        for (name, value) in &update.add {
            if name != "n" {
                return Outcome::Refused("invalid");
            }
            let old = item.get(name).cloned().unwrap_or(json!(0));
            let sum = match (old.as_i64(), value.as_i64()) {
                (Some(a), Some(b)) => json!(a + b),
                _ => json!(old.as_f64().unwrap() + value.as_f64().unwrap()),
            };
            item.insert(name.clone(), sum);
        }
        for (name, value) in &update.push {
            if name != "list" {
                return Outcome::Refused("invalid");
            }
            item.entry(name.clone()).or_insert(json!([])).as_array_mut().unwrap().push(value.clone());
        }
        for name in &update.remove {
            item.remove(name);
        }
        let changed_code = item.get("code") != before.get("code");
        if item.get("n").is_some_and(|n| !n.is_number()) || (changed_code && self.is_taken(key, &item)) {
            return Outcome::Refused("invalid");
        }
        self.0.insert(key.to_owned(), item.clone());
        Outcome::Item(item, false)
    }

    fn is_taken(&self, key: &str, item: &Item) -> bool {
        let taken = |(other, row): (&String, &Item)| other != key && row.get("code") == item.get("code");
        item.contains_key("code") && self.0.iter().any(taken)
    }

    fn find(&self, query: &Query) -> Vec<Item> {
        let mut found: Vec<(&String, &Item)> = self.0.iter().filter(|(_, item)| holds(&query.filter, item)).collect();
        found.sort_by(|(a, x), (b, y)| {
            let by = query.order.as_deref().map_or(Ordering::Equal, |field| rank(x.get(field), y.get(field)));
            let order = by.then(a.cmp(b));
            if query.descending { order.reverse() } else { order }
        });
        let wanted = |item: &Item| {
            let fields = item.iter().filter(|(name, _)| query.fields.is_empty() || query.fields.contains(name));
            fields.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        found.into_iter().map(|(_, item)| wanted(item)).collect()
    }
}

/// What is missing comes first.
fn rank(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(Value::String(a)), Some(Value::String(b))) => a.as_bytes().cmp(b.as_bytes()),
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => u8::from(*a).cmp(&u8::from(*b)),
        (Some(a), Some(b)) => a.as_f64().unwrap().partial_cmp(&b.as_f64().unwrap()).unwrap(),
    }
}

fn holds(filter: &Filter, item: &Item) -> bool {
    let same = |a: &Value, b: &Value| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    };
    match filter {
        Filter::All(filters) => filters.iter().all(|filter| holds(filter, item)),
        Filter::Any(filters) => filters.iter().any(|filter| holds(filter, item)),
        Filter::In(name, values) => values.iter().any(|value| holds(&Filter::equal(name, value.clone()), item)),
        Filter::Compare(name, test, value) => {
            let Some(found) = item.get(name) else {
                return match test {
                    Test::Equal => value.is_null(),
                    Test::Different => !value.is_null(),
                    _ => false,
                };
            };
            match test {
                Test::Equal => same(found, value),
                Test::Different => !same(found, value),
                Test::BeginsWith => found.as_str().unwrap().starts_with(value.as_str().unwrap()),
                Test::Contains => match found {
                    Value::Array(elements) => elements.iter().any(|element| same(element, value)),
                    found => found.as_str().unwrap().contains(value.as_str().unwrap()),
                },
                Test::Less => rank(Some(found), Some(value)).is_lt(),
                Test::AtMost => rank(Some(found), Some(value)).is_le(),
                Test::Greater => rank(Some(found), Some(value)).is_gt(),
                Test::AtLeast => rank(Some(found), Some(value)).is_ge(),
            }
        }
    }
}

fn key(rng: &mut fastrand::Rng) -> String {
    ["a", "b", "c", "ä", "z'; --", "\"", "%", "日本"][rng.usize(..8)].into()
}

fn value(rng: &mut fastrand::Rng, field: &str) -> Value {
    match field {
        "name" => ["", "a", "ab", "abc", "aé", "b%", "\u{10ffff}", "a\u{10ffff}z"][rng.usize(..8)].into(),
        "code" => ["x", "y", "z"][rng.usize(..3)].into(),
        "n" => match rng.u8(..4) {
            0 => json!(f64::from(rng.i8(-3..3)) / 2.0),
            1 => json!(1_000_000_007_i64 * i64::from(rng.i8(-2..2))),
            _ => json!(rng.i8(-3..4)),
        },
        "flag" => rng.bool().into(),
        "day" => format!("2026-0{}-01T00:00:00.000Z", rng.u8(1..5)).into(),
        "list" => (0..rng.usize(..3)).map(|_| element(rng)).collect(),
        _ => panic!("{field}"),
    }
}

fn element(rng: &mut fastrand::Rng) -> Value {
    [json!(1), json!(true), json!("1"), json!(1.5), json!("a"), json!(false), json!(0)][rng.usize(..7)].clone()
}

const NAMES: [&str; 6] = ["name", "n", "flag", "day", "list", "code"];

fn fields(rng: &mut fastrand::Rng) -> Item {
    let mut made = Item::new();
    for name in NAMES {
        match rng.u8(..8) {
            0..4 => drop(made.insert(name.into(), value(rng, name))),
            4 => drop(made.insert(name.into(), Value::Null)),
            5 if name == "n" && rng.u8(..4) == 0 => drop(made.insert(name.into(), "wrong".into())),
            _ => {}
        }
    }
    made
}

fn update(rng: &mut fastrand::Rng) -> Update {
    let mut update = Update::new();
    for name in NAMES {
        match rng.u8(..12) {
            0..3 => update = update.set(name, value(rng, name)),
            3 => update = update.remove(name),
            4 | 5 if name == "n" => update = update.add("n", value(rng, "n")),
            4 | 5 if name == "list" => update = update.push("list", element(rng)),
            6 if rng.u8(..8) == 0 && name == "name" => update = update.add("name", 1),
            6 if rng.u8(..8) == 0 && name == "flag" => update = update.push("flag", 1),
            _ => {}
        }
    }
    match rng.u8(..3) {
        0 => update.only_if(filter(rng, 0)),
        _ => update,
    }
}

fn filter(rng: &mut fastrand::Rng, depth: u8) -> Filter {
    let list = |rng: &mut fastrand::Rng| (0..rng.usize(..4)).map(|_| filter(rng, depth + 1)).collect();
    let name = ["id", "name", "n", "flag", "day"][rng.usize(..5)];
    let operand = |rng: &mut fastrand::Rng| if name == "id" { key(rng).into() } else { value(rng, name) };
    match rng.u8(..14) {
        0 if depth < 2 => Filter::Any(list(rng)),
        1 if depth < 2 => Filter::All(list(rng)),
        2 => Filter::In(name.into(), (0..rng.usize(..4)).map(|_| operand(rng)).collect()),
        3 => Filter::between(name, operand(rng), operand(rng)),
        4 => Filter::begins_with("name", value(rng, "name").as_str().unwrap()),
        5 => Filter::contains("name", value(rng, "name")),
        6 => Filter::contains("list", element(rng)),
        7 => Filter::equal(["name", "list", "n"][rng.usize(..3)], Value::Null),
        8 => Filter::Compare(["name", "list", "n"][rng.usize(..3)].into(), Test::Different, Value::Null),
        _ => {
            let tests = [Test::Equal, Test::Different, Test::Less, Test::AtMost, Test::Greater, Test::AtLeast];
            Filter::Compare(name.into(), tests[rng.usize(..6)], operand(rng))
        }
    }
}

fn operation(rng: &mut fastrand::Rng, model: &str) -> Operation {
    let (model, key) = (model.to_owned(), key(rng));
    let item = |rng: &mut fastrand::Rng| {
        let mut item = fields(rng);
        item.insert("id".into(), key.clone().into());
        item
    };
    match rng.u8(..10) {
        0..3 => Operation::Create { item: item(rng), model },
        3 | 4 => Operation::Upsert { item: item(rng), model },
        5..8 => Operation::Update { model, key, update: update(rng) },
        8 => Operation::Remove { model, key, condition: rng.bool().then(|| filter(rng, 0)) },
        _ => Operation::Check { model, key, condition: filter(rng, 0) },
    }
}

fn query(rng: &mut fastrand::Rng) -> Query {
    let mut query = Query { descending: rng.bool(), limit: Some(rng.usize(1..5)), ..Query::new() };
    if rng.u8(..4) > 0 {
        query.filter = filter(rng, 0);
    }
    if rng.bool() {
        query.order = Some(["id", "name", "n", "flag", "day"][rng.usize(..5)].into());
    }
    if rng.u8(..4) == 0 {
        query.fields = vec!["id".into(), NAMES[rng.usize(..6)].into()];
    }
    query
}

fn outcome(result: Result<Done, Error>) -> Outcome {
    match result {
        Ok(Done::Item(item, created)) => Outcome::Item(item, created),
        Ok(Done::Removed(removed)) => Outcome::Removed(removed),
        Ok(Done::Checked) => Outcome::Checked,
        Err(error) if error.code() == "store" => panic!("{error}"),
        Err(error) => Outcome::Refused(error.code()),
    }
}

async fn single(db: &Db, operation: Operation) -> Result<Done, Error> {
    match operation {
        Operation::Create { model, item } => db.create(&model, item).await.map(|item| Done::Item(item, true)),
        Operation::Upsert { model, item } => db.upsert(&model, item).await.map(|(item, new)| Done::Item(item, new)),
        Operation::Update { model, key, update } => {
            db.update(&model, &key, update).await.map(|item| Done::Item(item, false))
        }
        Operation::Remove { model, key, condition: None } => db.remove(&model, &key).await.map(Done::Removed),
        Operation::Remove { model, key, condition: Some(condition) } => {
            db.remove_if(&model, &key, condition).await.map(|()| Done::Removed(true))
        }
        check => db.batch(vec![check]).await?.remove(0),
    }
}

fn write(db: &Db, naive: &mut Naive, rng: &mut fastrand::Rng, model: &str) {
    let operations: Vec<Operation> = (0..rng.usize(1..5)).map(|_| operation(rng, model)).collect();
    match rng.u8(..3) {
        0 => {
            for operation in operations {
                let expected = naive.apply(&operation);
                assert_eq!(outcome(block_on(single(db, operation.clone()))), expected, "{operation:?}");
            }
        }
        1 => {
            let results = block_on(db.batch(operations.clone())).unwrap();
            for (result, operation) in results.into_iter().zip(operations) {
                assert_eq!(outcome(result), naive.apply(&operation), "{operation:?}");
            }
        }
        _ => {
            let mut after = naive.clone();
            let expected: Vec<Outcome> = operations.iter().map(|operation| after.apply(operation)).collect();
            let refused = expected.iter().position(|outcome| matches!(outcome, Outcome::Refused(_)));
            match (block_on(db.transact(operations.clone())), refused) {
                (Ok(done), None) => {
                    assert_eq!(done.into_iter().map(|done| outcome(Ok(done))).collect::<Vec<_>>(), expected);
                    *naive = after;
                }
                (Err(Error::Step { at, error }), Some(refused)) => {
                    assert_eq!((at, &outcome(Err(*error))), (refused, &expected[refused]), "{operations:?}");
                }
                (result, _) => panic!("{result:?} for {operations:?}, expected {expected:?}"),
            }
        }
    }
}

fn look(db: &Db, naive: &Naive, rng: &mut fastrand::Rng, model: &str) {
    let query = query(rng);
    let (mut found, mut next) = (Vec::new(), None);
    loop {
        let page = block_on(db.find(model, Query { next, ..query.clone() })).unwrap();
        assert!(page.items.len() <= query.limit.unwrap(), "{query:?}");
        found.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
        assert!(found.len() <= 8, "pages without end: {query:?}");
    }
    let expected = naive.find(&query);
    assert_eq!(found, expected, "{query:?} of {:?}", naive.0);
    if rng.u8(..4) == 0 {
        assert_eq!(block_on(db.count_where(model, query)).unwrap(), expected.len() as u64);
    }
}

/// What a watcher heard, laid on what was there when it began.
fn follow(watch: &Watch, rows: &mut BTreeMap<String, Item>) {
    use smol::future::{FutureExt, ready};
    let next = || block_on(async { Some(watch.next().await) }.or(ready(None)));
    while let Some(Some(Heard::Change(change))) = next() {
        assert_eq!(change.before.as_ref(), rows.get(&change.key));
        match &change.after {
            Some(item) => drop(rows.insert(change.key.clone(), item.clone())),
            None => drop(rows.remove(&change.key)),
        }
    }
}

fn run(db: &Db, model: &str, rng: &mut fastrand::Rng) {
    let rows = block_on(db.find(model, Query::new())).unwrap().items;
    let remove =
        |row: Item| Operation::Remove { model: model.into(), key: row["id"].as_str().unwrap().into(), condition: None };
    block_on(db.transact(rows.into_iter().map(remove).collect())).unwrap();
    let mut naive = Naive::default();
    let (watch, mut heard) = (db.watch(Some(model), None).unwrap(), BTreeMap::new());
    for _ in 0..rng.usize(1..6) {
        write(db, &mut naive, rng, model);
        look(db, &naive, rng, model);
    }
    follow(&watch, &mut heard);
    assert_eq!(heard, naive.0);
    if let Some(key) = rng.choice(naive.0.keys()) {
        assert_eq!(block_on(db.get(model, key)).unwrap().as_ref(), naive.0.get(key));
    }
    assert_eq!(block_on(db.count(model)).unwrap(), naive.0.len() as u64);
}

/// A new file knows every row as a change; none of what was undone.
fn compare_change_log(db: &Db, model: &str) {
    let rows = block_on(db.find(model, Query::new())).unwrap().items;
    let pending = block_on(db.pending(1000, &HashSet::new())).unwrap();
    let living: BTreeSet<String> =
        pending.iter().filter(|change| change.item.is_some()).map(|change| change.key.clone()).collect();
    assert_eq!(living, rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect());
    for change in pending {
        let row = rows.iter().find(|row| row["id"] == change.key.as_str());
        assert_eq!(change.item.as_ref(), row);
    }
}

#[test]
fn generated_operations_and_queries_do_what_a_naive_model_does() {
    let runs = std::env::var("RUNS").map_or(RUNS, |runs| runs.parse().unwrap());
    let first = seed();
    let scratch = Scratch::new();
    let text = format!(
        "{{indexes: {{n: {{hash: 'n'}}, name: {{hash: 'flag', sort: 'name'}}}}, \
         process: {{Memory: {{mem: true}}, Disk: {{sync: 'up'}}}}, models: {{Memory: {FIELDS}, Disk: {FIELDS}}}}}"
    );
    let options = ioto::config::Database { path: scratch.file(), ..Default::default() };
    let db = Db::open(&options, Schema::parse(&text, "schema").unwrap()).unwrap();
    for n in 0..runs {
        let seed = first.wrapping_add(n);
        let on_disk = seed % ON_DISK == 0;
        let model = if on_disk { "Disk" } else { "Memory" };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(&db, model, &mut fastrand::Rng::with_seed(seed));
            if on_disk {
                compare_change_log(&db, model);
            }
        }));
        if let Err(panic) = result {
            println!("failed in run {n}: repeat with SEED={seed} RUNS=1");
            std::panic::resume_unwind(panic);
        }
    }
    println!("{runs} runs from SEED={first}");
}
