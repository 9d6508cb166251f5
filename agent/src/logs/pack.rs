//! Records as bytes: how a batch lies in the spool. What stands in the record before is not said again.

use super::Record;

/// Same text as in the record before.
const SAME_IDENTIFIER: u8 = 1;
const SAME_UNIT: u8 = 2;
const SAME_BOOT: u8 = 4;
/// A process is named.
const PID: u8 = 8;

/// Records on their way into the spool.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
    count: u32,
    last: Record,
}

impl Packer {
    /// Adds a record.
    pub fn push(&mut self, record: Record) {
        let last = &self.last;
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(record.identifier == last.identifier, SAME_IDENTIFIER)
            | flag(record.unit == last.unit, SAME_UNIT)
            | flag(record.boot == last.boot, SAME_BOOT)
            | flag(record.pid.is_some(), PID);
        let out = &mut self.bytes;
        out.extend([flags, record.severity, record.facility]);
        out.extend(record.at.to_le_bytes());
        if flags & SAME_IDENTIFIER == 0 {
            put_text(out, &record.identifier);
        }
        if flags & SAME_UNIT == 0 {
            put_text(out, record.unit.as_deref().unwrap_or_default());
        }
        if flags & SAME_BOOT == 0 {
            put_text(out, record.boot.as_deref().unwrap_or_default());
        }
        if let Some(pid) = record.pid {
            put_number(out, u64::from(pid));
        }
        put_text(out, &record.text);
        self.count += 1;
        self.last = Record { text: String::new(), ..record };
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes, and how many records they are.
    pub fn finish(self) -> (Vec<u8>, u32) {
        (self.bytes, self.count)
    }
}

/// The records of a packed batch; nothing when the bytes are no such batch.
pub fn unpack(bytes: &[u8], count: u32) -> Option<Vec<Record>> {
    let mut reader = Reader(bytes);
    // At least 15 bytes a record: what is damaged can not make us reserve more.
    let mut records: Vec<Record> = Vec::with_capacity((count as usize).min(bytes.len() / 15 + 1));
    let mut last = Record::default();
    for _ in 0..count {
        let [flags, severity, facility] = reader.take(3)?.try_into().ok()?;
        let at = i64::from_le_bytes(reader.take(8)?.try_into().ok()?);
        let optional = |text: String| Some(text).filter(|text| !text.is_empty());
        if flags & SAME_IDENTIFIER == 0 {
            last.identifier = reader.text()?;
        }
        if flags & SAME_UNIT == 0 {
            last.unit = optional(reader.text()?);
        }
        if flags & SAME_BOOT == 0 {
            last.boot = optional(reader.text()?);
        }
        let pid = match flags & PID {
            0 => None,
            _ => Some(u32::try_from(reader.number()?).ok()?),
        };
        records.push(Record { at, severity, facility, pid, text: reader.text()?, ..last.clone() });
    }
    reader.0.is_empty().then_some(records)
}

/// FNV-1a, 32 bits: finds damage, and tells records apart.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let bytes = parts.into_iter().flat_map(|part| part.iter());
    bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend(text.as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let [byte] = self.take(1)?.try_into().ok()?;
            let byte: u8 = byte;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(random: &mut fastrand::Rng) -> Record {
        let mut text = |most: usize| (0..random.usize(..=most)).map(|_| random.char(..)).collect::<String>();
        let (identifier, text) = (text(3), text(300));
        Record {
            at: random.i64(..),
            severity: random.u8(..8),
            facility: random.u8(..24),
            identifier,
            unit: random.bool().then(|| format!("unit{}.service", random.u8(..3))),
            pid: random.bool().then(|| random.u32(..)),
            boot: random.bool().then(|| "0123456789abcdef0123456789abcdef".into()),
            text,
        }
    }

    #[test]
    fn what_was_packed_is_unpacked_and_damage_is_never_more_than_nothing() {
        let seed = fastrand::u64(..);
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..300 {
            let records: Vec<_> = (0..random.usize(1..20)).map(|_| record(&mut random)).collect();
            let mut packer = Packer::default();
            records.iter().cloned().for_each(|record| packer.push(record));
            let (bytes, count) = packer.finish();
            assert_eq!(unpack(&bytes, count).unwrap(), records);
            let end = random.usize(..bytes.len());
            assert_eq!(unpack(&bytes[..end], count), None);
            let mut damaged = bytes.clone();
            damaged[end] ^= 1 << random.u8(..8);
            let _ = unpack(&damaged, count);
            assert_ne!(digest([damaged.as_slice()]), digest([bytes.as_slice()]));
            let _ = unpack(&bytes, u32::MAX);
        }
    }
}
