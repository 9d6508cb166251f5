//! Brokers and links that fail, and clients that are closed.

use std::collections::HashSet;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use ioto::mqtt::{self, Client, Error, Message, Options, QoS};
use nix::sys::signal::Signal;
use smol::future::FutureExt;
use smol::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use smol::{LocalExecutor, Timer, channel};

use super::broker::{Broker, Subscriber, collect, in_time, until, with_client};

#[test]
fn a_burst_larger_than_every_queue_reaches_a_slow_handler_without_loss() {
    let broker = Broker::start("allow_anonymous true\nmax_queued_messages 0");
    with_client(broker.options("burst").keep_alive(Duration::from_secs(1)), async |client: Client| {
        let (sender, receiver) = channel::unbounded();
        let handler = async move |message: Message| {
            Timer::after(Duration::from_millis(1)).await;
            sender.send(message).await.ok();
        };
        client.subscribe("burst", QoS::AtLeastOnce, handler).await.unwrap();
        let lines: String = (0..2000).map(|n| format!("{n}\n")).collect();
        fs::write(broker.directory.file("lines"), lines).unwrap();
        let file = fs::File::open(broker.directory.file("lines")).unwrap();
        let mut burst = broker.peer("mosquitto_pub", &["-t", "burst", "-q", "1", "-l"]);
        assert!(burst.stdin(file).status().await.unwrap().success());
        for n in 0..2000 {
            assert_eq!(in_time("message of the burst", receiver.recv()).await.unwrap().payload, n.to_string());
        }
        assert_eq!(client.state().connects, 1);
    });
}

#[test]
fn five_hundred_messages_survive_a_broker_that_is_stopped_and_started_while_they_are_under_way() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // Stopped by SIGTERM it keeps what it has acknowledged; the connections it drops all the same.
    let settings = "allow_anonymous true\npersistence true\npersistence_location DIR/\nmax_queued_messages 0";
    let mut broker = Broker::start(settings);
    with_client(broker.options("outage").inflight(20).queue(50), async |client: Client| {
        // A subscriber with a session that the broker keeps, away while the messages come.
        broker.subscriber("load", &["-c", "-i", "late"]).await.end().await;

        let executor = LocalExecutor::new();
        let work = async {
            let publishes: Vec<_> = (0..500)
                .map(|n| {
                    let (client, pause) = (client.clone(), Duration::from_millis(random.u64(..1500)));
                    executor.spawn(async move {
                        Timer::after(pause).await;
                        client.publish(format!("load/{n}"), "x").await
                    })
                })
                .collect();
            for connects in 1..=3 {
                let enough = client.state().sent + random.u64(1..60);
                let is_enough = || client.state().connects == connects && client.state().sent >= enough;
                until("progress", is_enough).await;
                assert!(client.state().sent < 500, "SEED={seed}");
                broker.stop(Signal::SIGTERM);
                Timer::after(Duration::from_millis(random.u64(..300))).await;
                broker.restart();
            }
            for publish in publishes {
                in_time("acknowledgement", publish).await.unwrap();
            }
        };
        executor.run(work).await;
        assert_eq!(client.state().sent, 500);
        assert_eq!(client.state().connects, 4, "SEED={seed}");

        let mut missing: HashSet<String> = (0..500).map(|n| format!("load/{n} 1 x")).collect();
        let mut late = broker.peer("mosquitto_sub", &["-t", "load/#", "-q", "1", "-F", "%t %q %p", "-c", "-i", "late"]);
        let mut process = late.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut late = Subscriber { lines, process };
        while !missing.is_empty() {
            missing.remove(&late.next().await);
        }
    });
}

/// Passes bytes on between clients and the broker, and cuts each connection after a random number of them.
async fn cut(listener: smol::net::TcpListener, broker: u16, mut random: fastrand::Rng) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let broker = smol::net::TcpStream::connect(("127.0.0.1", broker)).await.unwrap();
        let limits = (random.u64(..3000), random.u64(..3000));
        let up = smol::io::copy(client.clone().take(limits.0), broker.clone());
        let down = smol::io::copy(broker.take(limits.1), client);
        up.or(down).await.ok();
    }
}

