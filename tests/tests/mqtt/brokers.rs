//! What every broker must do with us, over every transport.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ioto::mqtt::{Message, Options, QoS};
use ioto::net::TlsClient;
use ioto_tests::{Mosquitto, Scratch, eventually, free_port};

use crate::{collect, in_time, next, until, with_client};

/// The largest payload of AWS IoT.
const LARGE: usize = 128 * 1024;

/// The authority `ca`, the server `server` and the client `client`, as NAME.crt and NAME.key.
pub fn certificates(directory: &Path) {
    let script = "set -e
        new() { openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$1 -keyout $1.key -out $1.csr; }
        new ca; new server; new client
        printf 'basicConstraints=critical,CA:TRUE' >ca.ext
        printf 'subjectAltName=DNS:localhost,DNS:broker.example,IP:127.0.0.1' >server.ext
        printf 'extendedKeyUsage=clientAuth\\nsubjectAltName=DNS:client' >client.ext
        openssl x509 -req -in ca.csr -days 30 -signkey ca.key -extfile ca.ext -out ca.crt
        for name in server client; do
            openssl x509 -req -in $name.csr -days 30 -CA ca.crt -CAkey ca.key -CAcreateserial -extfile $name.ext -out $name.crt
        done";
    let output = Command::new("sh").args(["-c", script]).current_dir(directory).output().expect("run openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub fn tls(directory: &Path, with_certificate: bool) -> TlsClient {
    let builder = TlsClient::builder().authority(directory.join("ca.crt"));
    let builder = match with_certificate {
        true => builder.identity(directory.join("client.crt"), directory.join("client.key")),
        false => builder,
    };
    builder.build().expect("the certificates are good")
}

/// Messages of every size and quality of service both ways, retained ones, wildcards, an end of a subscription.
///
/// `keeps_qos`: the broker delivers with the lower of both qualities of service, as it must [MQTT-3.8.4-6].
fn conversation(options: &Options, keeps_qos: bool) {
    with_client(options.clone(), async |client| {
        let all = collect(&client, "talk/+/#", QoS::AtLeastOnce).await;
        for (index, size) in [0, 1, 127, 128, 16_383, 16_384, LARGE].into_iter().enumerate() {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                let payload: Vec<u8> = (0..size).map(|at| (at * 7 + index) as u8).collect();
                in_time("the publish", client.publish("talk/a/b", payload.clone()).qos(qos)).await.expect("it is sent");
                let message = next(&all).await;
                assert_eq!((message.topic.as_str(), message.retain), ("talk/a/b", false));
                assert!(message.qos == qos || !keeps_qos, "{:?} for {qos:?}", message.qos);
                assert!(message.payload == payload, "{size} bytes");
            }
        }
        let kept = Message { retain: true, ..Message::new("keep/one", "kept", QoS::AtLeastOnce) };
        in_time("the publish", client.send(kept)).await.expect("it is sent");
        let late = collect(&client, "keep/#", QoS::AtMostOnce).await;
        let message = next(&late).await;
        assert_eq!((&message.payload[..], message.retain), (&b"kept"[..], true));
        let gone = Message { retain: true, ..Message::new("keep/one", "", QoS::AtLeastOnce) };
        in_time("the publish", client.send(gone)).await.expect("it is sent");
        in_time("the end of a subscription", client.unsubscribe("talk/+/#")).await.expect("the broker confirms");
        let (other, granted) = in_time("a listener", client.listen("talk/x", QoS::AtMostOnce)).await.expect("granted");
        assert_eq!(granted, QoS::AtMostOnce);
        client.publish("talk/x", "x").await.expect("it is sent");
        assert_eq!(&in_time("a message", other.next()).await.expect("the connection lives").payload[..], b"x");
        assert!(all.is_empty(), "messages after the end of the subscription");
    });
}

