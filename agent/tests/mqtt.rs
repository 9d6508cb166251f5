//! The MQTT client against a real mosquitto, with mosquitto_pub and mosquitto_sub as peers of another make.

#![cfg(feature = "mqtt")]
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::future::IntoFuture;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ioto::mqtt::{self, Client, Error, Message, Options, QoS};
use ioto::net::TlsClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smol::future::FutureExt;
use smol::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use smol::process::{Child as Peer, ChildStdout, Command as PeerCommand};
use smol::stream::StreamExt;
use smol::{LocalExecutor, Timer, channel};

const LONG: Duration = Duration::from_secs(30);

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ioto-mqtt-{}-{:x}", std::process::id(), fastrand::u64(..)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A mosquitto of our own on a free port of the loopback interface.
struct Broker {
    directory: Directory,
    port: u16,
    process: Option<Child>,
}

impl Broker {
    /// Starts one; `settings` are lines of its configuration, where DIR stands for its directory.
    fn start(settings: &str) -> Self {
        Self::start_in(Directory::new(), settings)
    }

    fn start_in(directory: Directory, settings: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = directory.0.display().to_string();
        let settings = settings.replace("DIR", &folder);
        let configuration = format!("user root\nlistener {port} 127.0.0.1\n{settings}\n");
        fs::write(directory.file("mosquitto.conf"), configuration).unwrap();
        let mut broker = Self { directory, port, process: None };
        broker.restart();
        broker
    }

    fn open() -> Self {
        Self::start("allow_anonymous true")
    }

    fn restart(&mut self) {
        let log = fs::File::create(self.directory.file("log")).unwrap();
        let process = Command::new(program("mosquitto"))
            .arg("-c")
            .arg(self.directory.file("mosquitto.conf"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < LONG, "mosquitto does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            kill(Pid::from_raw(process.id() as i32), signal).unwrap();
            process.wait().unwrap();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.file("log")).unwrap()
    }

    fn options(&self, client_id: &str) -> Options {
        let fast = Duration::from_millis(100);
        Options::new("127.0.0.1", self.port, client_id).backoff(fast, fast).timeout(Duration::from_secs(5))
    }

    /// Runs mosquitto_pub to its end.
    async fn publish(&self, arguments: &[&str]) {
        let output = self.peer("mosquitto_pub", arguments).output().await.unwrap();
        assert!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts mosquitto_sub; it has subscribed when this returns.
    async fn subscriber(&self, topic: &str, arguments: &[&str]) -> Subscriber {
        let ready = format!("{topic}/ready");
        self.publish(&["-t", &ready, "-m", "ready", "-r", "-q", "1"]).await;
        let mut command = self.peer("mosquitto_sub", &["-t", &format!("{topic}/#"), "-q", "1", "-F", "%t %q %p"]);
        let mut process = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut subscriber = Subscriber { lines, process };
        while subscriber.next().await != format!("{ready} 1 ready") {}
        subscriber
    }

    fn peer(&self, name: &str, arguments: &[&str]) -> PeerCommand {
        let mut command = PeerCommand::new(program(name));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(arguments).kill_on_drop(true);
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop(Signal::SIGKILL);
    }
}

struct Subscriber {
    lines: Lines<BufReader<ChildStdout>>,
    process: Peer,
}

impl Subscriber {
    /// The next message: topic, quality of service, payload.
    async fn next(&mut self) -> String {
        in_time("message at mosquitto_sub", self.lines.next()).await.unwrap().unwrap()
    }

    async fn end(mut self) {
        self.process.kill().unwrap();
        self.process.status().await.unwrap();
    }
}

/// The path of a program that the tests need; servers are in sbin, which is not in everybody's PATH.
fn program(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut places = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]).map(|place| Path::new(place).join(name));
    places.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("{name} is missing: these tests need the packages mosquitto, mosquitto-clients and openssl")
    })
}

/// Runs a test with a connection at work.
fn with_client<T>(options: Options, test: impl AsyncFnOnce(Client) -> T) -> T {
    let (client, connection) = mqtt::new(options);
    let executor = LocalExecutor::new();
    executor.spawn(connection.run()).detach();
    smol::block_on(executor.run(test(client)))
}

async fn in_time<T>(what: &str, future: impl IntoFuture<Output = T>) -> T {
    let too_late = async {
        Timer::after(LONG).await;
        panic!("no {what} within {LONG:?}");
    };
    future.into_future().or(too_late).await
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            Timer::after(Duration::from_millis(10)).await;
        }
    };
    in_time(what, poll).await;
}

