//! The database on the web.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use ioto::api::{Door, database};
use ioto::config;
use ioto::db::changelog::{Conflict, Outcome, Settlement};
use ioto::db::{Db, Query};
use ioto::web::Server;
use serde_json::{Value, json};
use smol::{LocalExecutor, block_on};

use super::Scratch;

pub struct Device {
    pub address: SocketAddr,
    handle: ioto::web::Handle,
    thread: Option<std::thread::JoinHandle<()>>,
    db: Db,
    _scratch: Scratch,
}

pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Value,
}

impl Device {
    pub fn start(open: bool) -> Self {
        let scratch = Scratch::new();
        let db = scratch.open();
        let settings = config::Web { listen: Vec::new(), ..Default::default() };
        let server = Server::new(settings).listen("http://127.0.0.1:0").unwrap();
        let bound = server.action("/api/db", database(db.clone(), Door::Web { open })).bind().unwrap();
        let address = bound.addresses()[0].socket().unwrap();
        let handle = bound.handle();
        let thread = std::thread::spawn(move || {
            let executor = LocalExecutor::new();
            block_on(executor.run(bound.run(&executor)));
        });
        Self { address, handle, thread: Some(thread), db, _scratch: scratch }
    }

    pub fn ask(&self, method: &str, target: &str, body: Option<&str>) -> Answer {
        let kind = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
        self.send(method, target, kind, body.unwrap_or_default())
    }

