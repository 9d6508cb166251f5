//! What stands between us and the broker: proxies, servers that want a name, a protocol or a signature; and being there only
//! when it is needed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ioto::mqtt::{Options, QoS, profile};
use ioto::net::{Proxy, TlsClient};
use ioto_tests::{Agent, Mosquitto, Scratch, eventually, free_port};
use serde_json::Value;

use crate::brokers::{certificates, tls};
use crate::front::Front;
use crate::{collect, next, until, with_client};

fn exchange(options: Options) {
    with_client(options, async |client| {
        let messages = collect(&client, "x/#", QoS::AtLeastOnce).await;
        client.publish("x/y", "through").await.expect("it is sent");
        assert_eq!(&next(&messages).await.payload[..], b"through");
    });
}

/// Copies both ways until either side ends.
fn join(one: TcpStream, two: TcpStream) {
    let (mut from, mut to) = (one.try_clone().expect("a socket"), two.try_clone().expect("a socket"));
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let (mut from, mut to) = (two, one);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// A proxy that speaks both protocols, wants the user `u` with the password `p`, and counts whom it let through.
fn proxy() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let counter = counter.clone();
            thread::spawn(move || serve(client, &counter));
        }
    });
    (port, count)
}

fn serve(mut client: TcpStream, counter: &AtomicUsize) -> Option<()> {
    let mut first = [0];
    client.read_exact(&mut first).ok()?;
    let port = if first[0] == 5 { socks(&mut client)? } else { connect(&mut client)? };
    counter.fetch_add(1, Ordering::Relaxed);
    // The name is the proxy's to look up: here all names are this machine.
    join(client, TcpStream::connect(("127.0.0.1", port)).ok()?);
    Some(())
}

