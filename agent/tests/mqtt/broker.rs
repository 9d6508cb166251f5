//! A mosquitto of our own, its clients, and what the tests wait with.

use std::fs;
use std::future::IntoFuture;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ioto::mqtt::{self, Client, Message, Options, QoS};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smol::future::FutureExt;
use smol::io::{AsyncBufReadExt, BufReader, Lines};
use smol::process::{Child as Peer, ChildStdout, Command as PeerCommand};
use smol::stream::StreamExt;
use smol::{LocalExecutor, Timer, channel};

pub const LONG: Duration = Duration::from_secs(30);

/// A directory that is removed at the end.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ioto-mqtt-{}-{:x}", std::process::id(), fastrand::u64(..)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A mosquitto of our own on a free port of the loopback interface.
pub struct Broker {
    pub directory: Directory,
    pub port: u16,
    pub process: Option<Child>,
}

impl Broker {
    /// Starts one; `settings` are lines of its configuration, where DIR stands for its directory.
    pub fn start(settings: &str) -> Self {
        Self::start_in(Directory::new(), settings)
    }

    pub fn start_in(directory: Directory, settings: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = directory.0.display().to_string();
        let settings = settings.replace("DIR", &folder);
        let configuration = format!("user root\nlistener {port} 127.0.0.1\n{settings}\n");
        fs::write(directory.file("mosquitto.conf"), configuration).unwrap();
        let mut broker = Self { directory, port, process: None };
        broker.restart();
        broker
    }

    pub fn open() -> Self {
        Self::start("allow_anonymous true")
    }

    pub fn restart(&mut self) {
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

    pub fn stop(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            kill(Pid::from_raw(process.id() as i32), signal).unwrap();
            process.wait().unwrap();
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.file("log")).unwrap()
    }

    pub fn options(&self, client_id: &str) -> Options {
        let fast = Duration::from_millis(100);
        Options::new("127.0.0.1", self.port, client_id).backoff(fast, fast).timeout(Duration::from_secs(5))
    }

    /// Runs mosquitto_pub to its end.
    pub async fn publish(&self, arguments: &[&str]) {
        let output = self.peer("mosquitto_pub", arguments).output().await.unwrap();
        assert!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts mosquitto_sub; it has subscribed when this returns.
    pub async fn subscriber(&self, topic: &str, arguments: &[&str]) -> Subscriber {
        let ready = format!("{topic}/ready");
        self.publish(&["-t", &ready, "-m", "ready", "-r", "-q", "1"]).await;
        let mut command = self.peer("mosquitto_sub", &["-t", &format!("{topic}/#"), "-q", "1", "-F", "%t %q %p"]);
        let mut process = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut subscriber = Subscriber { lines, process };
        while subscriber.next().await != format!("{ready} 1 ready") {}
        subscriber
    }

    pub fn peer(&self, name: &str, arguments: &[&str]) -> PeerCommand {
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

pub struct Subscriber {
    pub lines: Lines<BufReader<ChildStdout>>,
    pub process: Peer,
}

impl Subscriber {
    /// The next message: topic, quality of service, payload.
    pub async fn next(&mut self) -> String {
        in_time("message at mosquitto_sub", self.lines.next()).await.unwrap().unwrap()
    }

    pub async fn end(mut self) {
        self.process.kill().unwrap();
        self.process.status().await.unwrap();
    }
}

/// The path of a program that the tests need; servers are in sbin, which is not in everybody's PATH.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut places = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]).map(|place| Path::new(place).join(name));
    places.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("{name} is missing: these tests need the packages mosquitto, mosquitto-clients and openssl")
    })
}

/// Runs a test with a connection at work.
pub fn with_client<T>(options: Options, test: impl AsyncFnOnce(Client) -> T) -> T {
    let (client, connection) = mqtt::new(options);
    let executor = LocalExecutor::new();
    executor.spawn(connection.run()).detach();
    smol::block_on(executor.run(test(client)))
}

pub async fn in_time<T>(what: &str, future: impl IntoFuture<Output = T>) -> T {
    let too_late = async {
        Timer::after(LONG).await;
        panic!("no {what} within {LONG:?}");
    };
    future.into_future().or(too_late).await
}

pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            Timer::after(Duration::from_millis(10)).await;
        }
    };
    in_time(what, poll).await;
}

/// Subscribes with a handler that passes everything on.
pub async fn collect(client: &Client, filter: &str) -> channel::Receiver<Message> {
    let (sender, receiver) = channel::unbounded();
    let handler = async move |message: Message| drop(sender.send(message).await);
    in_time("SUBACK", client.subscribe(filter, QoS::AtLeastOnce, handler)).await.unwrap();
    receiver
}

/// Why the last attempt to connect failed.
pub async fn failure(client: &Client) -> String {
    until("failed attempt", || client.state().last_error.is_some()).await;
    client.state().last_error.unwrap()
}
