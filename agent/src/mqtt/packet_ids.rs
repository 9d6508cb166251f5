//! Packet identifiers: 1 to 65,535, each given to one exchange at a time.

use std::collections::BTreeSet;

use super::broken::{self, Defect};

/// Gives out identifiers in turn and never one that is still in use, whatever kind of packet uses it [MQTT-2.3.1-2].
#[derive(Debug, Default)]
pub(super) struct PacketIds {
    used: BTreeSet<u16>,
    last: u16,
}

impl PacketIds {
    /// The next free identifier; none when all 65,535 are in use.
    pub fn take(&mut self) -> Option<u16> {
        if self.used.len() == usize::from(u16::MAX) {
            return None;
        }
        loop {
            if broken::has(Defect::ReuseId) {
                self.last %= 4;
            }
            self.last = self.last.checked_add(1).unwrap_or(1);
            if self.used.insert(self.last) || broken::has(Defect::ReuseId) {
                return Some(self.last);
            }
        }
    }

    /// An exchange of an earlier run goes on with this identifier.
    pub fn reserve(&mut self, id: u16) {
        self.used.insert(id);
        self.last = self.last.max(id);
    }

    /// The exchange has ended.
    pub fn free(&mut self, id: u16) {
        self.used.remove(&id);
    }

    /// Makes the next identifier the one after `last`, so that a test need not count that far.
    #[cfg(test)]
    pub fn start_after(&mut self, last: u16) {
        self.last = last;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_id_in_use_is_skipped_when_the_numbers_wrap() {
        let mut ids = PacketIds::default();
        assert_eq!(ids.take(), Some(1));
        assert_eq!(ids.take(), Some(2));
        ids.start_after(u16::MAX - 1);
        assert_eq!(ids.take(), Some(u16::MAX));
        assert_eq!(ids.take(), Some(3), "0 is no id, 1 and 2 are in use");
        ids.free(2);
        ids.start_after(1);
        assert_eq!(ids.take(), Some(2));
    }

    #[test]
    fn all_ids_in_use_means_none_is_left() {
        let mut ids = PacketIds::default();
        let all: BTreeSet<u16> = std::iter::from_fn(|| ids.take()).collect();
        assert_eq!(all.len(), 65_535);
        assert!(!all.contains(&0));
        assert_eq!(ids.take(), None);
        ids.free(777);
        assert_eq!(ids.take(), Some(777));
    }
}
