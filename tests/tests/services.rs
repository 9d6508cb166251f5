//! Signed requests to many services, as moto simulates them: signatures and policies are checked.

#![expect(clippy::result_large_err, reason = "tests call seldom and have a large stack")]

use std::time::Duration;

use ioto::aws::{Api, Credentials, Error, Provider};
use ioto::config;
use ioto::http1::Method;
use ioto_tests::{Moto, seed};
use serde_json::{Value, json};

const ACTIONS: &str = "dynamodb:*,s3:*,logs:*,cloudwatch:*,monitoring:*,iot:*,iotdata:*";
const LIMIT: usize = 1024 * 1024;

fn api(moto: &Moto, secret: &str) -> Api {
    let config = config::Aws {
        region: moto.access("region").into(),
        endpoint: Some(moto.endpoint()),
        timeout: Duration::from_secs(30),
        ..Default::default()
    };
    let credentials = Credentials::new(moto.access("access_key_id"), secret);
    Api::with_provider(&config, Provider::Static(credentials)).expect("the endpoint is a URL")
}

/// A request with the operation in a header; its answer.
fn json_call(api: &Api, url: &str, service: &str, target: &str, version: &str, body: &Value) -> Result<Value, Error> {
    let request = api.request(service, Method::Post, url)?;
    let request = request
        .header("Content-Type", &format!("application/x-amz-json-{version}"))
        .header("X-Amz-Target", target)
        .body(body.to_string());
    smol::block_on(async {
        let response = request.send().await?;
        match response.is_success() {
            true => Ok(serde_json::from_str(&response.text(LIMIT).await?).unwrap_or(Value::Null)),
            false => Err(Error::refusal(response).await),
        }
    })
}

/// What is answered to any other request; a refusal fails the test.
fn done(request: ioto::aws::Request) -> Vec<u8> {
    let text = format!("{request:?}");
    smol::block_on(async {
        let response = request.send().await.unwrap_or_else(|error| panic!("{error}: {text}"));
        match response.is_success() {
            true => response.bytes(LIMIT).await.expect("read the answer"),
            false => panic!("{}: {text}", Error::refusal(response).await),
        }
    })
}

#[test]
fn signed_requests_are_accepted_by_every_service() {
    let moto = Moto::start_for(ACTIONS);
    let api = api(&moto, moto.access("secret_access_key"));
    let url = |path: &str| format!("{}{path}", moto.endpoint());
    let request = |service: &str, method: Method, path: &str| api.request(service, method, &url(path)).expect("a URL");

    let list = json_call(&api, &url("/"), "dynamodb", "DynamoDB_20120810.ListTables", "1.0", &json!({}));
    assert_eq!(list.expect("list the tables")["TableNames"], json!([moto.access("table")]));

    let logs = |operation: &str, body: Value| {
        let target = format!("Logs_20140328.{operation}");
        json_call(&api, &url("/"), "logs", &target, "1.1", &body).unwrap_or_else(|error| panic!("{operation}: {error}"))
    };
    let stream = json!({"logGroupName": "/devices", "logStreamName": "pump 7"});
    logs("CreateLogGroup", json!({"logGroupName": "/devices"}));
    logs("CreateLogStream", stream.clone());
    let mut events = stream.clone();
    events["logEvents"] = json!([{"timestamp": ioto::net::utc_ms(), "message": "gr\u{fc}n"}]);
    logs("PutLogEvents", events);
    assert_eq!(logs("GetLogEvents", stream)["events"][0]["message"], "gr\u{fc}n");

    let metric = "Action=PutMetricData&Version=2010-08-01&Namespace=devices&MetricData.member.1.MetricName=Heat\
                  &MetricData.member.1.Value=21.5";
    let form = "application/x-www-form-urlencoded";
    done(request("monitoring", Method::Post, "/").header("Content-Type", form).body(metric));
    let list = "Action=ListMetrics&Version=2010-08-01";
    let answer = done(request("monitoring", Method::Post, "/").header("Content-Type", form).body(list));
    assert!(String::from_utf8_lossy(&answer).contains("Heat"));

    done(request("iotdata", Method::Post, "/topics/devices%2Fpump%207?qos=1").body("on"));
}

#[test]
fn objects_of_s3_keep_their_names_and_bytes() {
    let moto = Moto::start_for(ACTIONS);
    let api = api(&moto, moto.access("secret_access_key"));
    let request =
        |method: Method, path: &str| api.request("s3", method, &format!("{}{path}", moto.endpoint())).expect("a URL");
    done(request(Method::Put, "/attic"));
    let mut random = fastrand::Rng::with_seed(seed());
    for name in ["plain", "a%20b", "a/b//c", "a+b", "%C3%BC/~", "a%2Bb%3D%26", "dots.../x", "star*(1)'!"] {
        let path = format!("/attic/{name}");
        let body: Vec<u8> = (0..random.usize(..200_000)).map(|_| random.u8(..)).collect();
        done(request(Method::Put, &path).header("X-Amz-Meta-Note", "  two   blanks ").body(body.clone()));
        assert_eq!(done(request(Method::Get, &path)), body, "{name}");

        let body: Vec<u8> = (0..random.usize(..200_000)).map(|_| random.u8(..)).collect();
        let copy = body.clone();
        let chunks = request(Method::Put, &path).header("Content-Type", "application/octet-stream");
        done(chunks.chunks(body.len() as u64, move || Ok(smol::io::Cursor::new(copy.clone()))));
        assert_eq!(done(request(Method::Get, &path)), body, "{name}");

        done(request(Method::Put, &path).body("unsigned").unsigned_body());
        assert_eq!(done(request(Method::Get, &path)), b"unsigned", "{name}");
    }
    let list = String::from_utf8(done(request(Method::Get, "/attic?list-type=2&prefix=a%2F&max-keys=9"))).expect("XML");
    assert!(list.contains("<Key>a/b//c</Key>") && !list.contains("plain"), "{list}");
    let missing = smol::block_on(async { request(Method::Get, "/attic/nothing").send().await });
    assert_eq!(missing.expect("an answer").status(), 404);
}

#[test]
fn what_is_not_signed_with_the_right_key_is_refused_once() {
    let moto = Moto::start_for(ACTIONS);
    let api = api(&moto, "not the secret");
    let response =
        smol::block_on(api.request("s3", Method::Put, &format!("{}/attic", moto.endpoint())).expect("a URL").send());
    let error = smol::block_on(Error::refusal(response.expect("an answer")));
    assert_eq!(error.code(), Some("SignatureDoesNotMatch"), "{error}");
}
