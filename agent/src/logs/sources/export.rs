//! The journal's export format: entries of `NAME=value` lines, binary values with their length, an empty line behind each
//! (systemd.io/JOURNAL_EXPORT_FORMATS). No I/O, bounded, and never at a loss: what it does not know it passes over.

/// Bytes of a field other than the message.
const SHORT: usize = 4096;
/// Bytes of a field's name.
const NAME: usize = 64;

/// The fields of an entry that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub cursor: String,
    pub at: Option<i64>,
    pub boot: Option<String>,
    pub message: Option<Vec<u8>>,
    /// Bytes of the message that were not kept.
    pub more: u64,
    pub priority: Option<u8>,
    pub facility: Option<u8>,
    pub identifier: Option<String>,
    pub command: Option<String>,
    pub pid: Option<u32>,
    pub syslog_pid: Option<u32>,
    pub unit: Option<String>,
    pub about_unit: Option<String>,
    pub transport: Option<String>,
}

/// Reads the format as it comes.
pub(super) struct Parser {
    most: usize,
    state: State,
    /// A line, or the name and the value of a binary field, that is not complete.
    held: Vec<u8>,
    /// Bytes behind `held` that were not kept.
    over: u64,
    entry: Entry,
}

enum State {
    /// In a line.
    Line,
    /// In the length of a binary field: bytes of it so far.
    Length { name: Vec<u8>, got: usize, length: [u8; 8] },
    /// In a binary value, of which so many bytes are left.
    Value { name: Vec<u8>, left: u64 },
    /// Before the line feed behind a binary value.
    End,
}

impl Parser {
    /// Of a message, `most` bytes are kept.
    pub fn new(most: usize) -> Self {
        Self { most, state: State::Line, held: Vec::new(), over: 0, entry: Entry::default() }
    }

    /// Takes what came; each entry that is complete goes to `found`.
    pub fn feed(&mut self, mut bytes: &[u8], found: &mut impl FnMut(Entry)) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Line => match bytes.iter().position(|byte| *byte == b'\n') {
                    Some(at) if self.held.is_empty() => {
                        let (line, rest) = bytes.split_at(at);
                        bytes = &rest[1..];
                        self.line(line, 0, found);
                    }
                    Some(at) => {
                        let (line, rest) = bytes.split_at(at);
                        bytes = &rest[1..];
                        self.hold(line);
                        let (line, over) = (std::mem::take(&mut self.held), std::mem::take(&mut self.over));
                        self.line(&line, over, found);
                        self.held = line;
                        self.held.clear();
                    }
                    None => {
                        self.hold(bytes);
                        return;
                    }
                },
                State::Length { name, got, length } => {
                    length[*got] = bytes[0];
                    *got += 1;
                    bytes = &bytes[1..];
                    if *got == length.len() {
                        let left = u64::from_le_bytes(*length);
                        self.state = State::Value { name: std::mem::take(name), left };
                        self.end_value();
                    }
                }
                State::Value { left, .. } => {
                    let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= taken as u64;
                    let (value, rest) = bytes.split_at(taken);
                    bytes = rest;
                    self.hold(value);
                    self.end_value();
                }
                State::End => {
                    bytes = &bytes[1..];
                    self.state = State::Line;
                }
            }
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        let room = (self.most + NAME).max(SHORT).saturating_sub(self.held.len());
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.held.extend_from_slice(kept);
        self.over += (bytes.len() - kept.len()) as u64;
    }

    /// A whole line, of which `over` bytes more were not kept.
    fn line(&mut self, line: &[u8], over: u64, found: &mut impl FnMut(Entry)) {
        if line.is_empty() {
            let entry = std::mem::take(&mut self.entry);
            if !entry.cursor.is_empty() {
                found(entry);
            }
            return;
        }
        match line.iter().position(|byte| *byte == b'=') {
            Some(at) => self.field(&line[..at], &line[at + 1..], over),
            None => {
                let name = line.get(..NAME).unwrap_or(line).to_vec();
                self.state = State::Length { name, got: 0, length: [0; 8] };
            }
        }
    }

    fn end_value(&mut self) {
        if let State::Value { name, left: 0 } = &mut self.state {
            let name = std::mem::take(name);
            let (value, over) = (std::mem::take(&mut self.held), std::mem::take(&mut self.over));
            self.field(&name, &value, over);
            self.held = value;
            self.held.clear();
            self.state = State::End;
        }
    }

    /// A field can be there more than once: the first counts, but messages are joined.
    fn field(&mut self, name: &[u8], value: &[u8], over: u64) {
        let entry = &mut self.entry;
        match name {
            b"MESSAGE" => match &mut entry.message {
                Some(message) => {
                    let room = self.most.saturating_sub(message.len() + 1);
                    let kept = value.get(..room).unwrap_or(value);
                    message.push(b'\n');
                    message.extend_from_slice(kept);
                    entry.more += over + (value.len() - kept.len()) as u64;
                }
                message => {
                    *message = Some(value.to_vec());
                    entry.more = over;
                }
            },
            b"__CURSOR" => first(&mut entry.cursor, value),
            b"__REALTIME_TIMESTAMP" => number(&mut entry.at, value),
            b"_BOOT_ID" => text(&mut entry.boot, value),
            b"PRIORITY" => number(&mut entry.priority, value),
            b"SYSLOG_FACILITY" => number(&mut entry.facility, value),
            b"SYSLOG_IDENTIFIER" => text(&mut entry.identifier, value),
            b"SYSLOG_PID" => number(&mut entry.syslog_pid, value),
            b"_COMM" => text(&mut entry.command, value),
            b"_PID" => number(&mut entry.pid, value),
            b"_SYSTEMD_UNIT" => text(&mut entry.unit, value),
            b"UNIT" => text(&mut entry.about_unit, value),
            b"_TRANSPORT" => text(&mut entry.transport, value),
            _ => {}
        }
    }
}

