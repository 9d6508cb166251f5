//! A row as an item of the DynamoDB table: its keys, its attributes, and the request that writes it.
//!
//! | attribute | type | meaning |
//! |---|---|---|
//! | `pk` | S | `THING#MODEL`: a thing's items share a leading key, which an IAM policy can be limited to |
//! | `sk` | S | the key of the row |
//! | fields | any | the fields of the document, under their own names |
//! | `_v` | N | version: every writer adds one |
//! | `_op` | B | random id of the write, so that a repeated request is recognised |
//! | `_w` | S | who wrote: the thing's name, or `cloud:NAME` |
//! | `_dn`, `_ds` | N, S | the device's change counter at its last write here, and the database file that counts |
//! | `_d` | BOOL | the row was removed: a tombstone |
//! | `_s` | S | version of the schema that the writer knew |
//! | `_ts`, `gpk` | S | keys of an index, set by cloud writers; a device's write takes them away, lest it come back |
//! | `ttl` | N | when DynamoDB may delete a tombstone; a device's write takes it away |
//!
//! Whoever writes from the cloud uses UpdateItem on the condition that `_v` is what was read, sets `_v` to one more,
//! `_op` to a new random value and `_w` to its own name, and leaves `_dn` and `_ds` alone.
//! It removes an item with a tombstone; if it ever deletes for good, a new item of that key begins with a `_v` above any
//! that the old one had, for a version must not come twice. An item that somebody put there without `_v` is taken for a
//! conflict once; a second such put before the device writes cannot be told from the first. Where a count began anew in one of
//! these ways while the index was behind, a device that reads may take a past version; its next read of the whole puts that right.
//!
//! **Reserved names.** A field whose name begins with `_`, or is `pk`, `sk`, `gpk` or `ttl`, would collide with the
//! above. It travels as `_.NAME` (`pk` as `_.pk`), and gets its own name back on the device; nothing is dropped and no
//! schema is refused.
//!
//! **Removed fields.** A field that the schema declares and the document does not have is removed from the item. An
//! attribute that this firmware's schema does not know stays, also on a tombstone: a newer firmware or the cloud owns
//! it.
//!
//! **Limits** (AWS: "Service, account, and table quotas in Amazon DynamoDB", "Expressions"): `sk` 1 to 1024 bytes, `pk`
//! up to 2048, an item 400 KB, an expression 4 KB, which is room for about 250 fields a document.

use serde_json::{Map, Value, json};

use super::answer::Over;
use super::engine::Push;
use crate::aws::attribute::{decode, encode, write, write_name};
use crate::db::Item;
use crate::net::{self, base64};

/// Most bytes of a partition key.
const PARTITION_KEY: usize = 2048;
/// Most bytes of a sort key.
const SORT_KEY: usize = 1024;
/// Most bytes of an item, names included.
const ITEM: usize = 400 * 1024;
/// Highest version: counting never reaches it, and from there it never reaches what SQLite cannot store.
const VERSION: u64 = (i64::MAX / 2) as u64;
/// Attributes that only others set, and that must not outlive a device's write.
const FOREIGN: [&str; 3] = ["_ts", "gpk", "ttl"];

/// Who writes: what the device's writes are stamped with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The thing's name: leading part of `pk`, and `_w`.
    pub thing: String,
    /// Id of the database file, made with it: `_ds`. Change counters are compared only where it is equal.
    pub site: String,
    /// Version of the schema: `_s`.
    pub schema: String,
}

/// An item as it stands in the cloud.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Current {
    /// `_v`; nothing where somebody wrote without the rules of this page.
    pub version: Option<u64>,
    /// `_op`, in base64 as the service writes it.
    pub op: Option<String>,
    /// `_w`
    pub writer: Option<String>,
    /// `_dn`
    pub counter: Option<u64>,
    /// `_ds`
    pub site: Option<String>,
    /// `_ts`, in milliseconds of UTC: when a cloud writer wrote.
    pub written: Option<i64>,
    /// The document; nothing for a tombstone.
    pub item: Option<Item>,
}

