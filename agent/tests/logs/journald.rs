//! systemd's own journald, in namespaces where its sockets and files are nobody else's.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::sockopt::set_socket_passcred;

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

/// A journald that listens. Its socket is held open while it is restarted, as the service manager does it: what is written
/// meanwhile waits there and is not lost.
pub struct Journald {
    child: Child,
    socket: UnixDatagram,
}

impl Journald {
    /// Starts it without limits of rates and without the kernel's lines, with more lines of settings.
    pub fn start(settings: &str) -> Self {
        let all = format!("[Journal]\nRateLimitBurst=0\nRateLimitIntervalSec=0\nReadKMsg=no\n{settings}\n");
        fs::write("/etc/systemd/journald.conf", all).expect("configure journald");
        let _ = fs::remove_file(SOCKET);
        let socket = UnixDatagram::bind(SOCKET).expect("the socket of the journal");
        set_socket_passcred(&socket, true).expect("senders are told");
        Self { child: spawn(&socket), socket }
    }

    /// Ends it as the service manager does, and starts it with the same settings.
    pub fn restart(&mut self) {
        self.end();
        self.child = spawn(&self.socket);
    }

    pub fn stop(mut self) {
        self.end();
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("signal journald");
    }

    fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        self.child.wait().expect("journald ends");
    }
}

/// journald with this socket as its first, by the protocol of socket activation.
fn spawn(socket: &UnixDatagram) -> Child {
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\"";
    let held = socket.try_clone().expect("a copy of the socket");
    Command::new("sh")
        .args(["-c", script, JOURNALD])
        .stdin(OwnedFd::from(held))
        .stderr(Stdio::null())
        .spawn()
        .expect("start journald")
}
