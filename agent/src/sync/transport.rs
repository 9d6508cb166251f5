//! How a push reaches the cloud: the trait, and DynamoDB spoken to directly.

use std::collections::{HashMap, HashSet};
use std::future::Future;

use serde_json::Value;

use super::answer::Answer;
use super::engine::Push;
use super::item::{self, Current, Writer};
use super::pull::{Page, Query};
use super::question::{self, Place};
use crate::aws;
use crate::aws::attribute::write_name;
use crate::config;
use crate::db::Db;

/// Most rows of a request (AWS: BatchWriteItem).
pub const BATCH: usize = 25;

/// A way to the cloud. Several pushes are on the way at a time, of different rows.
pub trait Transport {
    /// Sends a row and says what became of it. Every push ends in an answer after a bounded time; what is not known is
    /// [`Answer::Failed`]. Dropping the future gives the request up; it may arrive all the same.
    fn push(&self, push: Push) -> impl Future<Output = Answer>;

    /// Sends rows of journals with one request, which need no condition, and says what became of each. At most 25.
    fn push_batch(&self, pushes: Vec<Push>) -> impl Future<Output = Vec<Answer>>;

    /// Bytes that it has sent and received since it was made, as far as it knows.
    fn traffic(&self) -> u64;

    /// Asks for a page. An error says why there is none, in words; the same is asked again later.
    fn pull(&self, query: &Query) -> impl Future<Output = Result<Page, String>>;
}

/// Codes for a request that will be refused every time, because of what the row holds.
const REFUSED: [&str; 4] = [
    "ValidationException",
    "SerializationException",
    "ItemCollectionSizeLimitExceededException",
    "RequestEntityTooLarge",
];

/// A DynamoDB table with the keys `pk` and `sk`, written with one conditional UpdateItem a row.
pub struct DynamoTransport {
    dynamo: aws::DynamoDb,
    place: Place,
    writer: Writer,
    /// The fields of each model.
    fields: HashMap<String, Vec<String>>,
}

impl DynamoTransport {
    /// The table of `options`, in the name of `thing`, with the rows of `db`.
    pub fn new(dynamo: aws::DynamoDb, options: &config::Sync, thing: &str, db: &Db) -> Self {
        let schema = db.schema();
        let writer = Writer { thing: thing.to_owned(), site: db.site(), schema: schema.version().to_owned() };
        let fields = schema.models().map(|model| {
            let names = model.fields().iter().map(|field| field.name().to_owned());
            (model.name().to_owned(), names.collect())
        });
        let (table, index) = (options.table.clone(), options.index.clone());
        let place = Place { table, index, thing: thing.to_owned() };
        Self { dynamo, place, writer, fields: fields.collect() }
    }
}

impl Transport for DynamoTransport {
    async fn push(&self, push: Push) -> Answer {
        let fields = self.fields.get(&push.row.model).map_or(&[][..], Vec::as_slice);
        match item::update(&self.place.table, &self.writer, &push, fields) {
            Ok(request) => answer(self.dynamo.call("UpdateItem", &request).await),
            Err(reason) => Answer::Refused(reason),
        }
    }

    async fn push_batch(&self, pushes: Vec<Push>) -> Vec<Answer> {
        let mut request = Vec::new();
        request.extend(b"{\"RequestItems\":{");
        write_name(&self.place.table, &mut request);
        let mut separator = b'[';
        let put = |push: &Push| {
            let begin = request.len();
            request.push(separator);
            request.extend(b"{\"PutRequest\":{\"Item\":");
            let put = item::put(&self.writer, push, &mut request);
            match put {
                Ok(()) => {
                    request.extend(b"}}");
                    separator = b',';
                }
                Err(_) => request.truncate(begin),
            }
            put
        };
        let puts: Vec<_> = pushes.iter().map(put).collect();
        request.extend(b"]}}");
        let result = match puts.iter().any(Result::is_ok) {
            true => self.dynamo.call_with("BatchWriteItem", request).await,
            false => Ok(Value::Null),
        };
        let of_all = batch_answer(&self.place, result);
        let of_row = |(push, put): (&Push, Result<(), String>)| match put {
            Ok(()) => of_all(&push.row.model, &push.row.key),
            Err(reason) => Answer::Refused(reason),
        };
        pushes.iter().zip(puts).map(of_row).collect()
    }

    fn traffic(&self) -> u64 {
        self.dynamo.traffic()
    }

    async fn pull(&self, query: &Query) -> Result<Page, String> {
        let answer = self.dynamo.call("Query", &question::request(&self.place, query)).await;
        question::page(&self.place, query, &answer.map_err(|error| error.to_string())?)
    }
}