/// Subscribes with a handler that passes everything on.
async fn collect(client: &Client, filter: &str) -> channel::Receiver<Message> {
    let (sender, receiver) = channel::unbounded();
    let handler = async move |message: Message| drop(sender.send(message).await);
    in_time("SUBACK", client.subscribe(filter, QoS::AtLeastOnce, handler)).await.unwrap();
    receiver
}

/// Why the last attempt to connect failed.
async fn failure(client: &Client) -> String {
    until("failed attempt", || client.state().last_error.is_some()).await;
    client.state().last_error.unwrap()
}

#[test]
fn messages_go_both_ways_and_publishing_resolves_with_the_acknowledgement() {
    let broker = Broker::open();
    with_client(broker.options("both"), async |client: Client| {
        let mut subscriber = broker.subscriber("out", &[]).await;
        let incoming = collect(&client, "in/+").await;

        client.publish("out/a", "one").await.unwrap();
        client.publish("out/b", "two").qos(QoS::AtMostOnce).await.unwrap();
        assert_eq!(subscriber.next().await, "out/a 1 one");
        assert_eq!(subscriber.next().await, "out/b 0 two");

        broker.publish(&["-t", "in/x", "-m", "hello", "-q", "1"]).await;
        let message = in_time("message", incoming.recv()).await.unwrap();
        assert_eq!(message, Message::new("in/x", "hello", QoS::AtLeastOnce));

        let large = "x".repeat(128 * 1024);
        client.publish("in/large", large.clone()).await.unwrap();
        assert_eq!(in_time("large message", incoming.recv()).await.unwrap().payload, large);

        let state = client.state();
        assert_eq!((state.connected, state.sent, state.received, state.connects), (true, 3, 2, 1));
        assert_eq!((state.queued, state.in_flight, state.lost, state.subscriptions), (0, 0, 0, 1));
    });
}

#[test]
fn a_retained_message_is_kept_by_the_broker_and_told_apart() {
    let broker = Broker::open();
    with_client(broker.options("retained"), async |client: Client| {
        let message = Message { retain: true, ..Message::new("kept/1", "old", QoS::AtLeastOnce) };
        client.send(message.clone()).await.unwrap();
        let incoming = collect(&client, "kept/#").await;
        assert_eq!(in_time("retained message", incoming.recv()).await.unwrap(), message);
        client.unsubscribe("kept/#").await.unwrap();
        client.publish("kept/1", "new").await.unwrap();
        assert_eq!(client.state().subscriptions, 0);
        assert_eq!(incoming.recv().await, Err(channel::RecvError), "the handler is gone");
    });
}

#[test]
fn bad_requests_fail_at_once_even_without_a_broker() {
    with_client(Options::new("127.0.0.1", 1, "bad"), async |client: Client| {
        assert!(matches!(client.publish("a/#", "").await, Err(Error::Topic(_))));
        let large = vec![0; 200_000];
        assert!(matches!(client.publish("a", large).await, Err(Error::TooLarge { .. })));
        assert!(matches!(client.subscribe("a#", QoS::AtMostOnce, async |_| ()).await, Err(Error::Filter(_))));
        let reason = failure(&client).await;
        assert!(reason.contains("cannot connect to 127.0.0.1 port 1"), "{reason}");
    });
}

#[test]
fn handlers_wait_for_nobody_else_and_may_publish_themselves() {
    let broker = Broker::open();
    with_client(broker.options("handlers").inflight(3).queue(5), async |client: Client| {
        client.subscribe("stuck", QoS::AtLeastOnce, async |_| std::future::pending().await).await.unwrap();
        let replies = collect(&client, "reply").await;
        let echo = client.clone();
        let handler = async move |message: Message| {
            echo.publish("reply", message.payload).await.unwrap();
        };
        client.subscribe("ask", QoS::AtLeastOnce, handler).await.unwrap();
        client.publish("stuck", "never finished").await.unwrap();

        // Acknowledgements keep their order, so the unfinished message makes the broker stop after its window of 20.
        for n in 0..8 {
            client.publish("ask", n.to_string()).await.unwrap();
        }
        for n in 0..8 {
            assert_eq!(in_time("reply", replies.recv()).await.unwrap().payload, n.to_string());
        }
    });
}

