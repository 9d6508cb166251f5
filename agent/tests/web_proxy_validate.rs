//! Signatures before programs and workers: these get what was validated, and nothing else.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod proxy_support;
mod web_support;

use std::fs;

use ioto::config::{Route, WebSignatures};
use proxy_support::{Program, front, ok, route};
use web_support::{Dir, Running, field, get, status};

const FILE: &str = "{
    item: {
        put: {
            query: {n: {type: 'number', default: 3}, tags: {type: 'array', of: 'string'}},
            request: {fields: {
                name: {type: 'string', required: true},
                count: {type: 'number', default: 5},
                admin: {type: 'boolean', drop: {request: true}},
            }},
        },
        get: {query: {id: {type: 'string', required: true}}},
        touch: {request: {fields: {name: 'string'}}},
    },
}";

fn start(program: &Program) -> (Running, Dir) {
    front(&program.address, |settings| {
        let path = settings.documents.join("signatures.json5");
        fs::write(&path, FILE).unwrap();
        settings.signatures = WebSignatures { enable: true, path, strict: false };
        settings.routes = vec![
            Route { validate: true, ..route("/api/", &program.address) },
            Route { validate: true, trim: "/cut".into(), ..route("/cut/", &program.address) },
            route("", &program.address),
        ];
    })
}

/// A program that answers with the body that it got.
fn mirror() -> Program {
    Program::answering(|_, body| ok(&String::from_utf8_lossy(body)))
}

fn send(server: &Running, target: &str, fields: &str, body: &str) -> String {
    server.talk(format!(
        "POST {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    ))
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn a_program_gets_only_what_fits() {
    let program = mirror();
    let (server, _dir) = start(&program);
    for (target, fields, body, code) in [
        ("/api/item/put", JSON, r#"{"name": 1}"#, 400),
        ("/api/item/put?n=x", JSON, r#"{"name": "a"}"#, 400),
        ("/api/item/put", JSON, "", 400),
        ("/api/item/put/more", JSON, "{}", 400),
        ("/api//item//put", JSON, "{}", 400),
        ("/api/item/put", "Content-Type: text/json\r\n", r#"{"name": "a"}"#, 415),
        ("/api/item/put", "Content-Type: application/json; charset=utf-16\r\n", r#"{"name": "a"}"#, 415),
        ("/api/item/put", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", r#"{"name": "a"}"#, 415),
        ("/api/item/get", "", "", 400),
    ] {
        assert_eq!(status(&send(&server, target, fields, body)), code, "{target} {fields}{body}");
    }
    assert_eq!(program.requests(), 0);
}

#[test]
fn a_program_gets_the_body_and_the_query_as_they_were_validated() {
    let program = mirror();
    let (server, _dir) = start(&program);
    let body = r#"{"name": "x", "name": "a", "admin": true}"#;
    let answer = send(&server, "/api/item/put?tags=a%26b&tags=c", JSON, body);
    assert_eq!(web_support::body(&answer), r#"{"name":"a","count":5}"#, "{answer}");
    let head = program.last();
    assert!(head.starts_with("POST /api/item/put?tags=a%26b&tags=c&n=3 HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "content-length").as_deref(), Some("22"));

    let form = "Content-Type: application/x-www-form-urlencoded\r\nConnection: content-type\r\n";
    let answer = send(&server, "/cut/item/put?n=4", form, "name=a+b&admin=true&count=7");
    assert_eq!(web_support::body(&answer), "name=a+b&count=7", "{answer}");
    let head = program.last();
    assert!(head.starts_with("POST /item/put?n=4 HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "content-type").as_deref(), Some("application/x-www-form-urlencoded"));

    // What says nothing about its type was validated as JSON, and is passed on as such; also in chunks.
    let chunked = "POST /api/item/put HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                   c\r\n{\"name\": \"a\"\r\n1\r\n}\r\n0\r\n\r\n";
    let answer = server.talk(chunked);
    assert_eq!(web_support::body(&answer), r#"{"name":"a","count":5}"#, "{answer}");
    let head = program.last();
    assert_eq!(field(&head, "content-type").as_deref(), Some("application/json"));
    assert!(field(&head, "transfer-encoding").is_none(), "{head}");
}

#[test]
fn a_program_gets_no_body_where_the_client_sent_none() {
    let program = mirror();
    let (server, _dir) = start(&program);
    assert_eq!(status(&get(&server, "/api/item/touch?x=1", "")), 200);
    let head = program.last();
    assert!(head.starts_with("GET /api/item/touch?x=1 HTTP/1.1\r\n"), "{head}");
    assert!(field(&head, "content-length").is_none() && field(&head, "content-type").is_none(), "{head}");
    // What has no signature passes as it is, and so does the question of a browser.
    assert_eq!(web_support::body(&send(&server, "/api/other", "", "x y")), "x y");
    assert_eq!(web_support::body(&send(&server, "/free/item/put", "", "x y")), "x y");
    let options = "OPTIONS /api/item/get HTTP/1.1\r\nHost: h\r\nConnection: close\r\n";
    assert_eq!(status(&server.talk(format!("{options}\r\n"))), 200);
    assert_eq!(status(&server.talk(format!("{options}Content-Length: 2\r\n\r\n{{}}"))), 400);
}

#[test]
fn the_type_that_a_program_is_told_is_that_of_the_body_that_it_gets() {
    let program = mirror();
    let dir = Dir::new();
    let path = dir.0.join("signatures.json5");
    fs::write(&path, "{api: {put: {request: {fields: {n: {type: 'number', default: 3}}}}}}").unwrap();
    let (server, _dir) = front(&program.address, |settings| {
        settings.signatures = WebSignatures { enable: true, path, strict: false };
        settings.routes = vec![Route { validate: true, ..route("", &program.address) }];
    });
    const FORM: &str = "application/x-www-form-urlencoded";
    for (kind, expected, body) in [
        (FORM, FORM, "n=3"),
        ("text/plain", "application/json", r#"{"n":3}"#),
        ("application/x+json", "application/x+json", r#"{"n":3}"#),
    ] {
        let answer = send(&server, "/api/put", &format!("Content-Type: {kind}\r\n"), "");
        assert_eq!(web_support::body(&answer), body, "{answer}");
        assert_eq!(field(&program.last(), "content-type").as_deref(), Some(expected));
    }
}
