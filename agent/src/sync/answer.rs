//! The answers of the cloud to a push, and what each of them means for the row (the table of answers).

use super::engine::Push;
use super::item::Current;
use super::stub::{Conflict, Item, Outcome, Settlement};

/// What the cloud said about a push.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The row is stored.
    Stored,
    /// The item is not what the device expected, and nothing was stored. With the item as it is; nothing if there is none.
    Differs(Option<Box<Current>>),
    /// This row cannot be stored as it is; others can. With the reason.
    Refused(String),
    /// Too many requests. Nothing was stored. With the reason.
    Throttled(String),
    /// No answer, or none that says what happened: the row may be stored, or not. With the reason.
    Failed(String),
}

/// Who wins where the device and somebody else wrote the same item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The device: its row is written over theirs, and both are kept in the conflict log.
    #[default]
    Device,
}

/// What a write expects to find in the cloud. Whichever it is, the new `_v` is one more than the device last saw, so that a
/// version does not come twice when an item is made anew, and a request that is delivered late finds none that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// No item.
    Nothing,
    /// The item with the `_v` that the device last saw.
    Known,
    /// An item without `_v`: somebody put it there without the rules, from a console for example.
    Unversioned,
}

/// Who we are, and what the models' owner decided.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub thing: String,
    pub site: String,
    pub policy: Policy,
    #[cfg(test)]
    pub mutant: Option<super::simulation::Mutant>,
}

/// What is to be written into the database about a push, and what the next one will find if its base does not say it.
pub(super) struct Verdict {
    pub settlement: Settlement,
    pub next: Option<Over>,
}

impl Verdict {
    /// Whether the change has left the log.
    pub fn is_final(&self) -> bool {
        !matches!(self.settlement.outcome, Outcome::Rebase)
    }
}

impl Rules {
    /// The row is stored as `push` had it.
    pub fn stored(&self, push: &Push) -> Verdict {
        verdict(push, push.version(), Outcome::Applied, None)
    }

    /// The item was not what `push` expected: who wrote it, and was that before or after us?
    pub fn differs(&self, push: &Push, current: Option<Current>) -> Verdict {
        let Some(current) = current else { return self.gone(push) };
        let version = current.version.unwrap_or(push.row.base);
        if current.is_from(&push.row.op) {
            // An earlier try of this very write arrived; only its answer was lost.
            return verdict(push, version, Outcome::Applied, None);
        }
        if self.is_mine(&current) {
            // An older write of this row arrived and its answer was lost: no conflict, ours goes on top.
            return verdict(push, version, Outcome::Rebase, None);
        }
        if self.was_applied(push, &current) {
            // Ours was stored, then somebody wrote over it. To write it again would undo their later change.
            return verdict(push, version, Outcome::Theirs(current.item), None);
        }
        match self.policy {
            Policy::Device => {
                let next = current.version.is_none().then_some(Over::Unversioned);
                let conflict = Some(conflict(push, current.item));
                Verdict { next, ..verdict(push, version, Outcome::Rebase, conflict) }
            }
        }
    }

    /// The item is gone altogether, by DynamoDB's TTL or somebody's DeleteItem. The device owns the row: it is made anew.
    /// So is the tombstone of a removed row, for it carries the version on.
    fn gone(&self, push: &Push) -> Verdict {
        #[cfg(test)]
        if self.mutant == Some(super::simulation::Mutant::LeaveDeleted) {
            return verdict(push, 0, Outcome::Applied, None);
        }
        let conflict = (push.over == Over::Known).then(|| conflict(push, None));
        Verdict { next: Some(Over::Nothing), ..verdict(push, push.row.base, Outcome::Rebase, conflict) }
    }

    fn is_mine(&self, current: &Current) -> bool {
        #[cfg(test)]
        if self.mutant == Some(super::simulation::Mutant::NotMe) {
            return false;
        }
        current.version.is_some() && current.writer.as_ref() == Some(&self.thing)
    }

    /// Counters are comparable only within one database file: a new one counts from the start.
    fn was_applied(&self, push: &Push, current: &Current) -> bool {
        #[cfg(test)]
        match self.mutant {
            Some(super::simulation::Mutant::NoCounter) => return false,
            Some(super::simulation::Mutant::AnySite) => return current.counter >= Some(push.row.n),
            _ => {}
        }
        current.site.as_ref() == Some(&self.site) && current.counter >= Some(push.row.n)
    }
}

fn verdict(push: &Push, base: u64, outcome: Outcome, conflict: Option<Conflict>) -> Verdict {
    let (model, key) = (push.row.model.clone(), push.row.key.clone());
    let settlement = Settlement { model, key, n: push.row.n, base, outcome, conflict };
    Verdict { settlement, next: None }
}

fn conflict(push: &Push, theirs: Option<Item>) -> Conflict {
    Conflict { mine: push.row.item.clone(), theirs }
}
