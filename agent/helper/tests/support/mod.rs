//! A device of our own for each test: the real program in namespaces of its own (mounts, host name, processes, network), with a root
//! directory of its own over the machine's `/usr`, and without the rights to set the clock or to reboot.

#![allow(dead_code)]

use ioto_wire::{Answer, read_frame};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ioto-helper");
/// The users of the device, and one that is none of them.
pub const IOTO: u32 = 54321;
pub const RESCUE: u32 = 54322;
pub const STRANGER: u32 = 54399;

/// Run by a shell that is process 1 of its namespace: the root directory, lines of the test, and the command.
const SETUP: &str = r#"
[ $$ = 1 ] || exit 9
root=$1 extra=$2; shift 2
mount -t overlay -o "lowerdir=/usr,upperdir=$root.upper,workdir=$root.work" overlay "$root/usr"
mount -t proc proc "$root/proc"
for name in null urandom; do touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
eval "$extra"
exec setpriv --bounding-set -sys_time,-sys_boot,-sys_rawio,-sys_module chroot "$root" "$@"
"#;

/// Whether these tests can run here; says so if not.
pub fn able() -> bool {
    let root = fs::metadata("/proc/self/root/proc/1/ns").is_ok() && user() == 0;
    if !root {
        println!("SKIPPED: these tests must be run by root");
    }
    root
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub struct Device {
    root: PathBuf,
    running: Option<Child>,
    extra: String,
}

impl Device {
    /// With its files, and nothing running.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("helper-test-{}-{number}", std::process::id()));
        let device = Self { root, running: None, extra: ":".into() };
        for path in ["usr", "proc", "dev", "tmp", "etc", "run/ioto", "var/lib/ioto/updates", "ioto-helper"] {
            match path {
                "ioto-helper" => fs::write(device.path(path), "").unwrap(),
                _ => fs::create_dir_all(device.path(path)).unwrap(),
            }
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), device.path(name)).unwrap();
        }
        for part in ["upper/bin", "upper/sbin", "work"] {
            fs::create_dir_all(device.beside(part)).unwrap();
        }
        let users = format!(
            "root:x:0:0::/:/bin/sh\nioto:x:{IOTO}:{IOTO}::/:/bin/false\nioto-rescue:x:{RESCUE}:{IOTO}::/:/bin/false\n"
        );
        device.write("etc/passwd", &users);
        device.write("etc/group", &format!("root:x:0:\nioto:x:{IOTO}:\n"));
        for path in ["run/ioto", "var/lib/ioto", "var/lib/ioto/updates"] {
            chown(device.path(path), Some(IOTO), Some(IOTO)).unwrap();
            fs::set_permissions(device.path(path), fs::Permissions::from_mode(0o750)).unwrap();
        }
        device.fake("sbin/reboot", "echo reboot $*");
        device
    }

    /// With the program serving at its own socket.
    pub fn serving() -> Self {
        Self::new().serve()
    }

    /// Lines of a shell with `$root`, run before the program.
    pub fn with(mut self, extra: &str) -> Self {
        self.extra = extra.into();
        self
    }

    pub fn with_systemd(self) -> Self {
        fs::create_dir_all(self.path("run/systemd/system")).unwrap();
        self
    }

    pub fn serve(mut self) -> Self {
        self.start(&["/ioto-helper"]);
        self.wait_for("the socket", |device| device.connect().is_some());
        self
    }

    /// Starts a command on the device, in place of the one before.
    pub fn start(&mut self, command: &[&str]) {
        self.stop();
        self.running = Some(self.command(command).spawn().unwrap());
    }

    /// Runs a command on the device to its end.
    pub fn run(&self, command: &[&str]) -> Output {
        self.command(command).output().unwrap()
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut unshare = Command::new("unshare");
        let bind = format!("mount --bind {PROGRAM} \"$root/ioto-helper\"\n{}", self.extra);
        unshare.args([
            "-m",
            "-u",
            "-i",
            "-p",
            "-n",
            "-f",
            "--kill-child",
            "--propagation",
            "private",
            "sh",
            "-euc",
            SETUP,
            "sh",
        ]);
        unshare.arg(&self.root).arg(bind).args(command).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        unshare.stdin(Stdio::null());
        unshare
    }

    pub fn stop(&mut self) {
        if self.running.is_some() {
            // Process 1 of the namespace: with it all others end. (A change of rights has cleared the signal of unshare.)
            if let (None, Some(pid)) = (self.ended(), self.first()) {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            }
        }
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether the command ended, and how.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.running.as_mut().and_then(|child| child.try_wait().unwrap())
    }

    /// The process number of the program, seen from here.
    pub fn pid(&self) -> u32 {
        self.first().unwrap()
    }

    fn first(&self) -> Option<u32> {
        let unshare = self.running.as_ref()?.id();
        fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?.trim().parse().ok()
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn beside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("{}.{path}", self.root.display()))
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// A program below `/usr` that is a shell script.
    pub fn fake(&self, path: &str, script: &str) {
        let path = self.beside("upper").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/ioto/helper.sock")
    }

    pub fn connect(&self) -> Option<UnixStream> {
        UnixStream::connect(self.socket()).ok()
    }

    /// As another user and its group: a thread may be another than its process.
    pub fn connect_as(&self, id: u32) -> std::io::Result<UnixStream> {
        let socket = self.socket();
        let thread = std::thread::spawn(move || {
            rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(id))?;
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(id))?;
            UnixStream::connect(socket)
        });
        thread.join().unwrap()
    }

    /// Asks by the program's own client as this user of the group `ioto`; what it says, and whether it was done.
    pub fn ask_as(&self, uid: u32, verb: &str, arguments: &str) -> (bool, String) {
        let mut command = Command::new("setpriv");
        command.args([
            &format!("--reuid={uid}"),
            &format!("--regid={IOTO}"),
            "--clear-groups",
            PROGRAM,
            "ask",
            "--socket",
        ]);
        let output = command.arg(self.socket()).args([verb, arguments]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    pub fn ask(&self, verb: &str, arguments: &str) -> (bool, String) {
        self.ask_as(IOTO, verb, arguments)
    }

    /// As `ask`, and it must be done.
    pub fn done(&self, verb: &str, arguments: &str) -> String {
        let (done, text) = self.ask(verb, arguments);
        assert!(done, "{verb} {arguments}: {text}");
        text
    }

    /// As `ask`, and it must not be done.
    pub fn not_done(&self, verb: &str, arguments: &str) -> String {
        let (done, text) = self.ask(verb, arguments);
        assert!(!done, "{verb} {arguments}: {text}");
        text
    }

    /// Sends these bytes, ends the sending, and reads the answer.
    pub fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect().unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        answer(&mut stream)
    }

    /// Sends a payload in a frame.
    pub fn send_payload(&self, payload: &str) -> Answer {
        let mut bytes = (payload.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(payload.as_bytes());
        self.send(&bytes)
    }

    pub fn audit(&self) -> String {
        fs::read_to_string(self.path("var/lib/ioto-helper/audit.log")).unwrap_or_default()
    }

    pub fn wait_for(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !condition(self) {
            assert!(Instant::now() < until, "waited too long for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop();
        for path in [self.root.clone(), self.beside("upper"), self.beside("work")] {
            remove(&path);
        }
    }
}

/// The mounts were in the namespace only, and are gone with it.
fn remove(path: &Path) {
    let _ = Command::new("rm").args(["-rf", "--one-file-system", "--"]).arg(path).status();
}

pub fn answer(stream: &mut UnixStream) -> Answer {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    Answer::decode(&read_frame(stream).unwrap()).unwrap()
}
