//! What becomes of messages between this client and a real mosquitto: QoS 2, the outbox over kills, what publishing waits
//! for, requests, the last will, one subscription for many handlers.

#![cfg(feature = "mqtt")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ioto::mqtt::{self, Client, Error, Message, Options, Policy, Priority, QoS, QueueLimits, Request, Wait};
use smol::future::FutureExt;
use smol::{LocalExecutor, Timer, channel};

const LONG: Duration = Duration::from_secs(30);

/// A mosquitto of our own, and a directory that is removed at the end.
struct Broker {
    directory: PathBuf,
    port: u16,
    process: Child,
}

impl Broker {
    fn start() -> Self {
        let directory =
            std::env::temp_dir().join(format!("ioto-delivery-{}-{:x}", std::process::id(), fastrand::u64(..)));
        fs::create_dir(&directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n"
        );
        fs::write(directory.join("mosquitto.conf"), settings).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let process = Command::new("mosquitto")
            .env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"))
            .arg("-c")
            .arg(directory.join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need the package mosquitto");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < LONG, "mosquitto does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { directory, port, process }
    }

    fn options(&self, client_id: &str) -> Options {
        let fast = Duration::from_millis(20);
        Options::new("127.0.0.1", self.port, client_id).backoff(fast, fast).timeout(Duration::from_secs(5))
    }

    fn durable(&self, client_id: &str) -> Options {
        self.options(client_id).outbox(self.directory.join(format!("{client_id}.outbox")))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// Runs a test with a connection at work; at its end the connection is dropped without a word, as by a kill.
fn with<T>(options: Options, test: impl AsyncFnOnce(Client) -> T) -> T {
    let (client, connection) = mqtt::open(options).unwrap();
    let executor = LocalExecutor::new();
    let _connection = executor.spawn(connection.run());
    let too_late = async {
        Timer::after(LONG).await;
        panic!("the test takes too long");
    };
    smol::block_on(executor.run(test(client).or(too_late)))
}

async fn collect(client: &Client, filter: &str) -> channel::Receiver<Message> {
    let (sender, receiver) = channel::unbounded();
    let handler = async move |message: Message| drop(sender.send(message).await);
    assert_eq!(client.subscribe(filter, QoS::ExactlyOnce, handler).await.unwrap(), QoS::ExactlyOnce);
    receiver
}

#[test]
fn qos_2_goes_both_ways_and_every_wait_ends() {
    let broker = Broker::start();
    with(broker.durable("both"), async |client: Client| {
        let incoming = collect(&client, "both/#").await;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for wait in [Wait::Ack, Wait::Sent, Wait::None] {
                for is_durable in [false, true] {
                    client.publish("both/x", "one").qos(qos).wait(wait).durable(is_durable).await.unwrap();
                    let message = incoming.recv().await.unwrap();
                    assert_eq!((message.qos, &message.payload[..]), (qos, &b"one"[..]));
                }
            }
        }
        for n in 0..2000 {
            client.publish("both/many", n.to_string()).qos(QoS::ExactlyOnce).wait(Wait::None).await.unwrap();
        }
        for n in 0..2000 {
            assert_eq!(incoming.recv().await.unwrap().payload, n.to_string());
        }
        assert!(incoming.is_empty());
    });
}

#[test]
fn durable_messages_outlive_clients_that_end_at_any_time() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let broker = Broker::start();
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let (watched, end) = (arrived.clone(), channel::bounded::<()>(1));
    std::thread::scope(|scope| {
        let options = broker.options("watcher");
        let stop = end.1.clone();
        let ready = channel::bounded::<()>(1);
        scope.spawn(move || {
            let (client, connection) = mqtt::new(options);
            let executor = LocalExecutor::new();
            let _connection = executor.spawn(connection.run());
            smol::block_on(executor.run(async {
                let handler = async move |message: Message| watched.lock().unwrap().push(message);
                client.subscribe("kept/#", QoS::ExactlyOnce, handler).await.unwrap();
                ready.0.send(()).await.unwrap();
                stop.recv().await.ok();
            }));
        });
        ready.1.recv_blocking().unwrap();
        let mut published = 0;
        for _ in 0..30 {
            let (count, pause) = (random.u32(1..40), Duration::from_micros(random.u64(..20_000)));
            with(broker.durable("kept"), async |client: Client| {
                for n in published..published + count {
                    let qos = if n % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                    let topic = format!("kept/{}", n % 2);
                    client.publish(topic, n.to_string()).qos(qos).durable(true).wait(Wait::None).await.unwrap();
                }
                Timer::after(pause).await;
            });
            published += count;
        }
        with(broker.durable("kept"), async |client: Client| {
            while client.state().queued + client.state().in_flight > 0 {
                Timer::after(Duration::from_millis(10)).await;
            }
        });
        std::thread::sleep(Duration::from_millis(200));
        end.0.send_blocking(()).unwrap();
        let arrived = arrived.lock().unwrap();
        for level in [0, 1] {
            let topic = format!("kept/{level}");
            let numbers = arrived.iter().filter(|message| message.topic == topic);
            let numbers = numbers.map(|message| std::str::from_utf8(&message.payload).unwrap().parse().unwrap());
            let mut numbers: Vec<u32> = numbers.collect();
            if level == 0 {
                let mut seen = std::collections::HashSet::new();
                numbers.retain(|n| seen.insert(*n));
            }
            let expected: Vec<u32> = (0..published).filter(|n| n % 2 == level).collect();
            assert_eq!(numbers, expected, "SEED={seed}");
        }
    });
}

#[test]
fn requests_are_answered_refused_or_too_late() {
    let broker = Broker::start();
    with(broker.options("requests"), async |client: Client| {
        let server = client.clone();
        let handler = async move |message: Message| {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            let verdict = if text.contains("please") { "accepted" } else { "rejected" };
            for token in ["other", "mine"] {
                let answer = format!("{{\"clientToken\": \"{token}\", \"to\": 1}}");
                server.publish(format!("ask/{verdict}"), answer).await.unwrap();
            }
        };
        client.subscribe("ask", QoS::AtLeastOnce, handler).await.unwrap();
        let request = |text: &'static str, token: &str| {
            let request = Request::new("ask", text).answered_on("ask/accepted").refused_on("ask/rejected");
            request.client_token(token).timeout(Duration::from_secs(1))
        };
        let answer = client.request(request("please", "mine")).await.unwrap();
        assert!(String::from_utf8_lossy(&answer.payload).contains("mine"));
        assert!(matches!(client.request(request("now", "mine")).await, Err(Error::Denied(_))));
        assert!(matches!(client.request(request("please", "nobody's")).await, Err(Error::Unanswered(_))));
        assert_eq!(client.state().subscriptions, 1, "the topics of the answers were left");
    });
}