/// What the answer to a BatchWriteItem means for each of its rows, by model and key.
fn batch_answer(place: &Place, result: Result<Value, aws::Error>) -> impl Fn(&str, &str) -> Answer {
    let (answer, body) = match result {
        Ok(body) => (Answer::Stored, body),
        Err(error) => (answer(Err(error)), Value::Null),
    };
    let answer = match answer {
        Answer::Refused(reason) => Answer::Alone(reason),
        answer => answer,
    };
    let left = body["UnprocessedItems"][place.table.as_str()].as_array().into_iter().flatten();
    let key = |left: &Value| {
        let item = &left["PutRequest"]["Item"];
        Some((item["pk"]["S"].as_str()?.to_owned(), item["sk"]["S"].as_str()?.to_owned()))
    };
    let left: HashSet<(String, String)> = left.filter_map(key).collect();
    let thing = place.thing.clone();
    move |model, key| match !left.is_empty() && left.contains(&(format!("{thing}#{model}"), key.to_owned())) {
        true => Answer::Throttled("the table is too busy for this item".to_owned()),
        false => answer.clone(),
    }
}

/// What the answer to an UpdateItem means (AWS: "Error handling with DynamoDB").
fn answer(result: Result<Value, aws::Error>) -> Answer {
    let error = match result {
        Ok(_) => return Answer::Stored,
        Err(error) => error,
    };
    if error.is_throttled() {
        return Answer::Throttled(error.to_string());
    }
    match &error {
        aws::Error::Service { code, body, .. } if code == "ConditionalCheckFailedException" => differs(body),
        aws::Error::Service { code, .. } if code == "TransactionConflictException" => {
            Answer::Throttled(error.to_string())
        }
        aws::Error::Service { status, code, .. } if *status == 413 || REFUSED.contains(&code.as_str()) => {
            Answer::Refused(error.to_string())
        }
        // Credentials, permissions and a missing table are nothing that the row can help either: everything waits.
        _ => Answer::Failed(error.to_string()),
    }
}

/// The item that did not meet the condition, as `ReturnValuesOnConditionCheckFailure` brings it.
fn differs(body: &Value) -> Answer {
    match body.get("Item").and_then(Value::as_object) {
        None => Answer::Differs(None),
        Some(attributes) if attributes.is_empty() => Answer::Differs(None),
        Some(attributes) => match Current::parse(attributes) {
            Ok(current) => Answer::Differs(Some(Box::new(current))),
            Err(reason) => Answer::Refused(reason),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(status: u16, code: &str, body: Value) -> Answer {
        answer(Err(aws::Error::Service { status, code: code.to_owned(), message: "why".to_owned(), body }))
    }

    #[test]
    fn every_error_of_the_service_is_sorted_by_whose_fault_it_is() {
        assert_eq!(answer(Ok(json!({}))), Answer::Stored);
        for code in ["ValidationException", "ItemCollectionSizeLimitExceededException"] {
            assert!(matches!(service(400, code, Value::Null), Answer::Refused(_)), "{code}");
        }
        assert!(matches!(service(413, "", Value::Null), Answer::Refused(_)));
        for code in [
            "ProvisionedThroughputExceededException",
            "ThrottlingException",
            "RequestLimitExceeded",
            "TransactionConflictException",
        ] {
            assert!(matches!(service(400, code, Value::Null), Answer::Throttled(_)), "{code}");
        }
        for (status, code) in [
            (500, "InternalServerError"),
            (503, ""),
            (400, "AccessDeniedException"),
            (400, "ResourceNotFoundException"),
            (403, "InvalidClientTokenId"),
            (400, "ExpiredTokenException"),
        ] {
            assert!(matches!(service(status, code, Value::Null), Answer::Failed(_)), "{code}");
        }
    }

    #[test]
    fn a_failed_condition_brings_the_item_as_it_is() {
        let differs = |body| service(400, "ConditionalCheckFailedException", body);
        assert_eq!(differs(json!({"message": "The conditional request failed"})), Answer::Differs(None));
        assert_eq!(differs(json!({"Item": {}})), Answer::Differs(None));
        let Answer::Differs(Some(current)) = differs(json!({"Item": {"_v": {"N": "3"}, "a": {"S": "x"}}})) else {
            panic!("no item");
        };
        assert_eq!(current.version, Some(3));
        assert_eq!(current.item, json!({"a": "x"}).as_object().cloned());
        assert!(matches!(differs(json!({"Item": {"_v": {"N": "x"}}})), Answer::Refused(_)));
    }

    #[test]
    fn a_batch_says_what_became_of_each_of_its_items() {
        let place = Place { table: "table".into(), index: String::new(), thing: "lamp".into() };
        let item = json!({"pk": {"S": "lamp#A"}, "sk": {"S": "2"}, "a": {"N": "1"}});
        let left = json!({"UnprocessedItems": {"table": [{"PutRequest": {"Item": item}}]}});
        let of = batch_answer(&place, Ok(left));
        assert_eq!((of("A", "1"), of("B", "2")), (Answer::Stored, Answer::Stored));
        assert!(matches!(of("A", "2"), Answer::Throttled(_)));
        let failed = |status, code: &str| {
            let (code, message) = (code.to_owned(), "why".to_owned());
            batch_answer(&place, Err(aws::Error::Service { status, code, message, body: Value::Null }))("A", "1")
        };
        assert!(matches!(failed(400, "ValidationException"), Answer::Alone(_)));
        assert!(matches!(failed(400, "ThrottlingException"), Answer::Throttled(_)));
        assert!(matches!(failed(500, "InternalServerError"), Answer::Failed(_)));
    }
}