    fn send(&self, method: &str, target: &str, fields: &str, body: &str) -> Answer {
        let host = if fields.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
        Answer { status: head[9..12].parse().unwrap(), head: head.to_ascii_lowercase(), body }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn an_item_lives_from_its_post_to_its_delete() {
    let device = Device::start(true);
    let made = device.ask("POST", "/api/db/Reading", Some(r#"{"name": "t", "value": 21.5, "secret": "s"}"#));
    assert_eq!((made.status, &made.body["value"], made.body.get("secret")), (201, &json!(21.5), None));
    let id = made.body["id"].as_str().unwrap();
    assert!(made.head.contains(&format!("location: /api/db/reading/{}", id.to_lowercase())), "{}", made.head);
    assert!(block_on(device.db.get("Reading", id)).unwrap().is_some());
    let place = format!("/api/db/Reading/{id}");
    assert_eq!(device.ask("GET", &place, None).body, made.body);
    let changed = device.ask("PATCH", &place, Some(r#"{"value": null, "kind": "in"}"#));
    assert_eq!((changed.status, changed.body.get("value"), &changed.body["kind"]), (200, None, &json!("in")));
    let head = device.ask("HEAD", &place, None);
    assert_eq!((head.status, head.body), (200, Value::Null));
    assert_eq!(device.ask("DELETE", &place, None).status, 204);
    assert_eq!(device.ask("DELETE", &place, None).status, 404);
    assert_eq!(device.ask("GET", &place, None).body["error"]["code"], json!("missing"));
}

#[test]
fn pages_and_filters_follow_the_query() {
    let device = Device::start(true);
    for n in 0..5 {
        let body = format!(r#"{{"id": "k {n}", "n": {n}, "flag": {}}}"#, n > 2);
        assert_eq!(device.ask("POST", "/api/db/Plain", Some(&body)).status, 201);
    }
    let first = device.ask("GET", "/api/db/Plain?limit=2", None).body;
    assert_eq!((first["items"].as_array().unwrap().len(), &first["next"]), (2, &json!("k 1")));
    let rest = device.ask("GET", "/api/db/Plain?limit=3&next=k%201", None).body;
    assert_eq!((rest["items"].as_array().unwrap().len(), rest.get("next")), (3, None));
    let newest = device.ask("GET", "/api/db/Plain?limit=1&order=descending", None).body;
    assert_eq!((&newest["items"][0]["id"], &newest["next"]), (&json!("k 4"), &json!("k 4")));
    let found = device.ask("GET", "/api/db/Plain?flag=true&n=4", None).body;
    assert_eq!(found, json!({"items": [{"id": "k 4", "n": 4, "flag": true}]}));
    assert_eq!(device.ask("GET", "/api/db/Plain/k%203", None).body["n"], json!(3));
    let models = device.ask("GET", "/api/db", None).body;
    assert!(models["models"].as_array().unwrap().iter().any(|model| model["name"] == "Plain"));
}

#[test]
fn what_cannot_be_done_is_said_with_status_code_and_field() {
    let device = Device::start(true);
    device.ask("POST", "/api/db/Plain", Some(r#"{"id": "a"}"#));
    let large = format!(r#"{{"id": "{}"}}"#, "x".repeat(200_000));
    for (method, target, body, status, code) in [
        ("POST", "/api/db/Plain", Some(r#"{"id": "a"}"#), 409, "exists"),
        ("POST", "/api/db/Plain", Some(r#"{"id": "b", "n": "1"}"#), 400, "invalid"),
        ("POST", "/api/db/Plain", Some("{"), 400, "syntax"),
        ("POST", "/api/db/Plain", Some("[]"), 400, "syntax"),
        ("POST", "/api/db/Plain", Some(large.as_str()), 413, "too_large"),
        ("POST", "/api/db/Nothing", Some("{}"), 404, "no_model"),
        ("POST", "/api/db/Elsewhere", Some("{}"), 404, "no_model"),
        ("PATCH", "/api/db/Plain/none", Some("{}"), 404, "missing"),
        ("POST", "/api/db/Plain", None, 415, "content_type"),
        ("PUT", "/api/db/Plain/a", Some("{}"), 405, "method"),
        ("DELETE", "/api/db/Plain", None, 405, "method"),
        ("GET", "/api/db/Plain?n=one", None, 400, "invalid"),
        ("GET", "/api/db/Plain?colour=red", None, 400, "invalid"),
        ("GET", "/api/db/Plain?limit=5000", None, 400, "invalid"),
        ("GET", "/api/db/Plain?order=random", None, 400, "invalid"),
        ("GET", "/api/db/Plain?name=%FF", None, 400, "syntax"),
        ("GET", "/api/db/Reading?secret=s", None, 400, "invalid"),
    ] {
        let answer = device.ask(method, target, body);
        assert_eq!((answer.status, &answer.body["error"]["code"]), (status, &json!(code)), "{method} {target}");
        assert!(answer.body["error"]["message"].is_string());
        assert_eq!(status == 405, answer.head.contains("\r\nallow: get, head, "), "{}", answer.head);
    }
    assert_eq!(
        device.ask("POST", "/api/db/Plain", Some(r#"{"id": "b", "n": "1"}"#)).body["error"]["field"],
        json!("n")
    );
    block_on(device.db.close());
    assert_eq!(device.ask("GET", "/api/db/Plain", None).status, 503);
}

#[test]
fn the_api_is_closed_unless_it_is_opened_and_never_answers_other_sites() {
    let closed = Device::start(false);
    let answer = closed.ask("POST", "/api/db/Plain", Some(r#"{"id": "a"}"#));
    assert_eq!((answer.status, &answer.body["error"]["code"]), (403, &json!("forbidden")));
    let open = Device::start(true);
    for fields in ["Host: evil.example\r\n", "Origin: http://evil.example\r\n", "Origin: null\r\n"] {
        let fields = format!("{fields}Content-Type: application/json\r\n");
        assert_eq!(open.send("POST", "/api/db/Plain", &fields, r#"{"id": "a"}"#).status, 403, "{fields}");
    }
    for device in [&closed, &open] {
        assert!(block_on(device.db.find("Plain", Query::new())).unwrap().items.is_empty());
    }
    let own = "Origin: http://localhost\r\nContent-Type: application/json\r\n";
    assert_eq!(open.send("POST", "/api/db/Plain", own, r#"{"id": "a"}"#).status, 201);
}

#[test]
fn the_newest_conflicts_of_replication_are_shown() {
    let device = Device::start(true);
    device.ask("POST", "/api/db/Twin", Some(r#"{"id": "a", "n": 1}"#));
    let sent = block_on(device.db.pending(1, &Default::default())).unwrap().remove(0);
    let theirs = json!({"id": "a", "n": 2}).as_object().cloned();
    let (outcome, conflict) = (Outcome::Theirs(theirs.clone()), Some(Conflict { mine: sent.item, theirs }));
    let (model, key, n) = (sent.model, sent.key, sent.n);
    block_on(device.db.settle(vec![Settlement { model, key, n, base: 3, outcome, conflict, known: None }])).unwrap();
    let shown = device.ask("GET", "/api/db?conflicts", None);
    let conflict = &shown.body["conflicts"][0];
    assert_eq!((shown.status, &conflict["model"], &conflict["resolution"]), (200, &json!("Twin"), &json!("theirs")));
    assert_eq!((&conflict["device"]["n"], &conflict["cloud"]["n"]), (&json!(1), &json!(2)));
    let wrong = device.ask("GET", "/api/db?conflicts&limit=0", None);
    assert_eq!((wrong.status, &wrong.body["error"]["code"]), (400, &json!("invalid")));
}