fn first(into: &mut String, value: &[u8]) {
    if into.is_empty() && value.len() <= SHORT {
        *into = String::from_utf8_lossy(value).into_owned();
    }
}

/// Names are bounded like the rest, only shorter.
fn text(into: &mut Option<String>, value: &[u8]) {
    if into.is_none() {
        *into = Some(super::text::text(value, 256, 0));
    }
}

fn number<T: std::str::FromStr>(into: &mut Option<T>, value: &[u8]) {
    if into.is_none() {
        *into = std::str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(name: &str, value: &[u8]) -> Vec<u8> {
        [name.as_bytes(), b"\n", &(value.len() as u64).to_le_bytes(), value, b"\n"].concat()
    }

    fn parse(bytes: &[u8], pieces: usize, most: usize) -> Vec<Entry> {
        let mut parser = Parser::new(most);
        let mut all = Vec::new();
        bytes.chunks(pieces).for_each(|piece| parser.feed(piece, &mut |entry| all.push(entry)));
        all
    }

    #[test]
    fn entries_are_the_same_however_they_are_cut_into_pieces() {
        let mut bytes =
            b"__CURSOR=c1\n__REALTIME_TIMESTAMP=17\n_BOOT_ID=b\nPRIORITY=3\nPRIORITY=4\nMESSAGE=a=b\nX=y\n\n".to_vec();
        bytes.extend_from_slice(b"__CURSOR=c2\n");
        bytes.extend(binary("MESSAGE", b"two\nlines\n\n\xff"));
        bytes.extend(binary("UNKNOWN", b""));
        bytes.extend_from_slice(b"MESSAGE=more\n_PID=12\nSYSLOG_PID=x\n\n\n__CURSOR=half\nMESSAGE=");
        let whole = parse(&bytes, bytes.len(), 100);
        assert_eq!(whole.len(), 2);
        assert_eq!(
            (whole[0].at, whole[0].priority, whole[0].message.as_deref()),
            (Some(17), Some(3), Some(&b"a=b"[..]))
        );
        assert_eq!(whole[1].message.as_deref(), Some(&b"two\nlines\n\n\xff\nmore"[..]));
        assert_eq!((whole[1].pid, whole[1].syslog_pid), (Some(12), None));
        for pieces in 1..40 {
            assert_eq!(parse(&bytes, pieces, 100), whole, "{pieces}");
        }
    }

    #[test]
    fn a_huge_value_is_bounded_and_what_follows_is_read() {
        let huge = vec![b'x'; 1_000_000];
        for field in [[b"MESSAGE=", &huge[..], b"\n"].concat(), binary("MESSAGE", &huge)] {
            let bytes = [b"__CURSOR=c\n", &field[..], b"_COMM=z\n\n__CURSOR=d\nMESSAGE=ok\n\n"].concat();
            for pieces in [4096, bytes.len()] {
                let all = parse(&bytes, pieces, 5000);
                let [first, second] = &all[..] else { panic!("{}", all.len()) };
                let kept = first.message.as_ref().map_or(0, Vec::len) as u64;
                assert_eq!(kept + first.more, 1_000_000);
                assert_eq!((first.command.as_deref(), second.message.as_deref()), (Some("z"), Some(&b"ok"[..])));
            }
        }
    }

    #[test]
    fn nonsense_is_passed_over_without_a_panic() {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..random.usize(..400))
                .flat_map(|_| match random.u8(..6) {
                    0 => vec![b'\n'],
                    1 => b"MESSAGE".to_vec(),
                    2 => b"__CURSOR=x\n".to_vec(),
                    3 => vec![0],
                    _ => vec![random.u8(..)],
                })
                .collect();
            parse(&bytes, random.usize(1..50), 100);
        }
    }
}
