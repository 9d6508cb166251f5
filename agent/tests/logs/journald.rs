//! systemd's own journald, in namespaces where its sockets and files are nobody else's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const JOURNALD: &str = "/lib/systemd/systemd-journald";
/// Where entries are written to.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Runs an ignored test of this program in namespaces of its own. Where that cannot be, it says that it is skipped.
pub fn in_namespaces(test: &str) {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root || !Path::new(JOURNALD).exists() {
        println!("skipped: needs root and {JOURNALD}");
        return;
    }
    let script = "set -e
        mount --make-rprivate / && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /etc/systemd
        mkdir -p /run/systemd/journal /run/log/journal /var/log/journal
        mount -t tmpfs tmpfs /var/log/journal
        [ -s /etc/machine-id ] || exit 77
        exec \"$0\" --ignored --exact \"$1\" --nocapture";
    let status = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script])
        .arg(std::env::current_exe().expect("the test's own path"))
        .arg(test)
        .status();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => {}
        Ok(Some(77)) | Err(_) => println!("skipped: no namespaces or no machine id here"),
        other => panic!("{other:?}"),
    }
}

/// A journald that listens.
pub struct Journald(pub Child);

impl Journald {
    /// Starts it without limits of rates and without the kernel's lines, with more lines of settings.
    pub fn start(settings: &str) -> Self {
        let all = format!("[Journal]\nRateLimitBurst=0\nRateLimitIntervalSec=0\nReadKMsg=no\n{settings}\n");
        fs::write("/etc/systemd/journald.conf", all).expect("configure journald");
        let _ = fs::remove_file(SOCKET);
        let child = Command::new(JOURNALD).stderr(Stdio::null()).spawn().expect("start journald");
        let end = Instant::now() + Duration::from_secs(30);
        while UnixDatagram::unbound().and_then(|socket| socket.connect(SOCKET)).is_err() {
            assert!(Instant::now() < end, "journald does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(child)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("signal journald");
    }

    /// As the service manager does it, but the sockets go too: what is written meanwhile fails, and the writer tries again.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        self.0.wait().expect("journald ends");
    }
}