fn connect(client: &mut TcpStream) -> Option<u16> {
    let mut head = vec![b'C'];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    if !head.contains("Proxy-Authorization: Basic dTpw\r\n") {
        client.write_all(b"HTTP/1.1 407 Login\r\n\r\n").ok()?;
        return None;
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    head.strip_prefix("CONNECT broker.example:")?.split(' ').next()?.parse().ok()
}

fn socks(client: &mut TcpStream) -> Option<u16> {
    let mut methods = [0; 3];
    client.read_exact(&mut methods).ok()?;
    client.write_all(&[5, 2]).ok()?;
    let mut login = [0; 5];
    client.read_exact(&mut login).ok()?;
    if login != *b"\x01\x01u\x01p" {
        client.write_all(&[1, 1]).ok()?;
        return None;
    }
    client.write_all(&[1, 0]).ok()?;
    let mut request = [0; 5 + 14 + 2];
    client.read_exact(&mut request).ok()?;
    (&request[..5] == b"\x05\x01\x00\x03\x0e").then_some(())?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
    Some(u16::from_be_bytes([request[19], request[20]]))
}

#[test]
fn proxies_of_both_kinds_lead_to_the_broker_by_its_name_also_with_tls_and_websockets() {
    let scratch = Scratch::new();
    certificates(scratch.path());
    let (secure, websocket) = (free_port(), free_port());
    let settings = format!(
        "allow_anonymous true\nlistener {secure} 127.0.0.1\ncafile DIR/ca.crt\ncertfile DIR/server.crt\n\
         keyfile DIR/server.key\nlistener {websocket} 127.0.0.1\nprotocol websockets\n"
    );
    let broker = Mosquitto::with(scratch, &settings);
    let (port, count) = proxy();
    for kind in ["http", "socks5"] {
        let gate: Proxy = format!("{kind}://u:p@127.0.0.1:{port}").parse().expect("a proxy");
        let name = "broker.example";
        exchange(Options::new(name, broker.address().port(), "a").proxy(gate.clone()));
        exchange(Options::new(name, secure, "b").tls(tls(broker.directory(), false)).proxy(gate.clone()));
        exchange(Options::new(name, websocket, "c").websocket("/mqtt").proxy(gate));
        let stranger: Proxy = format!("{kind}://u:x@127.0.0.1:{port}").parse().expect("a proxy");
        with_client(Options::new(name, secure, "d").proxy(stranger), async |client| {
            until("an error", || client.state().last_error.is_some()).await;
            let error = client.state().last_error.unwrap_or_default();
            assert!(error.contains("user name and password") && error.contains(kind), "{error}");
        });
    }
    assert_eq!(count.load(Ordering::Relaxed), 6);
}

#[test]
fn a_server_that_tells_mqtt_by_name_and_alpn_is_told_both() {
    let scratch = Scratch::new();
    certificates(scratch.path());
    let broker = Mosquitto::with(scratch, "allow_anonymous true\n");
    let front = Front::start(broker.directory(), broker.address(), &["h2", "x-amzn-mqtt-ca"]);
    let authority = broker.directory().join("ca.crt");
    let tls = TlsClient::builder().authority(authority).alpn(["x-amzn-mqtt-ca"]).build().expect("a good file");
    exchange(Options::new("localhost", front.port, "a").tls(tls).profile(&profile::AWS));
    let told = &front.told()[0];
    assert_eq!((told.name.as_deref(), told.alpn.as_deref()), (Some("localhost"), Some("x-amzn-mqtt-ca")));
}

#[test]
fn an_agent_without_a_certificate_signs_the_address_of_the_websocket() {
    let scratch = Scratch::new();
    certificates(scratch.path());
    let websocket = free_port();
    let settings = format!("allow_anonymous true\nlistener {websocket} 127.0.0.1\nprotocol websockets\n");
    let broker = Mosquitto::with(scratch, &settings);
    let front = Front::start(broker.directory(), ([127, 0, 0, 1], websocket).into(), &[]);
    let mut agent = Agent::new();
    let authority = broker.directory().join("ca.crt");
    agent.configure(
        "mqtt",
        &format!(
            "{{services: {{mqtt: true}}, aws: {{region: 'eu-central-1', accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 's'}}, \
             mqtt: {{endpoint: 'wss://localhost:{}/mqtt', authority: '{}', profile: 'aws'}}}}",
            front.port,
            authority.display()
        ),
    );
    agent.start();
    eventually("the agent is connected", Duration::from_secs(10), || {
        (figures(&agent)["connected"] == true).then_some(())
    });
    let first = &front.told()[0].first;
    for part in
        ["GET /mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256&", "%2Feu-central-1%2Fiotdevicegateway%2F", "&X-Amz-Signature="]
    {
        assert!(first.contains(part), "{first}");
    }
    assert!(!agent.log().contains("X-Amz-Signature"), "the signature is no one's business");
}

/// What `ioto status` says about MQTT.
fn figures(agent: &Agent) -> Value {
    let output = agent.ask(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    status["services"]["mqtt"].clone()
}

#[test]
fn on_demand_the_connection_comes_with_a_message_and_goes_when_nobody_needs_it() {
    let broker = Mosquitto::with(Scratch::new(), "allow_anonymous true\n");
    let options = Options::new("127.0.0.1", broker.address().port(), "rare").on_demand(Duration::from_millis(300));
    with_client(options, async |client| {
        for round in 1..=2 {
            assert!(!client.state().connected, "nobody needs it");
            client.publish("rare", "now").await.expect("it is sent");
            let sent = Instant::now();
            assert_eq!(client.state().connects, round);
            until("the connection rests", || !client.state().connected).await;
            assert!(sent.elapsed() >= Duration::from_millis(250), "{:?}", sent.elapsed());
            assert_eq!(client.state().last_error, None);
        }
    });
}

#[test]
fn outside_of_its_schedule_the_agent_stays_away_and_says_so_in_its_figures() {
    let broker = Mosquitto::start();
    let mut agent = Agent::new();
    let endpoint = format!("mqtt://{}", broker.address());
    // The thirtieth of February.
    agent.configure(
        "mqtt",
        &format!("{{services: {{mqtt: true}}, mqtt: {{endpoint: '{endpoint}', schedule: '* * 30 2 *'}}}}"),
    );
    agent.start();
    thread::sleep(Duration::from_millis(500));
    let figures = figures(&agent);
    assert_eq!((&figures["connected"], &figures["connects"]), (&Value::from(false), &Value::from(0)), "{figures}");
    let shown = agent.ask(&["config", "show"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("* * 30 2 *"), "{shown}");
}
