//! A disk in memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::mqtt::session::{Kept, KeptInFlight, MessageId, Note};
use crate::mqtt::{Message, Priority};

/// What the notes that were committed amount to.
#[derive(Debug, Default)]
pub struct Disk {
    rows: BTreeMap<MessageId, Row>,
    /// Messages that have a packet id, in the order in which they got it.
    sending: Vec<MessageId>,
    received: BTreeSet<u16>,
}

#[derive(Debug)]
struct Row {
    priority: Priority,
    message: Message,
    packet_id: u16,
    is_released: bool,
}

impl Disk {
    pub fn commit(&mut self, notes: &[Note]) {
        for note in notes.iter().cloned() {
            match note {
                Note::Queued { id, priority, message } => {
                    let row = Row { priority, message, packet_id: 0, is_released: false };
                    assert!(self.rows.insert(id, row).is_none(), "{id:?} twice");
                }
                Note::Sending { id, packet_id } => {
                    self.row(id).packet_id = packet_id;
                    self.sending.push(id);
                }
                Note::Released(id) => self.row(id).is_released = true,
                Note::Unreleased(id) => self.row(id).is_released = false,
                Note::Done(id) => {
                    assert!(self.rows.remove(&id).is_some(), "{id:?} was not there");
                    self.sending.retain(|sending| *sending != id);
                }
                Note::Received(packet_id) => drop(self.received.insert(packet_id)),
                Note::Forgotten(packet_id) => drop(self.received.remove(&packet_id)),
                Note::ForgottenAll => self.received.clear(),
            }
        }
    }

    /// What the next run finds.
    pub fn kept(&self) -> Kept {
        let in_flight = |id: &MessageId| {
            let Row { message, packet_id, is_released, .. } = &self.rows[id];
            KeptInFlight { id: *id, packet_id: *packet_id, is_released: *is_released, message: message.clone() }
        };
        let queued = self.rows.iter().filter(|(_, row)| row.packet_id == 0);
        Kept {
            in_flight: self.sending.iter().map(in_flight).collect(),
            queued: queued.map(|(id, row)| (*id, row.priority, row.message.clone())).collect(),
            received: self.received.iter().copied().collect(),
        }
    }

    pub fn has(&self, id: MessageId) -> bool {
        self.rows.contains_key(&id)
    }

    fn row(&mut self, id: MessageId) -> &mut Row {
        self.rows.get_mut(&id).unwrap()
    }
}