#[test]
fn connections_cut_after_any_number_of_bytes_lose_no_message_in_either_direction() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let broker = Broker::start("allow_anonymous true\nmax_queued_messages 0");
    let listener = smol::block_on(smol::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let cutter = cut(listener, broker.port, fastrand::Rng::with_seed(seed));
    let soon = Duration::from_millis(5);
    with_client(Options::new("127.0.0.1", port, "cut").inflight(10).backoff(soon, soon), async |client: Client| {
        let executor = LocalExecutor::new();
        executor.spawn(cutter).detach();
        let test = async {
            let incoming = collect(&client, "cut/#").await;
            let publishes: Vec<_> = (0..1000)
                .map(|n| {
                    let client = client.clone();
                    executor.spawn(async move { client.publish("cut/x", n.to_string()).await })
                })
                .collect();
            for publish in publishes {
                in_time("acknowledgement", publish).await.unwrap();
            }
            let mut next = 0;
            while next < 1000 {
                let message = in_time("message", incoming.recv()).await.unwrap();
                let number: i32 = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
                assert!(number <= next, "{number} came before {next}, SEED={seed}");
                next = next.max(number + 1);
            }
        };
        executor.run(test).await;
        println!("{} connections", client.state().connects);
        assert!(client.state().connects > 3);
        assert_eq!(client.state().sent, 1000);
    });
}

#[test]
fn subscriptions_are_restored_when_the_broker_has_forgotten_them() {
    let mut broker = Broker::open();
    with_client(broker.options("forgotten"), async |client: Client| {
        let mut handlers = Vec::new();
        for n in 0..20 {
            handlers.push(collect(&client, &format!("f/{n}")).await);
        }
        broker.stop(Signal::SIGKILL);
        until("loss of the connection", || !client.state().connected).await;
        let meanwhile = client.publish("f/0", "published while offline");
        let restart = async {
            broker.restart();
            Ok(())
        };
        in_time("acknowledgement", smol::future::try_zip(restart, meanwhile.into_future())).await.unwrap();
        assert_eq!(in_time("message", handlers[0].recv()).await.unwrap().payload, "published while offline");
        for (n, handler) in handlers.iter().enumerate() {
            broker.publish(&["-t", &format!("f/{n}"), "-m", "again", "-q", "1"]).await;
            assert_eq!(in_time("message", handler.recv()).await.unwrap().payload, "again");
        }
        assert_eq!(client.state().connects, 2);
    });
}

#[test]
fn publishing_waits_while_the_queue_is_full_and_goes_on_when_a_broker_comes() {
    let mut broker = Broker::open();
    broker.stop(Signal::SIGKILL);
    with_client(broker.options("full").queue(3), async |client: Client| {
        let executor = LocalExecutor::new();
        let mut publishes: Vec<_> = (0..10)
            .map(|n: u8| {
                let client = client.clone();
                executor.spawn(async move { client.publish("q", vec![n]).await })
            })
            .collect();
        let pause = async {
            Timer::after(Duration::from_millis(300)).await;
        };
        executor.run(pause).await;
        assert_eq!(client.state().queued, 3);
        // Who gives up waiting leaves the line to the others.
        drop(publishes.remove(3));
        broker.restart();
        let all = async {
            for publish in publishes {
                in_time("acknowledgement", publish).await.unwrap();
            }
        };
        executor.run(all).await;
        assert_eq!(client.state().sent, 9);
    });
}

#[test]
fn closing_ends_the_connection_and_whoever_waits() {
    let broker = Broker::open();
    let (client, connection) = mqtt::new(broker.options("closing"));
    let executor = LocalExecutor::new();
    let running = executor.spawn(connection.run());
    smol::block_on(executor.run(async {
        client.publish("x", "y").await.unwrap();
        client.close();
        in_time("end", running).await;
        assert!(matches!(client.publish("x", "y").await, Err(Error::Closed)));
        assert!(matches!(client.subscribe("x", QoS::AtMostOnce, async |_| ()).await, Err(Error::Closed)));
        until("goodbye in the broker's log", || broker.log().contains("Client closing disconnected.")).await;
    }));

    let (client, connection) = mqtt::new(broker.options("dropped"));
    smol::block_on(async {
        let publish = client.publish("x", "y");
        let end = async {
            drop(connection);
            std::future::pending().await
        };
        assert!(matches!(in_time("end", publish.into_future().or(end)).await, Err(Error::Closed)));
    });
}
