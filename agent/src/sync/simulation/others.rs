//! Those who write into the cloud beside the devices.

use crate::net::iso8601;

use super::pulling::CLOUD_TIME;
use super::world::{Event, World};

/// Keys that only they write: what is missed of them no later change of a device brings.
const QUIET: [&str; 3] = ["q0", "q1", "q2"];

impl World {
    /// What others wrote before the device was there, and will write beside it.
    pub(super) fn earlier(&mut self) {
        for _ in 0..self.random.usize(0..20) {
            let key = QUIET[self.random.usize(..QUIET.len())];
            self.at_random(Event::Foreign(Some(key.to_owned())));
        }
        for key in ["k0", "k2", "k3"].into_iter().chain(QUIET) {
            let stamp = iso8601(CLOUD_TIME as i64 - self.random.i64(60_000..10_000_000));
            let value = format!("e{key}");
            self.cloud.edit(key, &value, &stamp, &mut self.random);
        }
    }

    pub(super) fn somebody_writes(&mut self, key: &str) {
        self.writes += 1;
        let value = format!("c{}", self.writes);
        let stamp = self.stamp();
        self.cloud.shown_from = self.shown_from();
        match self.random.u8(..) {
            ..20 => {
                self.seen.count("deleted");
                self.cloud.delete(key);
                self.forget_requests(key);
            }
            20..30 => {
                self.seen.count("unversioned");
                self.cloud.put(key, &value);
                self.forget_requests(key);
            }
            _ => self.cloud.edit(key, &value, &stamp, &mut self.random),
        }
    }

    /// No request lives so long that an item is deleted, made anew and changed meanwhile.
    fn forget_requests(&mut self, key: &str) {
        let lives = self.lives();
        self.events.retain(|_, (device, event)| match event {
            Event::Arrive { id, generation, request } if *id == 0 || *generation < lives[*device] => {
                request["Key"]["sk"]["S"] != key
            }
            _ => true,
        });
    }

    /// The time that a cloud writer puts into the index: their clocks differ.
    pub(super) fn stamp(&mut self) -> String {
        let ms = CLOUD_TIME + self.elapsed_ms() + self.random.u64(..10_000);
        iso8601(ms as i64)
    }
}
