//! API validation on real sockets.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used)]

mod web_support;

use std::fs;
use std::io::Write;

use ioto::config::{Route, Web, WebSignatures};
use ioto::web::{Error, Exchange, Server};
use serde_json::{Value, json};
use web_support::{Dir, Running, body, field, get, read_response, settings, status};

const FILE: &str = "{
    sig: {
        echo: {
            query: {n: {type: 'number', default: 3}, on: 'boolean', day: 'date', tags: {type: 'array', of: 'number'}},
            request: {fields: {
                name: {type: 'string', required: true},
                count: {type: 'number', default: 5},
                secret: {type: 'string', drop: {request: true}},
                parts: {type: 'array', of: {fields: {n: {type: 'number', required: true}}}},
            }},
        },
        answer: {response: {fields: {a: {type: 'number', required: true}, hidden: {type: 'string', drop: true}}}},
        open: {},
        list: {request: {type: 'array'}},
    },
}";

/// Answers with what came through the validation.
async fn echo(exchange: &mut Exchange) -> Result<(), Error> {
    let query: Vec<_> = exchange.queries().collect();
    let json = exchange.json().await.unwrap_or_default();
    let bytes = String::from_utf8_lossy(&exchange.bytes().await?).into_owned();
    let form: Option<Vec<(String, String)>> = match exchange.header("content-type") {
        Some(kind) if kind.starts_with("application/x-www") => {
            Some(exchange.form().await?.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
        }
        _ => None,
    };
    exchange.send_json(&json!({"query": query, "json": json, "form": form, "bytes": bytes})).await
}

/// Answers with the JSON that the query names, in the way that it names.
async fn answer(exchange: &mut Exchange) -> Result<(), Error> {
    let value: Value = serde_json::from_str(&exchange.query("json").unwrap_or_else(|| r#"{"a": 1}"#.into())).unwrap();
    if let Some(status) = exchange.query("status") {
        exchange.set_status(status.parse().unwrap());
    }
    match exchange.query("way").as_deref() {
        Some("send") => exchange.send("application/json; charset=utf-8", value.to_string()).await,
        Some("validated") => exchange.send_validated(&value).await,
        _ => exchange.send_json(&value).await,
    }
}

fn route(matches: &str, validate: bool) -> Route {
    Route { matches: matches.into(), handler: "action".into(), validate, ..Route::default() }
}

fn start(change: impl FnOnce(&mut Web)) -> (Running, Dir) {
    let dir = Dir::new();
    let mut web = settings(dir.0.clone());
    let path = dir.0.join("signatures.json5");
    fs::write(&path, FILE).unwrap();
    web.signatures = WebSignatures { enable: true, path, strict: false };
    web.routes = vec![route("/test/", true), route("/free/", false), route("/free", false)];
    change(&mut web);
    let server = Server::new(web)
        .action("/test", echo)
        .action("/test/sig/answer", answer)
        .action("/test/sig/open", answer)
        .action("/free", echo);
    (Running::start(server.listen("http://127.0.0.1:0").unwrap()), dir)
}

fn post(server: &Running, path: &str, kind: &str, text: &str) -> String {
    let length = text.len();
    server.talk(format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n\
         {text}"
    ))
}

fn post_json(server: &Running, path: &str, text: &str) -> (u16, Value) {
    let response = post(server, path, "application/json", text);
    (status(&response), serde_json::from_str(body(&response)).unwrap_or(Value::Null))
}

/// `FIELD: EXPECTED, FOUND` of each problem of a 400.
fn problems(response: &str) -> Vec<String> {
    assert_eq!(status(response), 400, "{response}");
    assert_eq!(field(response, "content-type").unwrap(), "application/json");
    let answer: Value = serde_json::from_str(body(response)).unwrap();
    let text = |problem: &Value, key: &str| problem[key].as_str().unwrap().to_owned();
    let show = |p: &Value| format!("{}: {}, {}", text(p, "field"), text(p, "expected"), text(p, "found"));
    answer["problems"].as_array().unwrap().iter().map(show).collect()
}

#[test]
fn a_bad_request_is_told_all_that_is_wrong_and_its_action_does_not_run() {
    let (server, _dir) = start(|_| {});
    let bad = r#"{"count": "5", "parts": [{"n": 1}, {}, 7]}"#;
    let response = post(&server, "/test/sig/echo?n=x&on=1&day=soon&tags=1&tags=b", "application/json", bad);
    assert_eq!(
        problems(&response),
        [
            "query.day: a date as '2026-11-22T16:06:55Z', a string",
            "query.n: a number, a string",
            "query.on: true or false, a string",
            "query.tags[1]: a number, a string",
            "body.count: a number, a string",
            "body.name: a string, nothing",
            "body.parts[1].n: a number, nothing",
            "body.parts[2]: an object, a number",
        ]
    );
    assert!(body(&response).contains(r#""signature":"sig.echo""#), "{response}");
    let many = json!({"parts": vec![1; 50]}).to_string();
    let found = problems(&post(&server, "/test/sig/echo", "application/json", &many));
    assert_eq!((found.len(), found[0].as_str()), (10, "body.name: a string, nothing"));
    let found = problems(&post(&server, "/test/sig/echo?n=1&n=2", "application/json", r#"{"name": "a"}"#));
    assert_eq!(found, ["query.n: one value, several"]);
    assert_eq!(problems(&get(&server, "/test/sig/echo", "")), ["body.name: a string, nothing"]);
    assert_eq!(problems(&get(&server, "/test/sig/echo?a=%zz", "")).len(), 2);
}

#[test]
fn the_action_gets_the_request_with_defaults_and_without_what_is_dropped() {
    let (server, _dir) = start(|_| {});
    let sent = r#"{"name": "a", "secret": "s", "other": [1], "name": "b"}"#;
    let (status, seen) = post_json(&server, "/test/sig/echo?on=true&tags=1&x=%26&tags=2.5", sent);
    assert_eq!(status, 200);
    assert_eq!(seen["json"], json!({"name": "b", "other": [1], "count": 5}));
    assert_eq!(serde_json::from_str::<Value>(seen["bytes"].as_str().unwrap()).unwrap(), seen["json"]);
    assert_eq!(seen["query"], json!([["on", "true"], ["tags", "1"], ["tags", "2.5"], ["x", "&"], ["n", "3"]]));
    // What follows the method in the path is no way around it.
    assert_eq!(problems(&get(&server, "/test//sig/echo/7/x", "")), ["body.name: a string, nothing"]);
    assert_eq!(problems(&get(&server, "/test/s%69g/echo/", "")), ["body.name: a string, nothing"]);
}

#[test]
fn forms_are_validated_as_objects() {
    let (server, _dir) = start(|_| {});
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    let response = post(&server, "/test/sig/echo", kind, "name=%C3%A4+b&count=7&secret=s");
    let seen: Value = serde_json::from_str(body(&response)).unwrap();
    assert_eq!(seen["form"], json!([["name", "\u{e4} b"], ["count", "7"]]), "{response}");
    assert_eq!(
        problems(&post(&server, "/test/sig/echo", kind, "count=x&parts=1")),
        ["body.count: a number, a string", "body.name: a string, nothing", "body.parts[0]: an object, a string"]
    );
    assert_eq!(problems(&post(&server, "/test/sig/echo", kind, "name=1&name=2")), ["body.name: one value, several"]);
    assert_eq!(status(&post(&server, "/test/sig/echo", kind, "name=%zz")), 400);
    for kind in ["text/plain", "multipart/form-data; boundary=x", "application/json; charset=latin1"] {
        assert_eq!(status(&post(&server, "/test/sig/echo", kind, r#"{"name": "a"}"#)), 415, "{kind}");
    }
}

#[test]
fn hostile_bodies_cost_little_and_the_connection_goes_on() {
    let (server, _dir) = start(|web| (web.limits.body, web.limits.uri) = (200_000, 64 * 1024));
    let mut stream = server.connect();
    let path = "/test/sig/echo";
    for text in [
        "[".repeat(100_000),
        format!("{{\"name\": {}", "{\"a\":".repeat(30_000)),
        format!("{{\"name\": \"a\", \"x\": [{}1]}}", "1,".repeat(90_000)),
        "{\"name\": \"a\"".to_owned(),
        "\u{0}".to_owned(),
        "\"".to_owned(),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", text.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let (head, body) = read_response(&mut stream);
        let found = problems(&format!("{head}{}", String::from_utf8_lossy(&body)));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("body: "), "{found:?}");
        assert_eq!(field(&head, "connection"), None);
    }
    assert_eq!(status(&post(&server, path, "application/json", &"x".repeat(200_001))), 413);
    let fields: Vec<String> = (0..1200).map(|n| format!("f{n}=1")).collect();
    assert_eq!(status(&post(&server, path, "application/x-www-form-urlencoded", &fields.join("&"))), 413);
    let response = get(&server, &format!("{path}?{}", fields.join("&")), "");
    assert_eq!(problems(&response)[0], "query: at most 1000 variables, more");
}

#[test]
fn strict_signatures_refuse_what_they_do_not_name() {
    let (server, _dir) = start(|web| web.signatures.strict = true);
    assert_eq!(
        problems(&post(&server, "/test/sig/echo?x=1", "application/json", r#"{"name": "a", "b": 1}"#)),
        ["query.x: no field of this name, a string", "body.b: no field of this name, a number"]
    );
    assert_eq!(problems(&get(&server, "/test/other", "")), ["path: a method that has a signature, none"]);
    assert_eq!(problems(&get(&server, "/test/sig.echo", "")), ["path: a method that has a signature, none"]);
    assert_eq!(problems(&post(&server, "/test/sig/open?x=1", "application/json", "{}")), ["body: no body, one"]);
    // Variables without a query block do not reach the action.
    assert_eq!(
        post_json(&server, "/test/sig/list?x=1", "[5]").1,
        json!({"query": [], "json": [5], "form": null, "bytes": "[5]"})
    );
    assert_eq!(problems(&post(&server, "/test/sig/list", "application/json", "")), ["body: an array, nothing"]);
    // A route that does not validate is as before.
    assert_eq!(status(&get(&server, "/free/sig/echo", "")), 200);
    let (lax, _dir) = start(|_| {});
    for path in ["/test/other?x=1", "/test/sig.echo"] {
        assert_eq!(post_json(&lax, path, r#"{"b": 1}"#).1["json"], json!({"b": 1}), "{path}");
    }
}

#[test]
fn an_answer_that_does_not_fit_is_not_sent() {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let (server, _dir) = start(|_| {});
    let ask =
        |path: &str, json: &str, more: &str| get(&server, &format!("/test/sig/{path}?json={}{more}", encode(json)), "");
    for way in ["", "&way=send", "&way=validated"] {
        let response = ask("answer", r#"{"a": 1, "hidden": "h", "_t": 1, "more": [{"sk": 1, "b": 2}], "pk": 2}"#, way);
        assert_eq!(body(&response), r#"{"a":1,"more":[{"b":2}]}"#, "{response}");
        let response = ask("answer", r#"{"a": "password", "hidden": 5}"#, way);
        assert_eq!(status(&response), 500);
        assert!(!response.contains("password"), "{response}");
        assert!(body(&response).starts_with("500 Internal Server Error: error "), "{response}");
    }
    // Errors have their own form, but tell nothing private.
    assert_eq!(body(&ask("answer", r#"{"error": "x", "_id": 7}"#, "&status=404")), r#"{"error":"x"}"#);
    // Without a response block.
    assert_eq!(body(&ask("open", r#"{"a": 1, "pk": 7}"#, "")), r#"{"a":1}"#);
    assert_eq!(status(&ask("open", "{}", "&way=validated")), 500);
    let (server, _dir) = start(|web| web.signatures.strict = true);
    assert_eq!(body(&get(&server, "/test/sig/answer", "")), r#"{"a":1}"#);
    assert_eq!(body(&get(&server, "/test/sig/open", "")), r#"{"a":1}"#);
}

#[test]
fn a_file_that_is_wrong_keeps_the_server_from_starting_and_a_reload_from_being_taken_over() {
    let (server, dir) = start(|_| {});
    let path = dir.0.join("signatures.json5");
    fs::write(&path, "{sig: {\n echo: {request: {fields: {name: 'strin'}}}}}").unwrap();
    let error = server.handle.reload_signatures().unwrap_err().to_string();
    assert!(
        error.ends_with(
            "signatures.json5:2: sig.echo.request.fields.name: expected one of 'any' 'object' 'array' 'string' \
                             'number' 'boolean' 'null' 'date', found `strin`"
        ),
        "{error}"
    );
    assert_eq!(problems(&get(&server, "/test/sig/echo", "")), ["body.name: a string, nothing"]);
    fs::write(&path, "{sig: {echo: {request: {fields: {city: {type: 'string', required: true}}}}}}").unwrap();
    server.handle.reload_signatures().unwrap();
    assert_eq!(problems(&get(&server, "/test/sig/echo", "")), ["body.city: a string, nothing"]);
    fs::remove_file(&path).unwrap();
    let signatures = WebSignatures { enable: true, path, strict: false };
    let error = Server::new(Web { signatures, listen: vec![], ..Web::default() }).bind().err().unwrap().to_string();
    assert!(error.contains("signatures.json5: the signatures cannot be read"), "{error}");
}

#[cfg(feature = "users")]
#[test]
fn a_method_and_its_fields_are_for_those_who_have_the_role() {
    use ioto::config::{Auth, Roles, Secret, User};
    use ioto::web::auth::password::Hash;

    let user = |name: &str, role: &str| User {
        name: name.into(),
        password: Secret::new(Hash::Sha256.stored(&Hash::Sha256.ha1(name, "web", "open sesame"))),
        ha1: Vec::new(),
        role: role.into(),
    };
    let (server, _dir) = start(|web| {
        let roles = [("admin".to_owned(), vec!["user".to_owned()]), ("user".to_owned(), vec![])];
        web.auth = Auth {
            users: vec![user("jo", "admin"), user("mo", "user"), user("no", "public")],
            roles: Roles::new(&roles).unwrap(),
            require_tls: false,
            ..Auth::default()
        };
        let text = "{sig: {echo: {
            role: 'user',
            request: {fields: {level: {type: 'number', role: 'admin'}}},
            response: {fields: {json: {fields: {level: {type: 'number', drop: 'admin'}}}, bytes: {role: 'admin'}},
                hasWild: true},
        }}}";
        fs::write(&web.signatures.path, text).unwrap();
    });
    let post = |name: &str, text: &str| {
        let secret = match name {
            "" => String::new(),
            name => format!(
                "Authorization: Basic {}\r\n",
                ioto::net::base64::encode(format!("{name}:open sesame").as_bytes())
            ),
        };
        let length = text.len();
        server.talk(format!(
            "POST /test/sig/echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{secret}Content-Length: {length}\r\n\r\n{text}"
        ))
    };
    let nobody = post("", "{}");
    assert_eq!(status(&nobody), 401);
    assert!(field(&nobody, "www-authenticate").unwrap().starts_with("Basic"));
    assert_eq!(status(&post("no", "{}")), 403);
    assert_eq!(problems(&post("mo", r#"{"level": 1}"#)), ["body.level: nothing: it needs the role `admin`, a number"]);
    let seen: Value = serde_json::from_str(body(&post("mo", "{}"))).unwrap();
    assert_eq!(seen, json!({"query": [], "json": {}, "form": null}));
    let seen: Value = serde_json::from_str(body(&post("jo", r#"{"level": 1}"#))).unwrap();
    assert_eq!((&seen["json"], &seen["bytes"]), (&json!({"level": 1}), &json!(r#"{"level":1}"#)));
}

#[test]
fn variables_are_those_that_were_validated_whatever_the_client_calls_the_body() {
    let dir = Dir::new();
    let mut web = settings(dir.0.clone());
    let path = dir.0.join("signatures.json5");
    fs::write(
        &path,
        "{test: {put: {request: {fields: {name: {type: 'string', default: 'd'}, n: {type: 'number', default: 3}}}}}}",
    )
    .unwrap();
    web.signatures = WebSignatures { enable: true, path, strict: false };
    web.routes = vec![route("", true)];
    let show = async |exchange: &mut Exchange| {
        let variables = exchange.variables().await?;
        let text = |name| variables.get(name).unwrap_or("none").to_owned();
        exchange.send("text/plain", format!("{} {} {}", text("name"), text("n"), variables.get("{}").is_some())).await
    };
    let server = Server::new(web).action("/test/put", show);
    let server = Running::start(server.listen("http://127.0.0.1:0").unwrap());
    const FORM: &str = "application/x-www-form-urlencoded";
    for (kind, text, expected) in [
        ("application/json", r#"{"name": "a"}"#, "a 3 false"),
        ("application/x+json", r#"{"name": "a", "n": 4}"#, "a 4 false"),
        (FORM, "name=a", "a 3 false"),
        (FORM, "", "d 3 false"),
        ("text/plain", "", "d 3 false"),
    ] {
        let answer = post(&server, "/test/put?name=query&n=query", kind, text);
        assert_eq!(body(&answer), expected, "{kind} {text}");
    }
    let untold = "POST /test/put?name=query HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 12\r\n\r\n{\"name\":\"a\"}";
    assert_eq!(body(&server.talk(untold)), "a 3 false");
}