impl Current {
    /// Reads the attributes of an item. An error says what makes it unreadable, in words.
    pub fn parse(attributes: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str, kind: &str| attributes.get(name)?.get(kind)?.as_str().map(str::to_owned);
        let number = |name: &str| match attributes.get(name) {
            None => Ok(None),
            Some(value) => match value.get("N").and_then(Value::as_str).and_then(|text| text.parse().ok()) {
                Some(number) if number <= VERSION => Ok(Some(number)),
                _ => Err(format!("the attribute {name} of the item in the cloud is {value}, not a number that counts")),
            },
        };
        let deleted = attributes.get("_d").and_then(|value| value.get("BOOL")).and_then(Value::as_bool) == Some(true);
        let document = || {
            let fields = attributes.iter().filter_map(|(name, value)| Some((field(name)?.to_owned(), decode(value))));
            fields.collect()
        };
        Ok(Self {
            version: number("_v")?,
            op: text("_op", "B"),
            writer: text("_w", "S"),
            counter: number("_dn")?,
            site: text("_ds", "S"),
            written: text("_ts", "S").and_then(|time| net::parse_iso8601(&time)),
            item: (!deleted).then(document),
        })
    }

    /// Whether the write with this id is the one that made the item what it is.
    pub fn is_from(&self, op: &[u8; 16]) -> bool {
        self.op.as_deref() == Some(&base64::encode(op))
    }
}

/// The body of the UpdateItem request that writes `push` into `table`, on the condition that the item is still what the
/// device last saw. `fields` are those that the schema declares for the model.
///
/// The request asks for the current item if the condition fails, and for nothing if it holds: the new version is then
/// the expected one plus one. A repeated request fails the condition and is recognised by its `_op`; letting it through
/// instead (`OR _op = mine`) would set `_v` back when it is delivered late.
///
/// # Errors
/// Why this row can never be stored as it is, in words.
pub fn update(table: &str, writer: &Writer, push: &Push, fields: &[String]) -> Result<Value, String> {
    let row = &*push.row;
    let partition = format!("{}#{}", writer.thing, row.model);
    check(&partition, &row.key, row.item.as_ref())?;

    let mut request = Expression::default();
    let [version, ..] = stamps(writer, push).map(|(name, value)| request.set(name, value));

    let empty = Item::new();
    let document = row.item.as_ref().unwrap_or(&empty);
    for (name, value) in document {
        match value {
            Value::Null => request.remove(&attribute(name)),
            value => drop(request.set(&attribute(name), encode(value))),
        }
    }
    for name in fields.iter().filter(|name| !document.contains_key(*name)) {
        request.remove(&attribute(name));
    }
    for name in FOREIGN {
        request.remove(name);
    }

    let condition = match push.over {
        Over::Nothing => "attribute_not_exists(pk)".to_owned(),
        Over::Known => {
            let value = request.value(json!({"N": row.base.to_string()}));
            format!("{version} = {value}")
        }
        Over::Unversioned => format!("attribute_exists(pk) AND attribute_not_exists({version})"),
    };
    Ok(json!({
        "TableName": table,
        "Key": {"pk": {"S": partition}, "sk": {"S": row.key}},
        "UpdateExpression": format!("SET {} REMOVE {}", request.sets.join(","), request.removes.join(",")),
        "ConditionExpression": condition,
        "ExpressionAttributeNames": request.names,
        "ExpressionAttributeValues": request.values,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }))
}

/// The row as a new item as a whole, which replaces whatever has its key: its text, behind what is there already.
///
/// # Errors
/// Why this row can never be stored as it is, in words; nothing was written then.
pub fn put(writer: &Writer, push: &Push, text: &mut Vec<u8>) -> Result<(), String> {
    let row = &*push.row;
    let partition = format!("{}#{}", writer.thing, row.model);
    check(&partition, &row.key, row.item.as_ref())?;
    let stamps = stamps(writer, push);
    text.push(b'{');
    for (name, value) in [("pk", &partition), ("sk", &row.key)] {
        write_name(name, text);
        write(&Value::from(value.as_str()), text);
        text.push(b',');
    }
    let fields = row.item.iter().flatten().filter(|(_, value)| !value.is_null());
    for (name, value) in fields {
        write_name(&attribute(name), text);
        write(value, text);
        text.push(b',');
    }
    for (at, (name, value)) in stamps.iter().enumerate() {
        text.extend((at > 0).then_some(b','));
        write_name(name, text);
        text.extend(value.to_string().as_bytes());
    }
    text.push(b'}');
    Ok(())
}

