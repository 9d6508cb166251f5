//! Somebody who works in the cloud by the rules: UpdateItem, on the condition that the item is as it was read.

use ioto::aws::{DynamoDb, attribute};
use ioto::net::{iso8601, utc_ms};
use serde_json::{Value, json};

use crate::history::{By, Write, document};
use crate::link::Link;

/// Edits items of one thing.
pub struct Editor {
    partition: String,
    thing: String,
    table: String,
    creates: bool,
    number: u64,
    random: fastrand::Rng,
}

impl Editor {
    /// `creates`: it also makes items that the device does not know.
    pub fn new(thing: &str, table: &str, creates: bool, seed: u64) -> Self {
        let (random, partition) = (fastrand::Rng::with_seed(seed), format!("{thing}#Reading"));
        Self { partition, thing: thing.to_owned(), table: table.to_owned(), creates, number: 0, random }
    }

    /// Now and then changes or removes a random item, if it is there.
    pub fn edit_perhaps(&mut self, link: &Link) {
        if self.random.u8(..3) > 0 {
            return;
        }
        let key = format!("r{}", self.random.u8(..12));
        // moto's conditions are no protection from requests at the same time.
        let mut cloud = link.cloud();
        if let Some(write) = smol::block_on(self.edit(link.dynamo(), &key)) {
            cloud.writes.push(write);
        }
    }

    async fn edit(&mut self, dynamo: &DynamoDb, key: &str) -> Option<Write> {
        let name = json!({"pk": {"S": self.partition}, "sk": {"S": key}});
        let read = json!({"TableName": self.table, "Key": name, "ConsistentRead": true});
        let found = dynamo.call("GetItem", &read).await.expect("read an item");
        let version = found["Item"]["_v"]["N"].as_str().map(|text| text.parse::<u64>().expect("a version is a number"));
        if version.is_none() && !self.creates {
            return None;
        }
        self.number += 1;
        let is_removal = self.random.u8(..6) == 0;
        let next = version.unwrap_or(0) + 1;
        let mut values = attribute::encode_item(&json!({
            ":v": next, ":w": "cloud:test", ":more": self.number, ":d": is_removal, ":thing": self.thing,
            ":now": iso8601(utc_ms()),
        }));
        values[":op"] = json!({"B": "Y2xvdWQ="});
        let mut update =
            "SET #v = :v, #op = :op, #w = :w, #d = :d, cloudOnly = :more, gpk = :thing, #ts = :now".to_owned();
        let mut names = json!({"#v": "_v", "#op": "_op", "#w": "_w", "#d": "_d", "#ts": "_ts"});
        let condition = match version {
            None => "attribute_not_exists(pk)",
            Some(version) => {
                values[":was"] = json!({"N": version.to_string()});
                "#v = :was"
            }
        };
        if !is_removal {
            update += ", #name = :name, id = :id";
            names["#name"] = json!("name");
            values[":name"] = json!({"S": format!("c{}", self.number)});
            values[":id"] = json!({"S": key});
        }
        let request = json!({
            "TableName": self.table, "Key": name, "ConditionExpression": condition, "UpdateExpression": update,
            "ExpressionAttributeNames": names, "ExpressionAttributeValues": values, "ReturnValues": "ALL_NEW",
        });
        let answer: Value = dynamo.call("UpdateItem", &request).await.expect("edit an item");
        let item = document(answer["Attributes"].as_object().expect("the item as it is now"));
        Some(Write { key: key.to_owned(), version: next, by: By::Cloud { number: self.number }, item })
    }
}
