//! A question to the DynamoDB table as the request `Query`, and its answer as a page.

use serde_json::{Map, Value, json};

use super::item::Current;
use super::pull::{Page, Query, Scope};
use crate::db::inbound::{Incoming, UNREADABLE};

/// Items of a page, at most: a page is in memory as a whole, and applied in one transaction.
const PAGE: u64 = 200;

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The table.
    pub table: String,
    /// Its index with the keys `gpk` and `_ts`; empty when there is none.
    pub index: String,
    /// The thing's name: whose items these are.
    pub thing: String,
}

/// The body of the request.
pub fn request(place: &Place, query: &Query) -> Value {
    let mut request = match &query.scope {
        Scope::Newest => json!({
            "IndexName": place.index, "KeyConditionExpression": "gpk = :0", "Limit": 1, "ScanIndexForward": false,
            "ExpressionAttributeValues": {":0": {"S": place.thing}},
        }),
        Scope::Changes(None) => json!({
            "IndexName": place.index, "KeyConditionExpression": "gpk = :0", "Limit": PAGE,
            "ExpressionAttributeValues": {":0": {"S": place.thing}},
        }),
        Scope::Changes(Some(since)) => json!({
            "IndexName": place.index, "KeyConditionExpression": "gpk = :0 AND #0 >= :1", "Limit": PAGE,
            "ExpressionAttributeNames": {"#0": "_ts"},
            "ExpressionAttributeValues": {":0": {"S": place.thing}, ":1": {"S": since}},
        }),
        Scope::Model(model) => json!({
            "KeyConditionExpression": "pk = :0", "Limit": PAGE, "ConsistentRead": true,
            "ExpressionAttributeValues": {":0": {"S": format!("{}#{model}", place.thing)}},
        }),
    };
    request["TableName"] = place.table.as_str().into();
    if let Some(start) = &query.start {
        request["ExclusiveStartKey"] = start.clone();
    }
    request
}

/// The page that an answer is. An error says what is wrong with it, in words.
pub fn page(place: &Place, query: &Query, answer: &Value) -> Result<Page, String> {
    let items = answer.get("Items").and_then(Value::as_array).ok_or("the answer to a query has no items")?;
    let items = items.iter().filter_map(Value::as_object).map(|item| (item, false));
    Ok(page_of(place, query, items, answer.get("LastEvaluatedKey").cloned()))
}

/// The page of these items, of which some may be cut to their stamps, and where the next one begins.
pub fn page_of<'a>(
    place: &Place,
    query: &Query,
    items: impl Iterator<Item = (&'a Map<String, Value>, bool)>,
    next: Option<Value>,
) -> Page {
    // The newest entry is asked for, not one page of all.
    let mut page = Page { next: next.filter(|_| query.scope != Scope::Newest), ..Page::default() };
    for (attributes, is_cut) in items {
        page.latest = page.latest.max(text(attributes, "_ts").map(str::to_owned));
        page.items.extend(incoming(place, attributes, is_cut));
    }
    page
}

/// An item as the device takes it; nothing for one that is not of this thing.
fn incoming(place: &Place, attributes: &Map<String, Value>, is_cut: bool) -> Option<Incoming> {
    let model = text(attributes, "pk")?.strip_prefix(&place.thing)?.strip_prefix('#')?.to_owned();
    let key = text(attributes, "sk")?.to_owned();
    let current = match is_cut {
        true => Err("it is too large for a message".to_owned()),
        false => Current::parse(attributes),
    };
    let (version, item) = match current {
        Ok(current) => (current.version, current.item),
        Err(reason) => {
            log::warn!("{model} {key} of the cloud is left as it is on the device: {reason}");
            (Some(UNREADABLE), None)
        }
    };
    Some(Incoming { model, key, version, item })
}

fn text<'a>(attributes: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    attributes.get(name)?.get("S")?.as_str()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { table: "table".into(), index: "changes".into(), thing: "lamp".into() }
    }

    fn query(scope: Scope) -> Query {
        Query { id: 1, scope, start: None }
    }

    #[test]
    fn changes_are_asked_from_a_time_on_and_go_on_where_the_page_before_ended() {
        let since = Scope::Changes(Some("2026-01-01T00:00:00.000Z".into()));
        let start = json!({"pk": {"S": "lamp#A"}, "sk": {"S": "k"}});
        let asked = request(&place(), &Query { id: 2, scope: since, start: Some(start.clone()) });
        assert_eq!(asked["IndexName"], "changes");
        assert_eq!(asked["KeyConditionExpression"], "gpk = :0 AND #0 >= :1");
        assert_eq!(asked["ExpressionAttributeValues"][":1"], json!({"S": "2026-01-01T00:00:00.000Z"}));
        assert_eq!(asked["ExclusiveStartKey"], start);
        assert_eq!(asked.get("ConsistentRead"), None, "an index cannot be read so");
    }

    #[test]
    fn a_model_is_read_from_the_table_as_it_is_at_this_moment() {
        let asked = request(&place(), &query(Scope::Model("A".into())));
        assert_eq!(asked["ExpressionAttributeValues"][":0"], json!({"S": "lamp#A"}));
        assert_eq!((&asked["ConsistentRead"], asked.get("IndexName")), (&json!(true), None));
    }

    #[test]
    fn a_page_has_rows_tombstones_and_what_cannot_be_read_but_nothing_of_others() {
        let answer = json!({
            "Items": [
                {"pk": {"S": "lamp#A"}, "sk": {"S": "1"}, "_v": {"N": "3"}, "_ts": {"S": "t2"}, "a": {"N": "1"}},
                {"pk": {"S": "lamp#A"}, "sk": {"S": "2"}, "_v": {"N": "4"}, "_ts": {"S": "t1"}, "_d": {"BOOL": true}},
                {"pk": {"S": "lamp#A"}, "sk": {"S": "3"}, "_v": {"N": "many"}},
                {"pk": {"S": "lamp2#A"}, "sk": {"S": "4"}, "_v": {"N": "1"}},
                {"pk": {"S": "other"}, "sk": {"S": "5"}},
            ],
            "LastEvaluatedKey": {"pk": {"S": "lamp#A"}},
        });
        let page = page(&place(), &query(Scope::Changes(None)), &answer).unwrap();
        let rows: Vec<_> = page.items.iter().map(|row| (row.key.as_str(), row.version, row.item.is_some())).collect();
        assert_eq!(rows, [("1", Some(3), true), ("2", Some(4), false), ("3", Some(0), false)]);
        assert_eq!((page.latest.as_deref(), page.next.is_some()), (Some("t2"), true));
        assert!(super::page(&place(), &query(Scope::Newest), &json!({})).is_err());
    }
}
