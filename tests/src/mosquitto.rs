//! An MQTT broker: mosquitto, with a configuration of its own.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Scratch, eventually, free_port};

/// A broker on loopback, open to everyone, without TLS; it keeps nothing over a restart.
#[derive(Debug)]
pub struct Mosquitto {
    port: u16,
    scratch: Scratch,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts it and waits until it accepts connections.
    pub fn start() -> Self {
        Self::with(Scratch::new(), "allow_anonymous true\nmax_qos 1\n")
    }

    /// As [`Mosquitto::start`], with settings of its own; DIR in them is the directory.
    pub fn with(scratch: Scratch, settings: &str) -> Self {
        let port = free_port();
        let settings = settings.replace("DIR", &scratch.path().to_string_lossy());
        scratch.write("mosquitto.conf", &format!("user root\nlistener {port} 127.0.0.1\n{settings}"));
        let mut broker = Self { port, scratch, child: None };
        broker.restart();
        broker
    }

    /// Starts it on the same port again.
    pub fn restart(&mut self) {
        self.stop();
        let sbin = Path::new("/usr/sbin/mosquitto");
        let child = Command::new(if sbin.exists() { sbin } else { Path::new("mosquitto") })
            .arg("-c")
            .arg(self.scratch.path().join("mosquitto.conf"))
            .stderr(Stdio::null())
            .spawn()
            .expect("start mosquitto; `ci/test test` installs it");
        self.child = Some(child);
        let settings = std::fs::read_to_string(self.scratch.path().join("mosquitto.conf")).expect("it was written");
        let ports = settings.lines().filter_map(|line| line.strip_prefix("listener ")?.split(' ').next()?.parse().ok());
        for port in ports {
            let listens = || TcpStream::connect(("127.0.0.1", port)).ok();
            eventually("mosquitto listens", Duration::from_secs(5), listens);
        }
    }

    /// Ends it at once; connections are closed, new ones refused.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The directory of its configuration.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// What the agent needs to connect and take messages that match `filter`, as the text of a configuration file.
    pub fn settings(&self, filter: &str) -> String {
        let address = self.address();
        format!("{{services: {{mqtt: true}}, mqtt: {{endpoint: 'mqtt://{address}', subscribe: ['{filter}']}}}}")
    }

    /// Publishes with `mosquitto_pub` and quality of service 1: returns when the broker has it.
    pub fn publish(&self, topic: &str, payload: &str) {
        let published = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-q", "1", "-p", &self.port.to_string(), "-t", topic, "-m", payload])
            .status()
            .expect("run mosquitto_pub; `ci/test test` installs it");
        assert!(published.success(), "mosquitto_pub: {published}");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.stop();
    }
}
