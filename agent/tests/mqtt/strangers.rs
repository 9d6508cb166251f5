//! Servers that are no brokers, refuse or fall silent; the example.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use ioto::mqtt::{Client, Error, Options, QoS};
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use super::broker::{Broker, LONG, failure, in_time, with_client};

/// A server that gives one of these answers to each read, whatever it reads.
fn server(answers: Vec<&'static [u8]>) -> (u16, impl Future<Output = Option<String>>) {
    let listener = smol::Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
    let port = listener.get_ref().local_addr().unwrap().port();
    let serve = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut answers = answers.iter();
            while stream.read(&mut [0; 1000]).await.is_ok_and(|count| count > 0) {
                if let Some(answer) = answers.next() {
                    stream.write_all(answer).await.unwrap();
                }
            }
        }
    };
    (port, serve)
}

const CONNACK: &[u8] = b"\x20\x02\x00\x00";

#[test]
fn a_server_that_is_no_broker_is_a_clear_error_and_never_a_busy_loop() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "did not answer within"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "wrong flags"),
        (b"\x20\x02\x00\x07", "not authorised"),
        (b"\x20\x02\x00\x02", "mqtt.clientId"),
        (b"\xd0\x00", "no answer to CONNECT"),
        (b"\x20\x02\x00\x00\x30\xff\xff\xff\x7f", "above the limit"),
        (b"\x20\x02\x00\x00\x20\x02\x00\x00", "a second CONNACK"),
    ];
    for (answer, words) in cases {
        let (port, serve) = server(vec![answer]);
        let patience = Duration::from_millis(300);
        let options = Options::new("127.0.0.1", port, "x").timeout(patience).backoff(LONG, LONG);
        with_client(options, async |client: Client| {
            let reason = async { Some(failure(&client).await) }.or(serve).await.unwrap();
            assert!(reason.contains(words), "{reason}");
            assert!(client.state().connects <= 1);
        });
    }
}

#[test]
fn a_refused_subscription_is_told_to_its_caller_and_disturbs_nobody() {
    // Mosquitto grants every filter, whatever its access list says.
    let (port, serve) = server(vec![CONNACK, b"\x90\x03\x00\x01\x80", b"\x40\x02\x00\x02"]);
    with_client(Options::new("127.0.0.1", port, "x"), async |client: Client| {
        let test = async {
            let refused = client.subscribe("secret/#", QoS::AtLeastOnce, async |_| ()).await.unwrap_err();
            assert!(matches!(&refused, Error::Refused(filter) if filter == "secret/#"));
            client.publish("t", "x").await.unwrap();
            None
        };
        in_time("answers", test.or(serve)).await;
        assert_eq!((client.state().connects, client.state().subscriptions), (1, 0));
    });
}

#[test]
fn a_broker_that_falls_silent_is_left_within_one_and_a_half_intervals() {
    let (port, serve) = server(vec![CONNACK]);
    let options = Options::new("127.0.0.1", port, "x").keep_alive(Duration::from_secs(1)).backoff(LONG, LONG);
    with_client(options, async |client: Client| {
        let start = Instant::now();
        let reason = async { Some(failure(&client).await) }.or(serve).await.unwrap();
        assert!(reason.contains("keep-alive"), "{reason}");
        assert!((1400..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    });
}

#[test]
fn the_example_receives_what_it_publishes_while_other_tasks_go_on() {
    let broker = Broker::open();
    let test = std::env::current_exe().unwrap();
    let example = test.parent().unwrap().parent().unwrap().join("examples/mqtt");
    assert!(example.is_file(), "{} is missing: build it with cargo build --examples", example.display());
    let output = Command::new(example).arg(format!("mqtt://127.0.0.1:{}", broker.port)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    for celsius in 20..25 {
        assert!(text.contains(&format!("received ioto-example/wish/temperature: {celsius}\n")), "{text}");
    }
    assert!(text.contains("sent 5, received 5"), "{text}");
    assert!(text.matches("blink").count() > 5, "{text}");
}
