//! The audit log: one JSON line when a verb begins and one when it ends, or was refused; on the disk before the answer.

use crate::files::{self, STATE};
use crate::peer::Peer;
use ioto_wire::{Answer, Request};
use nix::unistd::Group;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When a log is larger, it becomes the old one (`audit.log.1`), and the one before is gone.
const MAX_SIZE: u64 = 256 * 1024;

/// The log. A thread that panics ends the program, so its lock is never left broken.
pub struct Audit {
    path: PathBuf,
    group: Option<u32>,
    boot: String,
    file: Mutex<Option<File>>,
}

impl Audit {
    /// Nothing is opened yet: a disk that is full or broken must not keep the device from being rebooted.
    pub fn new() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string();
        let group = Group::from_name("ioto").ok().flatten().map(|group| group.gid.as_raw());
        Self { path: Path::new(STATE).join("audit.log"), group, boot, file: Mutex::new(None) }
    }

    /// A verb begins.
    pub fn begin(&self, peer: &Peer, request: &Request) -> io::Result<()> {
        let mut line = self.line(peer, Some(request));
        line["outcome"] = "begun".into();
        self.write(&line)
    }

    /// A request was carried out, or was refused. What was not understood has no verb.
    pub fn end(&self, peer: &Peer, request: Option<&Request>, answer: &Answer, took: Duration) -> io::Result<()> {
        let mut line = self.line(peer, request);
        line["outcome"] = answer.outcome.name().into();
        line["text"] = answer.text.as_str().into();
        line["ms"] = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into();
        self.write(&line)
    }

    fn line(&self, peer: &Peer, request: Option<&Request>) -> Value {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        json!({
            "time": u64::try_from(time).unwrap_or(u64::MAX),
            "boot": self.boot,
            "uid": peer.uid,
            "pid": peer.pid,
            "verb": request.map(|request| request.verb().name()),
            "arguments": request.map(Request::masked),
        })
    }

    fn write(&self, line: &Value) -> io::Result<()> {
        let mut slot = self.file.lock().map_err(|_| io::Error::other("the audit log is broken"))?;
        let mut file = match slot.take() {
            Some(file) if file.metadata()?.len() < MAX_SIZE => file,
            _ => self.open()?,
        };
        let size = file.metadata()?.len();
        let written = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a line would spoil the next one.
            let _ = file.set_len(size);
        }
        *slot = Some(file);
        written
    }

    fn open(&self) -> io::Result<File> {
        files::make_state(self.group)?;
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.len() >= MAX_SIZE) {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        let no_follow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(no_follow).open(&self.path)?;
        file.set_permissions(fs::Permissions::from_mode(0o640))?;
        files::give(&file, self.group)?;
        File::open(STATE)?.sync_all()?;
        Ok(file)
    }
}
