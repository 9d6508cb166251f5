//! Cursors of the journal: `s=` the id of a numbering, `i=` the number in it, `b=` the boot, `m=` and `t=` the monotonic and
//! the wall time in microseconds, `x=` a hash of the entry. All but the ids are hexadecimal.

/// A cursor, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    numbering: String,
    number: u64,
    boot: String,
    monotonic: u64,
    wall: u64,
    hash: String,
}

impl Cursor {
    pub fn parse(text: &str) -> Option<Self> {
        let mut cursor = Self::default();
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        for part in text.split(';') {
            match part.split_once('=')? {
                ("s", id) => cursor.numbering = id.to_owned(),
                ("i", number) => cursor.number = hex(number)?,
                ("b", id) => cursor.boot = id.to_owned(),
                ("m", time) => cursor.monotonic = hex(time)?,
                ("t", time) => cursor.wall = hex(time)?,
                ("x", hash) => cursor.hash = hash.to_owned(),
                _ => {}
            }
        }
        (cursor.wall > 0).then_some(cursor)
    }

    /// Whether both are of one entry. An entry that was moved from one journal file to another has another number there.
    pub fn is(&self, other: &Self) -> bool {
        match !self.numbering.is_empty() && self.numbering == other.numbering {
            true => self.number == other.number,
            false => {
                (self.monotonic, self.wall, &self.boot, &self.hash)
                    == (other.monotonic, other.wall, &other.boot, &other.hash)
            }
        }
    }

    /// Whether the entry was written before the other one or is it, as far as that can be told.
    pub fn is_until(&self, other: &Self) -> bool {
        if !self.numbering.is_empty() && self.numbering == other.numbering {
            return self.number <= other.number;
        }
        match self.boot == other.boot {
            true => self.monotonic <= other.monotonic,
            false => self.wall <= other.wall,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_known_again_also_in_another_file() {
        let at = |s: &str, i: &str, m: &str, x: &str| {
            Cursor::parse(&format!("s={s};i={i};b=b0;m={m};t=660e;x={x}")).unwrap()
        };
        assert!(at("a", "1", "5", "x").is(&at("a", "1", "5", "x")));
        assert!(!at("a", "1", "5", "x").is(&at("a", "2", "5", "x")));
        assert!(at("a", "1", "5", "x").is(&at("b", "9", "5", "x")));
        assert!(!at("a", "1", "5", "x").is(&at("b", "1", "5", "y")));
        assert!(at("a", "1", "9", "x").is_until(&at("a", "2", "5", "x")));
        assert!(!at("b", "1", "9", "x").is_until(&at("a", "2", "5", "x")));
        for bad in ["", "x", "s=1;i=zz;t=1", "s=1", "i=1;t=-1"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }
}
