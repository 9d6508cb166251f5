//! What was written to the table, in order: by the device, whose requests the link sees, and by the cloud.

use std::collections::HashSet;

use ioto::aws::attribute;
use ioto::db::Item;
use serde_json::Value;

/// One write that DynamoDB carried out.
#[derive(Clone, Debug)]
pub struct Write {
    /// The key of the row.
    pub key: String,
    /// The version that it made.
    pub version: u64,
    /// Who, and how.
    pub by: By,
    /// The fields that the device set, or the whole document as the cloud left it; `None`: a tombstone.
    pub item: Option<Item>,
}

/// Who made a write.
#[derive(Clone, Debug)]
pub enum By {
    /// The device.
    Device {
        /// The random id of the change.
        op: String,
        /// The number of the change, `_dn`.
        counter: u64,
        /// The version that its condition asked for; `None`: no item, or one without a version.
        base: Option<u64>,
    },
    /// Somebody in the cloud. The number is in the attribute `cloudOnly` of the item.
    Cloud {
        /// Of the edit.
        number: u64,
    },
}

impl Write {
    /// What a put of a BatchWriteItem of the device does.
    pub fn of_put(item: &Value) -> Result<Self, String> {
        let none = serde_json::Map::new();
        let attributes = item.as_object().unwrap_or(&none);
        let number = |name: &str| item[name]["N"].as_str().and_then(|text| text.parse::<u64>().ok());
        let missing = |what: &str| format!("a put of the device without {what}: {item}");
        if item["gpk"] != Value::Null || item["pk"]["S"].as_str().is_none_or(|pk| !pk.ends_with("#Reading")) {
            return Err(format!("what is not to be sent was: {item}"));
        }
        Ok(Self {
            key: item["sk"]["S"].as_str().ok_or_else(|| missing("sk"))?.to_owned(),
            version: number("_v").ok_or_else(|| missing("_v"))?,
            by: By::Device {
                op: item["_op"]["B"].as_str().ok_or_else(|| missing("_op"))?.to_owned(),
                counter: number("_dn").ok_or_else(|| missing("_dn"))?,
                base: None,
            },
            item: document(attributes),
        })
    }

    /// Whether it says the same once more: a put may be repeated.
    pub fn repeats(&self, other: &Self) -> bool {
        let op = |write: &Self| match &write.by {
            By::Device { op, .. } => Some(op.clone()),
            By::Cloud { .. } => None,
        };
        self.key == other.key && self.version == other.version && op(self) == op(other) && self.item == other.item
    }

    /// What an UpdateItem of the device does.
    pub fn of_request(request: &Value) -> Result<Self, String> {
        let text = |place: &str| request.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
        let partition = text("/Key/pk/S");
        if !partition.ends_with("#Reading") {
            return Err(format!("a row that is not to be replicated was sent: {partition}"));
        }
        let update = text("/UpdateExpression");
        let sets = update.strip_prefix("SET ").and_then(|rest| rest.split(" REMOVE ").next()).unwrap_or_default();
        let (names, values) = (&request["ExpressionAttributeNames"], &request["ExpressionAttributeValues"]);
        let pair = |set: &str| {
            let (name, value) = set.split_once('=')?;
            Some((names[name].as_str()?.to_owned(), values[value].clone()))
        };
        let attributes: serde_json::Map<String, Value> = sets.split(',').filter_map(pair).collect();
        let number = |value: &Value| value["N"].as_str().and_then(|text| text.parse::<u64>().ok());
        let base = text("/ConditionExpression").split_once(" = ").and_then(|(_, value)| number(&values[value]));
        let missing = |what: &str| format!("a write of the device without {what}: {request}");
        let get = |name: &str| attributes.get(name).unwrap_or(&Value::Null);
        Ok(Self {
            key: text("/Key/sk/S"),
            version: number(get("_v")).ok_or_else(|| missing("_v"))?,
            by: By::Device {
                op: get("_op")["B"].as_str().ok_or_else(|| missing("_op"))?.to_owned(),
                counter: number(get("_dn")).ok_or_else(|| missing("_dn"))?,
                base,
            },
            item: document(&attributes),
        })
    }
}

/// The document in the attributes of an item, in DynamoDB's JSON; `None`: a tombstone.
pub fn document(attributes: &serde_json::Map<String, Value>) -> Option<Item> {
    let fields = attributes.iter().filter_map(|(name, value)| {
        let name = match name.strip_prefix("_.") {
            Some(name) => name,
            None if name.starts_with('_') || ["pk", "sk", "gpk", "ttl"].contains(&name.as_str()) => return None,
            None => name,
        };
        Some((name.to_owned(), attribute::decode(value)))
    });
    (attributes.get("_d").is_none_or(|deleted| deleted["BOOL"] != true)).then(|| fields.collect())
}

/// Whether each write of the device stands on a version that it knew, once, and in order.
///
/// `is_explained` says whether the device had the edit of the cloud, or kept it in its conflict log; of both writes it gets the
/// places.
pub fn judge(writes: &[Write], is_explained: impl Fn(usize, usize) -> bool) -> Result<(), String> {
    let mut ops = HashSet::new();
    for (at, write) in writes.iter().enumerate() {
        let before = writes[..at].iter().rposition(|before| before.key == write.key);
        let version = before.map_or(0, |before| writes[before].version);
        // The first version is any.
        if before.is_some() && write.version != version + 1 {
            return Err(format!("I4 version {version} of {} was followed by {}", write.key, write.version));
        }
        let By::Device { op, counter, base } = &write.by else { continue };
        if !ops.insert(op) {
            return Err(format!("I3b change {counter} of {} was carried out twice", write.key));
        }
        let older = writes[..at].iter().find(|older| {
            let is_later = matches!(older.by, By::Device { counter: other, .. } if other >= *counter);
            older.key == write.key && is_later
        });
        if older.is_some() {
            return Err(format!("I3b change {counter} of {} came after a later one", write.key));
        }
        if base.unwrap_or(0) != version {
            return Err(format!("I3 {} was written over version {version} in place of {base:?}", write.key));
        }
        if let Some(before) = before.filter(|before| !is_explained(*before, at)) {
            return Err(format!("I3 {write:?} silently took the place of {:?}", writes[before]));
        }
    }
    Ok(())
}
