//! The journal of systemd as a sink, by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): each line with
//! fields of its own, which `journalctl IOTO_ROOM=mqtt` finds.
//!
//! A line that could not be sent is kept and tried again: the socket may not be there for a moment when journald is restarted.

use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::Line;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The first pause before a line is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Bytes of a text that go into a datagram whatever the kernel's limits are; longer ones are cut when they do not.
const SURE: usize = 32 * 1024;
/// RFC 5424's facility `daemon`.
const FACILITY: u8 = 3;

/// Whether there is a journal.
pub(super) fn is_there() -> bool {
    Path::new(SOCKET).exists()
}

/// Writes lines to the journal, for as long as it takes.
pub struct Journal {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Journal {
    /// Lines will go to the socket at `path`, or to that of the system.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path: path.unwrap_or_else(|| SOCKET.into()), socket: None }
    }

    /// Sends a line; returns when the journal has it.
    pub fn write(&mut self, line: &Line) {
        let mut entry = entry(line, usize::MAX);
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.try_write(&entry) {
            // EMSGSIZE and ENOBUFS: longer than a datagram may be here.
            let is_long = matches!(error.raw_os_error(), Some(nix::libc::EMSGSIZE | nix::libc::ENOBUFS));
            if is_long && entry.len() > SURE + 1024 {
                entry = self::entry(line, SURE);
                continue;
            }
            if error.kind() == ErrorKind::Interrupted {
                continue;
            }
            if pause == FIRST_PAUSE {
                eprintln!("ioto: the journal does not take lines, trying on: {error}");
            }
            self.socket = None;
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Not connected: then a socket that was made anew under its name is found.
    fn try_write(&mut self, entry: &[u8]) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(UnixDatagram::unbound()?),
        };
        socket.send_to(entry, &self.path).map(drop)
    }
}

/// No value has a line feed in it, as lines have no control characters: so none needs a length.
fn entry(line: &Line, longest: usize) -> Vec<u8> {
    let end = (0..=longest.min(line.text.len())).rev().find(|&at| line.text.is_char_boundary(at)).unwrap_or(0);
    let (text, cut) = line.text.split_at(end);
    let mut out = String::with_capacity(text.len() + 128);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "PRIORITY={}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER=ioto\nIOTO_ROOM={}\nMESSAGE={}: {text}",
        line.severity(),
        line.room,
        line.room
    );
    if !cut.is_empty() {
        let _ = write!(out, "... [{} bytes cut]", cut.len());
    }
    out.push('\n');
    out.into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use log::Level;

    use super::*;

    fn line(text: String) -> Line {
        Line { level: Level::Warn, room: "mqtt".into(), text, at: 0 }
    }

    fn read(daemon: &UnixDatagram) -> String {
        let mut buffer = vec![0; 1 << 20];
        daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = daemon.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn lines_have_fields_and_none_is_lost_when_journald_is_restarted() {
        let path = std::env::temp_dir().join(format!("ioto-journal-{:x}", fastrand::u64(..)));
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::new(Some(path.clone()));
        journal.write(&line("gone".into()));
        let expected = "PRIORITY=4\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=ioto\nIOTO_ROOM=mqtt\nMESSAGE=mqtt: gone\n";
        assert_eq!(read(&daemon), expected);

        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        let writer = thread::spawn(move || {
            (1..=3).for_each(|number| journal.write(&line(format!("line {number}"))));
            journal
        });
        thread::sleep(FIRST_PAUSE * 2);
        let daemon = UnixDatagram::bind(&path).unwrap();
        (1..=3).for_each(|number| assert!(read(&daemon).ends_with(&format!("mqtt: line {number}\n"))));
        let mut journal = writer.join().unwrap();

        // What no datagram holds is cut between characters, and says so.
        let writer = thread::spawn(move || journal.write(&line("ü".repeat(2 << 20))));
        let long = read(&daemon);
        assert!(long.len() < SURE + 200 && long.ends_with(" bytes cut]\n"), "{}", long.len());
        writer.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