#[test]
fn the_last_will_comes_when_a_client_ends_without_a_goodbye() {
    let broker = Broker::start();
    with(broker.options("heir"), async |client: Client| {
        let wills = collect(&client, "will/#").await;
        let will = Message { retain: true, ..Message::new("will/x", "gone", QoS::ExactlyOnce) };
        let options = broker.options("testator").will(will);
        std::thread::spawn(move || with(options, async |client: Client| client.publish("x", "y").await.unwrap()))
            .join()
            .unwrap();
        let will = wills.recv().await.unwrap();
        assert_eq!((&will.payload[..], will.qos), (&b"gone"[..], QoS::ExactlyOnce));
    });
}

#[test]
fn one_subscription_at_the_broker_serves_many_handlers() {
    let broker = Broker::start();
    with(broker.options("under"), async |client: Client| {
        let (sender, receiver) = channel::unbounded();
        for n in 0..100 {
            let sender = sender.clone();
            let handler = async move |message: Message| sender.send((n, message.topic)).await.unwrap();
            let filter = format!("under/{n}");
            client.subscribe_under("under/#", &filter, QoS::AtLeastOnce, handler).await.unwrap();
        }
        assert_eq!(client.state().subscriptions, 1);
        for n in [7, 99, 0] {
            client.publish(format!("under/{n}"), "").await.unwrap();
            assert_eq!(receiver.recv().await.unwrap(), (n, format!("under/{n}")));
        }
        assert!(receiver.is_empty());
    });
}

#[test]
fn the_policies_of_full_queues_are_kept_while_there_is_no_broker() {
    let limits = |policy| QueueLimits { count: 3, bytes: 1 << 20, age: None, policy };
    let options = Options::new("127.0.0.1", 1, "policies")
        .queue_limits(Priority::High, limits(Policy::DropOldest))
        .queue_limits(Priority::Normal, limits(Policy::DropNewest))
        .queue_limits(Priority::Low, QueueLimits { age: Some(Duration::ZERO), ..limits(Policy::Coalesce) });
    with(options, async |client: Client| {
        let publish = |n: u32, priority| client.publish(format!("t/{n}"), "").priority(priority).wait(Wait::None);
        for n in 0..5 {
            publish(n, Priority::High).await.unwrap();
        }
        for n in 0..5 {
            assert_eq!(publish(n, Priority::Normal).await.is_ok(), n < 3);
        }
        publish(1, Priority::Low).await.unwrap();
        let state = client.state();
        assert_eq!((state.dropped.oldest, state.dropped.newest, state.dropped.expired), (2, 2, 1));
        let queues = state.queues.map(|queue| (queue.messages, queue.dropped, queue.age.is_some()));
        assert_eq!(queues, [(3, 2, true), (3, 2, true), (0, 1, false)]);
        assert_eq!(state.queues.map(|queue| queue.bytes), [36, 36, 0]);
    });
}
