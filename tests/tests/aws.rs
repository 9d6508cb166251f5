//! Signed calls to DynamoDB, as moto simulates it: signatures and policies are checked.

#![expect(clippy::result_large_err, reason = "tests call seldom and have a large stack")]

use std::time::Duration;

use ioto::aws::{Api, Credentials, DynamoDb, Error, Provider, attribute};
use ioto::config;
use ioto_tests::Moto;
use serde_json::{Value, json};

fn dynamodb(moto: &Moto, credentials: Credentials) -> DynamoDb {
    let config = config::Aws {
        region: moto.access("region").into(),
        endpoint: Some(moto.endpoint()),
        timeout: Duration::from_secs(30),
        ..Default::default()
    };
    DynamoDb::new(Api::with_provider(&config, Provider::Static(credentials)).expect("the endpoint is a URL"))
}

fn credentials(moto: &Moto) -> Credentials {
    Credentials::new(moto.access("access_key_id"), moto.access("secret_access_key"))
}

fn call(dynamodb: &DynamoDb, operation: &str, body: Value) -> Result<Value, Error> {
    smol::block_on(dynamodb.call(operation, &body))
}

#[test]
fn signed_calls_are_accepted_and_conditions_tell_the_item() {
    let moto = Moto::start();
    let dynamodb = dynamodb(&moto, credentials(&moto));
    call(
        &dynamodb,
        "CreateTable",
        json!({
            "TableName": "Readings", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        }),
    )
    .expect("create a table");

    let reading =
        json!({"value": 21.5, "unit": "\u{b0}C", "tags": ["a", {"deep": null}], "count": 9_007_199_254_740_993_i64});
    let update = |expected: i64, next: i64| {
        call(
            &dynamodb,
            "UpdateItem",
            json!({
                "TableName": "Readings", "Key": {"pk": {"S": "pump-7"}},
                "UpdateExpression": "SET #d = :d, #v = :next",
                "ConditionExpression": "attribute_not_exists(pk) OR #v = :expected",
                "ExpressionAttributeNames": {"#d": "data", "#v": "version"},
                "ExpressionAttributeValues": {
                    ":d": attribute::encode(&reading), ":next": {"N": next.to_string()},
                    ":expected": {"N": expected.to_string()},
                },
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }),
        )
    };
    update(0, 1).expect("the item is new");
    update(1, 2).expect("the version is as expected");
    match update(1, 3) {
        Err(Error::Service { status: 400, code, body, .. }) => {
            assert_eq!(code, "ConditionalCheckFailedException");
            assert_eq!(body["Item"]["version"], json!({"N": "2"}), "{body}");
        }
        other => panic!("the condition does not hold: {other:?}"),
    }

    let answer = call(&dynamodb, "GetItem", json!({"TableName": "Readings", "Key": {"pk": {"S": "pump-7"}}}));
    let item = attribute::decode_item(&answer.expect("get the item")["Item"]);
    assert_eq!(item, json!({"pk": "pump-7", "data": reading, "version": 2}));
}

#[test]
fn a_wrong_key_is_refused_and_its_secret_stays_secret() {
    let moto = Moto::start();
    let list = |credentials| call(&dynamodb(&moto, credentials), "ListTables", json!({}));
    list(credentials(&moto)).expect("the right key is accepted");

    let wrong = list(Credentials::new(moto.access("access_key_id"), "not the secret")).expect_err("a wrong secret");
    assert_eq!(wrong.code(), Some("SignatureDoesNotMatch"), "{wrong}");
    assert!(!wrong.is_transient() && !format!("{wrong:?}").contains("not the secret"));
    let unknown = list(Credentials::new("AKIDUNKNOWN", "secret")).expect_err("an unknown key");
    assert!(matches!(unknown, Error::Service { status: 400 | 403, .. }), "{unknown}");
    assert!(!unknown.is_transient());
}

#[test]
fn an_outage_is_transient_and_passes() {
    let mut moto = Moto::start();
    let dynamodb = dynamodb(&moto, credentials(&moto));
    call(&dynamodb, "ListTables", json!({})).expect("it is up");
    moto.outage();
    let error = call(&dynamodb, "ListTables", json!({})).expect_err("it is down");
    assert!(error.is_transient(), "{error}");
    moto.recover();
    call(&dynamodb, "ListTables", json!({})).expect("it is up again");
}