/// What comes while we are away is there when we are back.
fn absence(options: &Options, publish: impl FnOnce()) {
    with_client(options.clone(), async |client| drop(collect(&client, "away/#", QoS::AtLeastOnce).await));
    publish();
    with_client(options.clone(), async |client| {
        let messages = collect(&client, "away/#", QoS::AtLeastOnce).await;
        let message = next(&messages).await;
        assert_eq!((message.topic.as_str(), &message.payload[..]), ("away/1", &b"while you were out"[..]));
    });
}

#[test]
fn mosquitto_understands_us_over_tcp_tls_mutual_tls_and_websockets() {
    let scratch = Scratch::new();
    certificates(scratch.path());
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let secure = "cafile DIR/ca.crt\ncertfile DIR/server.crt\nkeyfile DIR/server.key\n";
    let settings = format!(
        "allow_anonymous true\n\
         listener {} 127.0.0.1\n{secure}\
         listener {} 127.0.0.1\n{secure}require_certificate true\nuse_identity_as_username true\n\
         listener {} 127.0.0.1\nprotocol websockets\n\
         listener {} 127.0.0.1\nprotocol websockets\n{secure}",
        ports[0], ports[1], ports[2], ports[3]
    );
    let broker = Mosquitto::with(scratch, &settings);
    let directory = broker.directory();
    let plain = Options::new("127.0.0.1", broker.address().port(), "plain");
    conversation(&plain, true);
    absence(&plain, || broker.publish("away/1", "while you were out"));
    for (name, port, options) in [
        ("tls", ports[0], Options::new("localhost", ports[0], "tls").tls(tls(directory, false))),
        ("mutual", ports[1], Options::new("127.0.0.1", ports[1], "mutual").tls(tls(directory, true))),
        ("ws", ports[2], Options::new("127.0.0.1", ports[2], "ws").websocket("/mqtt")),
        ("wss", ports[3], Options::new("localhost", ports[3], "wss").websocket("/mqtt").tls(tls(directory, false))),
    ] {
        println!("{name} on port {port}");
        conversation(&options, true);
        absence(&options, || broker.publish("away/1", "while you were out"));
    }
    let stranger = Options::new("127.0.0.1", ports[1], "stranger").tls(tls(directory, false));
    with_client(stranger, async |client| {
        until("an error", || client.state().last_error.is_some()).await;
        assert!(!client.state().connected);
    });
}

/// amqtt, a broker in Python, in an environment of its own.
struct Amqtt {
    port: u16,
    websocket: u16,
    child: Child,
    _scratch: Scratch,
}

impl Amqtt {
    fn start() -> Self {
        let (port, websocket, scratch) = (free_port(), free_port(), Scratch::new());
        let configuration = format!(
            "listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n  ws:\n    type: ws\n    \
             bind: 127.0.0.1:{websocket}\nplugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    \
             allow_anonymous: true\n"
        );
        let file = scratch.write("amqtt.yaml", &configuration);
        let directory = std::env::var("IOTO_TEST_BROKER")
            .unwrap_or_else(|_| ioto_tests::repository().join(".venv-broker").to_string_lossy().into_owned());
        let child = Command::new(Path::new(&directory).join("bin/amqtt"))
            .arg("-c")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start amqtt; `ci/test test` installs it");
        let broker = Self { port, websocket, child, _scratch: scratch };
        for port in [broker.port, broker.websocket] {
            eventually("amqtt listens", Duration::from_secs(20), || {
                std::net::TcpStream::connect(("127.0.0.1", port)).ok()
            });
        }
        broker
    }
}

impl Drop for Amqtt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_broker_of_another_make_understands_us_too() {
    let broker = Amqtt::start();
    let plain = Options::new("127.0.0.1", broker.port, "plain");
    // amqtt takes the quality of service of the subscription, and forgets what came for a client that was away (mosquitto_sub
    // -c misses it too).
    conversation(&plain, false);
    conversation(&Options::new("127.0.0.1", broker.websocket, "socket").websocket("/"), false);
}
