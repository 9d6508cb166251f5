//! The time zone of the device, for times that are written without one: `/etc/localtime` (RFC 8536).

use std::sync::OnceLock;

/// A file of a zone is a few kilobytes.
const LARGEST: usize = 64 * 1024;

/// Local times that begin at a second of UTC, with their seconds ahead of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Zone(Vec<(i64, i64)>);

/// The UTC of a local time, both in milliseconds since 1970. Where there is no zone, it is UTC.
pub(super) fn utc(local: i64) -> i64 {
    static ZONE: OnceLock<Zone> = OnceLock::new();
    let zone = ZONE.get_or_init(|| {
        let file = std::fs::read("/etc/localtime").ok().filter(|file| file.len() <= LARGEST);
        file.and_then(|file| Zone::parse(&file)).unwrap_or_default()
    });
    zone.utc(local)
}

impl Zone {
    /// Takes the second part of the file, which has times in 64 bits. What follows the last change is taken to stay.
    fn parse(file: &[u8]) -> Option<Self> {
        let first = counts(file)?;
        let at = 44 + first.size(4);
        let rest = file.get(at..)?;
        let counts = counts(rest)?;
        let data = rest.get(44..44 + counts.size(8))?;
        let (times, data) = data.split_at(counts.times * 8);
        let (kinds, data) = data.split_at(counts.times);
        let ahead = |kind: usize| {
            let bytes = data.get(kind * 6..kind * 6 + 4)?;
            Some(i64::from(i32::from_be_bytes(bytes.try_into().ok()?)))
        };
        let mut changes = vec![(i64::MIN, ahead(0)?)];
        for (time, kind) in times.chunks_exact(8).zip(kinds) {
            changes.push((i64::from_be_bytes(time.try_into().ok()?), ahead((*kind).into())?));
        }
        Some(Self(changes))
    }

    fn utc(&self, local: i64) -> i64 {
        let second = local.div_euclid(1000);
        let is_past = |(from, ahead): &&(i64, i64)| second.saturating_sub(*ahead) >= *from;
        let ahead = self.0.iter().rev().find(is_past).map_or(0, |(_, ahead)| *ahead);
        local - ahead * 1000
    }
}

struct Counts {
    utc_marks: usize,
    standard_marks: usize,
    leaps: usize,
    times: usize,
    kinds: usize,
    names: usize,
}

impl Counts {
    /// Bytes of the data, in which a time has so many.
    fn size(&self, time: usize) -> usize {
        self.times * time
            + self.times
            + self.kinds * 6
            + self.names
            + self.leaps * (time + 4)
            + self.standard_marks
            + self.utc_marks
    }
}

fn counts(header: &[u8]) -> Option<Counts> {
    header.starts_with(b"TZif").then_some(())?;
    let count = |index: usize| {
        let bytes = header.get(20 + index * 4..24 + index * 4)?;
        usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok().filter(|count| *count <= LARGEST)
    };
    Some(Counts {
        utc_marks: count(0)?,
        standard_marks: count(1)?,
        leaps: count(2)?,
        times: count(3)?,
        kinds: count(4)?,
        names: count(5)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn summer_and_winter_are_known() {
        let Ok(file) = std::fs::read("/usr/share/zoneinfo/Europe/Berlin") else { return };
        let zone = Zone::parse(&file).unwrap();
        let hour = 3_600_000;
        let winter = 1_421_323_200_000; // 2015-01-15T12:00:00
        assert_eq!(zone.utc(winter), winter - hour);
        let summer = 1_436_961_600_000; // 2015-07-15T12:00:00
        assert_eq!(zone.utc(summer), summer - 2 * hour);
        for cut in 0..file.len().min(3000) {
            Zone::parse(&file[..cut]);
        }
    }
}
