//! `ioto fetch --sigv4` against moto, which checks signatures and policies.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use ioto_tests::{Ahead, Moto, Scratch};
use serde_json::Value;

use crate::server::{command, data};

/// With the keys in the environment, where they are when the configuration has none.
fn fetch(moto: &Moto, directory: &Path, arguments: &[&str]) -> Output {
    let mut command = command(directory, arguments);
    command.env("AWS_ACCESS_KEY_ID", moto.access("access_key_id"));
    command.env("AWS_SECRET_ACCESS_KEY", moto.access("secret_access_key"));
    command.output().expect("start ioto")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn signed_requests_are_accepted() {
    let moto = Moto::start_for("dynamodb:*,s3:*");
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("data"), data()).expect("write");
    let fetch = |arguments: &[&str]| {
        let output = fetch(&moto, scratch.path(), &[&["-f"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        output.stdout
    };
    let url = |path: &str| format!("{}{path}", moto.endpoint());
    let list = ["--sigv4", "dynamodb/us-east-1", "--json", "{}", "-H", "X-Amz-Target: DynamoDB_20120810.ListTables"];
    let answer = fetch(&[&list[..], &["-H", "Content-Type: application/x-amz-json-1.0", &url("/")]].concat());
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(answer["TableNames"][0], moto.access("table"));

    fetch(&["--sigv4", "s3", "-X", "PUT", &url("/attic")]);
    // In signed chunks, from a file and to a file.
    fetch(&["--sigv4", "s3", "-T", "data", "-H", "Content-Type: application/x-test", &url("/attic/a%20b+c")]);
    fetch(&["--sigv4", "s3", "-o", "copy", &url("/attic/a%20b+c")]);
    assert!(std::fs::read(scratch.path().join("copy")).expect("it is there") == data());
    std::fs::write(scratch.path().join("copy"), &data()[..7000]).expect("write");
    fetch(&["--sigv4", "s3", "-C", "-", "-o", "copy", &url("/attic/a%20b+c")]);
    assert!(std::fs::read(scratch.path().join("copy")).expect("it is there") == data());
}

#[test]
fn a_wrong_clock_costs_one_request() {
    let moto = Moto::start_for("s3:*");
    let scratch = Scratch::new();
    let ahead = Ahead::new(moto.proxy().address(), Duration::from_secs(3 * 3600));
    let url = format!("{}/attic", ahead.endpoint());
    let output = fetch(&moto, scratch.path(), &["-f", "--sigv4", "s3", "-X", "PUT", "--repeat", "3", &url]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(ahead.requests(), 4, "one was refused");
}

#[test]
fn a_refusal_is_an_answer_as_any_other() {
    let moto = Moto::start_for("dynamodb:*");
    let scratch = Scratch::new();
    let arguments = ["--sigv4", "s3", "-w", "%{http_code}", &format!("{}/attic", moto.endpoint())];
    let output = fetch(&moto, scratch.path(), &arguments);
    let text = text(&output.stdout);
    assert!(output.status.success() && text.ends_with("403") && text.contains("AccessDenied"), "{text}");
    let output = command(scratch.path(), &arguments).output().expect("start ioto");
    assert_eq!(output.status.code(), Some(2), "without keys");
    assert!(String::from_utf8_lossy(&output.stderr).contains("AWS_ACCESS_KEY_ID"), "{output:?}");
}