#[test]
fn a_filter_may_have_two_handlers_and_handles_work_on_other_threads() {
    let broker = Broker::open();
    with_client(broker.options("two"), async |client: Client| {
        let handlers = [collect(&client, "t/+").await, collect(&client, "t/+").await];
        let elsewhere = std::thread::spawn(move || {
            smol::block_on(async {
                for n in 0..100 {
                    client.publish("t/1", n.to_string()).await.unwrap();
                }
            });
        });
        for n in 0..100 {
            for handler in &handlers {
                assert_eq!(in_time("message", handler.recv()).await.unwrap().payload, n.to_string());
            }
        }
        // The last acknowledgement may come after the message, and is taken here.
        smol::unblock(|| elsewhere.join()).await.unwrap();
    });
}

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

#[test]
fn a_wrong_password_is_explained_and_the_right_one_works() {
    let directory = Directory::new();
    let passwords = directory.file("passwords");
    let mut make = Command::new(program("mosquitto_passwd"));
    assert!(make.args(["-b", "-c"]).arg(&passwords).args(["me", "right"]).status().unwrap().success());
    let broker = Broker::start_in(directory, "allow_anonymous false\npassword_file DIR/passwords");
    for options in [broker.options("login"), broker.options("login").login("me", "wrong")] {
        with_client(options, async |client: Client| {
            let reason = failure(&client).await;
            assert!(reason.contains("not authorised") && reason.contains("password"), "{reason}");
        });
    }
    with_client(broker.options("login").login("me", "right"), async |client: Client| {
        in_time("acknowledgement", client.publish("x", "y")).await.unwrap();
    });
}

/// An authority, and certificates by it for the broker (localhost) and for a client.
fn certificates(directory: &Directory) {
    let settings = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = ioto test\n\
        [authority]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n\
        [leaf]\nbasicConstraints = CA:FALSE\nsubjectAltName = DNS:localhost, IP:127.0.0.1\n";
    fs::write(directory.file("openssl.cnf"), settings).unwrap();
    let ca = ["-CA", "ca.crt", "-CAkey", "ca.key"];
    for (name, extensions, issuer) in
        [("ca", "authority", &[][..]), ("server", "leaf", &ca[..]), ("client", "leaf", &ca[..])]
    {
        let output = Command::new(program("openssl"))
            .current_dir(&directory.0)
            .args(["req", "-x509", "-config", "openssl.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-extensions", extensions, "-keyout", &format!("{name}.key")])
            .args(["-out", &format!("{name}.crt"), "-subj", &format!("/CN=ioto test {name}")])
            .args(issuer)
            .output()
            .unwrap();
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn tls_broker(settings: &str) -> Broker {
    let directory = Directory::new();
    certificates(&directory);
    let tls = "cafile DIR/ca.crt\ncertfile DIR/server.crt\nkeyfile DIR/server.key\nallow_anonymous true";
    Broker::start_in(directory, &format!("{tls}\n{settings}"))
}

async fn echoes(client: Client) {
    let incoming = collect(&client, "echo").await;
    for n in 0..50 {
        let payload = n.to_string().repeat(n * 50);
        in_time("acknowledgement", client.publish("echo", payload.clone())).await.unwrap();
        assert_eq!(in_time("echo", incoming.recv()).await.unwrap().payload, payload);
    }
}

#[test]
fn tls_works_with_the_brokers_authority_and_only_with_it() {
    let broker = tls_broker("");
    let authority = broker.directory.file("ca.crt");
    for host in ["localhost", "127.0.0.1"] {
        let tls = TlsClient::builder().authority(&authority).build().unwrap();
        with_client(Options::new(host, broker.port, "tls").tls(tls), echoes);
    }
    let stranger = Directory::new();
    certificates(&stranger);
    let tls = TlsClient::builder().authority(stranger.file("ca.crt")).build().unwrap();
    with_client(broker.options("stranger").tls(tls), async |client: Client| {
        let reason = failure(&client).await;
        assert!(reason.contains("no secure connection") && reason.contains("authority"), "{reason}");
    });
    with_client(broker.options("plain"), async |client: Client| {
        let reason = failure(&client).await;
        assert!(reason.contains("TLS"), "{reason}");
    });
}

#[test]
fn mutual_tls_works_with_a_client_certificate_and_only_with_it() {
    let broker = tls_broker("require_certificate true\nuse_identity_as_username true");
    let file = |name| broker.directory.file(name);
    let tls = TlsClient::builder().authority(file("ca.crt"));
    let identified = tls.clone().identity(file("client.crt"), file("client.key")).alpn(["mqtt"]).build().unwrap();
    with_client(broker.options("identified").tls(identified), echoes);
    with_client(broker.options("nobody").tls(tls.build().unwrap()), async |client: Client| {
        let reason = failure(&client).await;
        assert!(reason.to_lowercase().contains("certificate"), "{reason}");
    });
}

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
