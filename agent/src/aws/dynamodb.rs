//! DynamoDB.

use serde_json::Value;

use super::{Api, Error, Service};

const SERVICE: Service =
    Service { endpoint: "dynamodb", signing_name: "dynamodb", target: "DynamoDB_20120810", json: "1.0" };

/// DynamoDB: its operations take and give JSON as the API reference describes it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ioto::aws::{Api, DynamoDb, attribute};
/// use serde_json::json;
///
/// let table = DynamoDb::new(Api::new(&ioto::config::Aws::default(), "lamp")?);
/// let answer = table.call("GetItem", &json!({"TableName": "Readings", "Key": {"pk": {"S": "pump-7"}}})).await?;
/// println!("{}", attribute::decode_item(&answer["Item"]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DynamoDb {
    api: Api,
}

impl DynamoDb {
    /// With the region, endpoint and credentials of `api`.
    pub fn new(api: Api) -> Self {
        Self { api }
    }

    /// See [`Api::traffic`].
    pub fn traffic(&self) -> u64 {
        self.api.traffic()
    }

    /// Calls an operation, as `UpdateItem`. It may be carried out twice, see [`Api::call`].
    ///
    /// A condition that does not hold is [`Error::Service`] with the code `ConditionalCheckFailedException`; with
    /// `ReturnValuesOnConditionCheckFailure: ALL_OLD` its `body` has the current item under `Item`.
    pub async fn call(&self, operation: &str, body: &Value) -> Result<Value, Error> {
        self.api.call(&SERVICE, operation, body).await
    }

    /// The same with a body that is written already.
    pub async fn call_with(&self, operation: &str, body: Vec<u8>) -> Result<Value, Error> {
        self.api.call_with(&SERVICE, operation, body).await
    }
}
