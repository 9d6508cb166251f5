//! Tests of the credentials provider, against a server that speaks plain HTTP.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::SystemTime;

use super::*;

/// A provider whose credentials last so many seconds, by a clock of its own; with a negative number it refuses.
struct Provider {
    endpoint: String,
    life: Arc<AtomicI64>,
    asked: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    /// `behind` is by how much its clock differs from ours.
    fn start(life: i64, behind: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = Self {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            life: Arc::new(AtomicI64::new(life)),
            asked: Arc::default(),
            heads: Arc::default(),
        };
        let (life, asked, heads) = (provider.life.clone(), provider.asked.clone(), provider.heads.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                heads.lock().unwrap().push(lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"));
                let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
                let now = SystemTime::now() - behind;
                let (status, body) = match life.load(Ordering::SeqCst) {
                    refused if refused < 0 => (403, r#"{"message":"Access Denied"}"#.to_owned()),
                    life => {
                        let end = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64 + life * 1000;
                        let end = net::iso8601(end);
                        let keys = format!(r#""accessKeyId":"AKID{number}","secretAccessKey":"s","sessionToken":"t""#);
                        (200, format!(r#"{{"credentials":{{{keys},"expiration":"{end}"}}}}"#))
                    }
                };
                let head =
                    format!("Date: {}\r\nContent-Length: {}\r\nConnection: close", net::http_date(now), body.len());
                stream.write_all(format!("HTTP/1.1 {status} X\r\n{head}\r\n\r\n{body}").as_bytes()).unwrap();
            }
        });
        provider
    }

    fn client(&self) -> RoleAlias {
        let config = config::RoleAlias {
            endpoint: self.endpoint.clone(),
            role_alias: "ioto".into(),
            thing: None,
            certificate: None,
            key: None,
            authority: None,
        };
        RoleAlias::new(&config, &config::OutboundProxy::default(), "lamp").unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn id(alias: &RoleAlias) -> Result<String, Error> {
    smol::block_on(alias.credentials()).map(|credentials| credentials.access_key_id().to_owned())
}

#[test]
fn credentials_are_asked_for_once_and_kept() {
    let provider = Provider::start(3600, Duration::ZERO);
    let alias = provider.client();
    for _ in 0..3 {
        assert_eq!(id(&alias).unwrap(), "AKID1");
    }
    let heads = provider.heads.lock().unwrap();
    assert!(heads[0].starts_with("GET /role-aliases/ioto/credentials HTTP/1.1\n"), "{heads:?}");
    assert!(heads.len() == 1 && heads[0].contains("x-amzn-iot-thingname: lamp"), "{heads:?}");
    assert!(!format!("{alias:?}").contains("AKID"));
}

#[test]
fn a_device_with_a_wrong_clock_counts_their_time_by_the_clock_of_the_provider() {
    let provider = Provider::start(3600, Duration::from_secs(24 * 3600));
    let alias = provider.client();
    assert_eq!((id(&alias).unwrap(), id(&alias).unwrap()), ("AKID1".into(), "AKID1".into()));
    let left = |at: Instant| at.saturating_duration_since(Instant::now()).as_secs();
    let held = alias.held.lock().unwrap().clone().unwrap();
    assert!((2500..=2880).contains(&left(held.renew)) && (3560..=3570).contains(&left(held.end)), "{}", left(held.end));
}

#[test]
fn those_that_are_over_are_used_no_more() {
    let provider = Provider::start(10, Duration::ZERO);
    let alias = provider.client();
    // They last for less than a request may take.
    assert_eq!((id(&alias).unwrap(), id(&alias).unwrap()), ("AKID1".into(), "AKID2".into()));
    provider.life.store(-1, Ordering::SeqCst);
    let error = id(&alias).unwrap_err();
    assert!(error.to_string().contains("403") && error.to_string().contains("'lamp'"), "{error}");
}

#[test]
fn old_ones_that_are_good_serve_while_the_provider_fails_and_it_is_left_alone() {
    let provider = Provider::start(3600, Duration::ZERO);
    let alias = provider.client();
    id(&alias).unwrap();
    provider.life.store(-1, Ordering::SeqCst);
    alias.held.lock().unwrap().as_mut().unwrap().renew = Instant::now();
    for _ in 0..5 {
        assert_eq!(id(&alias).unwrap(), "AKID1");
    }
    assert_eq!(provider.asked(), 2);
}

#[test]
fn refused_ones_are_replaced_but_not_those_that_came_meanwhile() {
    let provider = Provider::start(3600, Duration::ZERO);
    let alias = provider.client();
    id(&alias).unwrap();
    assert!(alias.refused("AKID1"));
    assert_eq!(id(&alias).unwrap(), "AKID2");
    assert!(alias.refused("AKID1"));
    assert_eq!(id(&alias).unwrap(), "AKID2");
}

#[test]
fn many_at_a_time_ask_once() {
    let provider = Provider::start(3600, Duration::ZERO);
    let alias = provider.client();
    let executor = smol::LocalExecutor::new();
    let tasks: Vec<_> = (0..50).map(|_| executor.spawn(alias.credentials())).collect();
    for task in tasks {
        assert_eq!(smol::block_on(executor.run(task)).unwrap().access_key_id(), "AKID1");
    }
    assert_eq!(provider.asked(), 1);
}

#[test]
fn what_is_no_answer_is_an_error() {
    for text in [
        "{}",
        "[]",
        r#"{"credentials":{"accessKeyId":"a","secretAccessKey":"s","sessionToken":"t"}}"#,
        r#"{"credentials":{"accessKeyId":"a","secretAccessKey":"s","sessionToken":"","expiration":"2018-01-18T09:18:06Z"}}"#,
        r#"{"credentials":{"accessKeyId":"a","secretAccessKey":"s","sessionToken":"t","expiration":"soon"}}"#,
    ] {
        assert!(read(&serde_json::from_str(text).unwrap()).is_none(), "{text}");
    }
}