/// What a device's write says of itself.
fn stamps(writer: &Writer, push: &Push) -> [(&'static str, Value); 7] {
    let row = &*push.row;
    [
        ("_v", json!({"N": push.version().to_string()})),
        ("_op", json!({"B": base64::encode(&row.op)})),
        ("_w", json!({"S": writer.thing})),
        ("_dn", json!({"N": row.n.to_string()})),
        ("_ds", json!({"S": writer.site})),
        ("_d", json!({"BOOL": row.item.is_none()})),
        ("_s", json!({"S": writer.schema})),
    ]
}

/// The same as a change of the protocol over MQTT (`agent/cloud/PROTOCOL.md`), of which the cloud makes the request.
///
/// # Errors
/// Why this row can never be stored as it is, in words.
#[cfg(feature = "mqtt")]
pub fn change(thing: &str, push: &Push, fields: &[String]) -> Result<Value, String> {
    let row = &*push.row;
    check(&format!("{thing}#{}", row.model), &row.key, row.item.as_ref())?;
    let empty = Item::new();
    let document = row.item.as_ref().unwrap_or(&empty);
    let (nulls, values): (Vec<_>, Vec<_>) = document.iter().partition(|(_, value)| value.is_null());
    let set: Map<String, Value> = values.into_iter().map(|(name, value)| (attribute(name), encode(value))).collect();
    let absent = fields.iter().filter(|name| !document.contains_key(*name));
    let remove: Vec<String> =
        nulls.into_iter().map(|(name, _)| name).chain(absent).map(|name| attribute(name)).collect();
    let over = match push.over {
        Over::Nothing => "nothing",
        Over::Known => "known",
        Over::Unversioned => "unversioned",
    };
    Ok(json!({
        "model": row.model, "sk": row.key, "over": over, "base": push.version() - 1, "op": base64::encode(&row.op), "n": row.n,
        "del": row.item.is_none(), "set": set, "remove": remove,
    }))
}

/// An update expression in the making. Every name goes through a placeholder: some 570 words are reserved, `name` and
/// `value` among them. No name comes twice: fields that could meet an attribute of the protocol have another name.
#[derive(Default)]
struct Expression {
    sets: Vec<String>,
    removes: Vec<String>,
    names: Map<String, Value>,
    values: Map<String, Value>,
}

impl Expression {
    /// Returns what stands for the name.
    fn set(&mut self, name: &str, value: Value) -> String {
        let name = self.name(name);
        let value = self.value(value);
        self.sets.push(format!("{name}={value}"));
        name
    }

    fn remove(&mut self, name: &str) {
        let name = self.name(name);
        self.removes.push(name);
    }

    fn name(&mut self, name: &str) -> String {
        let placeholder = format!("#{}", self.names.len());
        self.names.insert(placeholder.clone(), name.into());
        placeholder
    }

    fn value(&mut self, value: Value) -> String {
        let placeholder = format!(":{}", self.values.len());
        self.values.insert(placeholder.clone(), value);
        placeholder
    }
}

/// The attribute that holds the field `name`.
fn attribute(name: &str) -> String {
    if name.starts_with('_') || matches!(name, "pk" | "sk" | "gpk" | "ttl") {
        format!("_.{name}")
    } else {
        name.to_owned()
    }
}

/// The field that the attribute `name` holds; nothing for those of the protocol.
fn field(name: &str) -> Option<&str> {
    match name.strip_prefix("_.") {
        Some(reserved) => Some(reserved),
        None if name.starts_with('_') || matches!(name, "pk" | "sk" | "gpk" | "ttl") => None,
        None => Some(name),
    }
}

/// Refuses what the service is sure to refuse, before it costs a request.
fn check(partition: &str, key: &str, item: Option<&Item>) -> Result<(), String> {
    if key.is_empty() {
        return Err("the key is empty, which DynamoDB does not store".to_owned());
    }
    if key.len() > SORT_KEY {
        return Err(format!("the key has {} bytes; DynamoDB stores at most {SORT_KEY}", key.len()));
    }
    if partition.len() > PARTITION_KEY {
        return Err(format!("thing and model have {} bytes; DynamoDB stores at most {PARTITION_KEY}", partition.len()));
    }
    let size: usize = item.into_iter().flatten().map(|(name, value)| name.len() + at_least(value)).sum();
    if size > ITEM {
        return Err(format!("the document has {size} bytes; DynamoDB stores at most {ITEM}: keep large content in S3"));
    }
    Ok(())
}

/// Bytes that a value takes in an item at the least, so that nothing is refused here that the service would take.
fn at_least(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(at_least).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + at_least(value)).sum(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::db::changelog::Pending;

    fn push(base: u64, over: Over, item: Option<Value>) -> Push {
        let item = item.map(|item| item.as_object().unwrap().clone());
        let (model, key) = ("Reading".to_owned(), "r1".to_owned());
        let row = Pending { model, key, n: 7, op: [0; 16], base, is_anew: false, item, changed: 0, recorded: 0 };
        Push::new(1, row, over)
    }

    fn request(push: &Push, fields: &[&str]) -> Result<Value, String> {
        let writer = Writer { thing: "lamp".into(), site: "s1".into(), schema: "1.0".into() };
        let fields: Vec<_> = fields.iter().map(|name| (*name).to_owned()).collect();
        update("table", &writer, push, &fields)
    }

    /// The assignments and removals of a request, with names and values in place of what stands for them.
    fn read(request: &Value) -> (Map<String, Value>, Vec<String>) {
        let name = |placeholder: &str| request["ExpressionAttributeNames"][placeholder].as_str().unwrap().to_owned();
        let update = request["UpdateExpression"].as_str().unwrap();
        let (sets, removes) = update.strip_prefix("SET ").unwrap().split_once(" REMOVE ").unwrap();
        let set = |set: &str| {
            let (left, right) = set.split_once('=').unwrap();
            (name(left), request["ExpressionAttributeValues"][right].clone())
        };
        (sets.split(',').map(set).collect(), removes.split(',').map(name).collect())
    }

    #[test]
    fn an_item_carries_the_fields_and_the_stamps_of_its_writer() {
        let request =
            request(&push(4, Over::Known, Some(json!({"name": "t", "value": 2.5}))), &["name", "value"]).unwrap();
        assert_eq!(request["TableName"], "table");
        assert_eq!(request["Key"], json!({"pk": {"S": "lamp#Reading"}, "sk": {"S": "r1"}}));
        assert_eq!(request["ReturnValuesOnConditionCheckFailure"], "ALL_OLD");
        assert_eq!(request.get("ReturnValues"), None);
        let (set, removed) = read(&request);
        let expected = json!({
            "_v": {"N": "5"}, "_op": {"B": "AAAAAAAAAAAAAAAAAAAAAA=="}, "_w": {"S": "lamp"}, "_dn": {"N": "7"},
            "_ds": {"S": "s1"}, "_d": {"BOOL": false}, "_s": {"S": "1.0"}, "name": {"S": "t"}, "value": {"N": "2.5"},
        });
        assert_eq!(Value::Object(set), expected);
        assert_eq!(removed, ["_ts", "gpk", "ttl"]);
    }

    #[test]
    fn an_item_as_a_whole_has_the_same_in_it() {
        let writer = Writer { thing: "lamp".into(), site: "s1".into(), schema: "1.0".into() };
        let made = push(0, Over::Nothing, Some(json!({"name": "t", "pk": 2.5, "no": null})));
        let (mut set, _) = read(&update("table", &writer, &made, &[]).unwrap());
        set.insert("pk".into(), json!({"S": "lamp#Reading"}));
        set.insert("sk".into(), json!({"S": "r1"}));
        let mut text = Vec::new();
        put(&writer, &made, &mut text).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), Value::Object(set));
        let large = json!({"text": "x".repeat(400 * 1024)});
        let before = text.clone();
        assert!(put(&writer, &push(0, Over::Nothing, Some(large)), &mut text).is_err());
        assert_eq!(text, before);
    }

    #[test]
    fn absent_fields_and_nulls_are_removed_and_unknown_attributes_are_left() {
        let request = request(&push(1, Over::Known, Some(json!({"a": 1, "b": null}))), &["a", "b", "c"]).unwrap();
        let (set, removed) = read(&request);
        assert!(set.contains_key("a") && !set.contains_key("b"));
        assert_eq!(removed, ["b", "c", "_ts", "gpk", "ttl"]);
    }

    #[test]
    fn a_removed_row_becomes_a_tombstone_without_its_fields() {
        let (set, removed) = read(&request(&push(1, Over::Known, None), &["a", "pk"]).unwrap());
        assert_eq!(set["_d"], json!({"BOOL": true}));
        assert_eq!(removed, ["a", "_.pk", "_ts", "gpk", "ttl"]);
    }

    #[test]
    fn reserved_names_travel_under_another_and_come_back() {
        let item = json!({"pk": "x", "sk": 1, "_v": "mine", "_": true, "ttl": 5, "gpk": "y", "_.z": [], "plain": {}});
        let (set, _) = read(&request(&push(0, Over::Nothing, Some(item.clone())), &[]).unwrap());
        assert_eq!(set["_v"], json!({"N": "1"}));
        assert_eq!(set["_._v"], json!({"S": "mine"}));
        assert_eq!(set["_.pk"], json!({"S": "x"}));
        assert_eq!(Value::Object(Current::parse(&set).unwrap().item.unwrap()), item);
    }

    #[cfg(feature = "mqtt")]
    #[test]
    fn a_change_over_mqtt_says_the_same() {
        let fields: Vec<String> = ["pk", "a", "b", "c"].map(str::to_owned).to_vec();
        let of = |base, over, item| change("lamp", &push(base, over, item), &fields);
        let changed = of(4, Over::Known, Some(json!({"pk": "x", "a": 1, "b": null, "ttl": 5}))).unwrap();
        let expected = json!({
            "model": "Reading", "sk": "r1", "over": "known", "base": 4, "op": "AAAAAAAAAAAAAAAAAAAAAA==", "n": 7,
            "del": false, "set": {"_.pk": {"S": "x"}, "a": {"N": "1"}, "_.ttl": {"N": "5"}}, "remove": ["b", "c"],
        });
        assert_eq!(changed, expected);
        let removed = of(0, Over::Nothing, None).unwrap();
        assert_eq!((&removed["over"], &removed["del"], &removed["set"]), (&json!("nothing"), &json!(true), &json!({})));
        assert_eq!(removed["remove"], json!(["_.pk", "a", "b", "c"]));
        let anew = push(4, Over::Unversioned, None);
        assert_eq!(change("lamp", &anew, &fields).unwrap()["base"], anew.version() - 1);
        let large = json!({"text": "x".repeat(400 * 1024)});
        assert!(of(0, Over::Nothing, Some(large)).is_err());
    }

    #[test]
    fn the_condition_is_what_the_device_last_saw() {
        let condition = |base, over| request(&push(base, over, None), &[]).unwrap()["ConditionExpression"].clone();
        assert_eq!(condition(0, Over::Nothing), "attribute_not_exists(pk)");
        assert_eq!(condition(3, Over::Nothing), "attribute_not_exists(pk)");
        assert_eq!(condition(3, Over::Unversioned), "attribute_exists(pk) AND attribute_not_exists(#0)");
        let known = request(&push(3, Over::Known, None), &[]).unwrap();
        let value = known["ConditionExpression"].as_str().unwrap().strip_prefix("#0 = ").unwrap();
        assert_eq!(known["ExpressionAttributeValues"][value], json!({"N": "3"}));
        assert_eq!(known["ExpressionAttributeNames"]["#0"], "_v");
    }

    #[test]
    fn what_the_service_never_takes_is_refused_without_a_request() {
        let with_key = |key: &str| {
            let mut push = push(0, Over::Nothing, None);
            Arc::make_mut(&mut push.row).key = key.to_owned();
            request(&push, &[])
        };
        assert!(with_key("").unwrap_err().contains("empty"));
        assert!(with_key(&"k".repeat(1025)).unwrap_err().contains("1025"));
        assert!(with_key(&"k".repeat(1024)).is_ok());
        let large = json!({"text": "x".repeat(400 * 1024)});
        assert!(request(&push(0, Over::Nothing, Some(large)), &[]).unwrap_err().contains("409604 bytes"));
    }

    #[test]
    fn an_item_written_without_the_rules_has_no_version_and_a_spoiled_one_is_an_error() {
        let plain = json!({"pk": {"S": "lamp#Reading"}, "sk": {"S": "r1"}, "value": {"N": "1"}});
        let current = Current::parse(plain.as_object().unwrap()).unwrap();
        assert_eq!(current.version, None);
        assert_eq!(Value::Object(current.item.unwrap()), json!({"value": 1}));
        let last = (i64::MAX / 2) as u64;
        let beyond = json!({"N": (last + 1).to_string()});
        for spoiled in [json!({"S": "one"}), json!({"N": u64::MAX.to_string()}), beyond] {
            let item = json!({"_v": spoiled});
            assert!(Current::parse(item.as_object().unwrap()).unwrap_err().contains("_v"));
        }
        let item = json!({"_v": {"N": last.to_string()}});
        assert_eq!(Current::parse(item.as_object().unwrap()).unwrap().version, Some(last));
    }
}
