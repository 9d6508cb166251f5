//! The answers of the cloud to a push, and what each of them means for the row (the table of answers).

use std::collections::HashMap;

use super::engine::Push;
use super::item::Current;
use crate::db::changelog::{Conflict, Outcome, Settlement};
use crate::db::merge::is_same_item;
use crate::db::{Item, Policy};

/// What the cloud said about a push.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The row is stored.
    Stored,
    /// The item is not what the device expected, and nothing was stored. With the item as it is; nothing if there is
    /// none.
    Differs(Option<Box<Current>>),
    /// This row cannot be stored as it is; others can. With the reason.
    Refused(String),
    /// The request was refused because of some row in it, and nothing was stored: each is to be sent by itself. With the reason.
    Alone(String),
    /// Too many requests. Nothing was stored. With the reason.
    Throttled(String),
    /// No answer, or none that says what happened: the row may be stored, or not. With the reason.
    Failed(String),
}

/// What a write expects to find in the cloud. Whichever it is, the new `_v` is above what the device last saw, so
/// that a version does not come twice when an item is made anew, and a request that is delivered late finds none that
/// it fits.
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
    /// Of models whose conflicts the device does not win alone.
    pub policies: HashMap<String, Policy>,
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
        !matches!(self.settlement.outcome, Outcome::Rebase | Outcome::Merge { .. })
    }
}

impl Rules {
    /// The row is stored as `push` had it.
    pub fn stored(&self, push: &Push) -> Verdict {
        self.applied(push, push.version())
    }

    fn applied(&self, push: &Push, version: u64) -> Verdict {
        self.knowing(push.row.item.clone(), verdict(push, version, Outcome::Applied, None))
    }

    /// The next merge of a row begins with what the cloud has of the device now.
    fn knowing(&self, item: Option<Item>, mut verdict: Verdict) -> Verdict {
        if self.policy(&verdict.settlement.model) == Policy::Merge {
            verdict.settlement.known = item;
        }
        verdict
    }

    /// The item was not what `push` expected: who wrote it, and was that before or after us?
    pub fn differs(&self, push: &Push, current: Option<Current>) -> Verdict {
        let Some(current) = current else { return self.gone(push) };
        let version = current.version.unwrap_or(push.row.base);
        if current.is_from(&push.row.op) {
            // An earlier try of this very write arrived; only its answer was lost.
            return self.applied(push, version);
        }
        if self.is_mine(push, &current) {
            // An older write of this row arrived and its answer was lost: no conflict, ours goes on top.
            return self.knowing(current.item, verdict(push, version, Outcome::Rebase, None));
        }
        if self.was_applied(push, &current) {
            // Ours was stored, then somebody wrote over it. To write it again would undo their later change.
            return verdict(push, version, Outcome::Theirs(current.item), None);
        }
        self.decide(push, current, version)
    }

    /// Device and cloud disagree.
    fn decide(&self, push: &Push, current: Current, version: u64) -> Verdict {
        let theirs = |item| {
            let conflict = Some(conflict(push, Option::clone(&item)));
            #[cfg(test)]
            let conflict = conflict.filter(|_| self.mutant != Some(super::simulation::Mutant::SilentLoss));
            verdict(push, version, Outcome::Theirs(item), conflict)
        };
        let next = current.version.is_none().then_some(Over::Unversioned);
        let counter = current.counter.filter(|_| current.site.as_ref() == Some(&self.site)).unwrap_or(0);
        let mine = |item| Verdict { next, ..verdict(push, version, Outcome::Rebase, Some(conflict(push, item))) };
        let is_merge = match self.policy(&push.row.model) {
            Policy::Cloud => return theirs(current.item),
            Policy::Device => return mine(current.item),
            Policy::Lww if is_later(push, &current) => return mine(current.item),
            Policy::Lww => return theirs(current.item),
            Policy::Merge => true,
            Policy::Both => false,
        };
        match (&push.row.item, current.item) {
            (None, None) => verdict(push, version, Outcome::Theirs(None), None),
            // What one side changed is kept, though the other one removed it.
            (Some(_), None) => mine(None),
            (None, item) => theirs(item),
            (Some(_), Some(item)) if is_merge => {
                let conflict = Some(conflict(push, Some(item.clone())));
                Verdict { next, ..verdict(push, version, Outcome::Merge { theirs: item, counter }, conflict) }
            }
            (Some(mine), Some(item)) if is_same_item(mine, &item) => {
                verdict(push, version, Outcome::Theirs(Some(item)), None)
            }
            (Some(_), Some(item)) => {
                let conflict = Some(conflict(push, Some(item.clone())));
                verdict(push, version, Outcome::Both(item), conflict)
            }
        }
    }

    pub fn policy(&self, model: &str) -> Policy {
        self.policies.get(model).copied().unwrap_or_default()
    }

    /// The item is gone altogether, by DynamoDB's TTL or somebody's DeleteItem. Where the device owns the row, it is made
    /// anew. So is the tombstone of a removed row, for it carries the version on.
    fn gone(&self, push: &Push) -> Verdict {
        #[cfg(test)]
        if self.mutant == Some(super::simulation::Mutant::LeaveDeleted) {
            return verdict(push, 0, Outcome::Applied, None);
        }
        let conflict = (push.over == Over::Known && !push.row.is_anew).then(|| conflict(push, None));
        if conflict.is_some() && self.policy(&push.row.model) == Policy::Cloud {
            return verdict(push, push.row.base, Outcome::Theirs(None), conflict);
        }
        Verdict { next: Some(Over::Nothing), ..verdict(push, push.row.base, Outcome::Rebase, conflict) }
    }

    /// Where the device does not win anyway, what an earlier database of it wrote is somebody else's: this one never saw it.
    fn is_mine(&self, push: &Push, current: &Current) -> bool {
        #[cfg(test)]
        if self.mutant == Some(super::simulation::Mutant::NotMe) {
            return false;
        }
        let is_of_device = current.version.is_some() && current.writer.as_ref() == Some(&self.thing);
        #[cfg(test)]
        if self.mutant == Some(super::simulation::Mutant::AnyDevice) {
            return is_of_device;
        }
        is_of_device && (current.site.as_ref() == Some(&self.site) || self.policy(&push.row.model) == Policy::Device)
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

/// Whether the device changed the row after the cloud's item was written. An item without a time was written without the rules.
fn is_later(push: &Push, current: &Current) -> bool {
    current.written.is_some_and(|written| push.row.changed > written)
}

fn verdict(push: &Push, base: u64, outcome: Outcome, conflict: Option<Conflict>) -> Verdict {
    let (model, key) = (push.row.model.clone(), push.row.key.clone());
    let settlement = Settlement { model, key, n: push.row.n, base, outcome, conflict, known: None };
    Verdict { settlement, next: None }
}

fn conflict(push: &Push, theirs: Option<Item>) -> Conflict {
    Conflict { mine: push.row.item.clone(), theirs }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::db::changelog::Pending;
    use crate::net::base64;

    const MINE: [u8; 16] = [1; 16];

    fn rules() -> Rules {
        Rules { thing: "lamp".into(), site: "s1".into(), policies: HashMap::new(), mutant: None }
    }

    fn push(base: u64, over: Over) -> Push {
        let row = Pending {
            model: "Reading".into(),
            key: "r1".into(),
            n: 7,
            op: MINE,
            base,
            is_anew: false,
            item: json!({"value": 1}).as_object().cloned(),
            changed: 0,
            recorded: 0,
        };
        Push::new(1, row, over)
    }

    fn theirs() -> Current {
        Current {
            version: Some(9),
            op: Some(base64::encode(&[2; 16])),
            writer: Some("cloud:app".into()),
            counter: Some(6),
            site: Some("s1".into()),
            written: Some(1000),
            item: json!({"value": 2}).as_object().cloned(),
        }
    }

    fn differs(current: Option<Current>) -> Verdict {
        rules().differs(&push(4, Over::Known), current)
    }

    #[test]
    fn a_stored_row_has_the_next_version() {
        let settled = rules().stored(&push(4, Over::Known)).settlement;
        assert_eq!((settled.outcome, settled.base, settled.n, settled.conflict), (Outcome::Applied, 5, 7, None));
    }

    #[test]
    fn what_is_made_leaps_beyond_versions_that_the_device_never_saw() {
        let far = |base, over| push(base, over).version() - base;
        assert_eq!(far(4, Over::Known), 1);
        let leaps = [far(0, Over::Nothing), far(4, Over::Nothing), far(4, Over::Unversioned)];
        assert!(leaps.iter().all(|leap| *leap == leaps[0] && (0x10000..=1 << 24).contains(leap)), "{leaps:?}");
    }

    #[test]
    fn my_operation_in_the_item_means_stored() {
        let settled = differs(Some(Current { op: Some(base64::encode(&MINE)), ..theirs() })).settlement;
        assert_eq!((settled.outcome, settled.base, settled.conflict), (Outcome::Applied, 9, None));
    }

    #[test]
    fn my_own_older_write_is_no_conflict() {
        let settled = differs(Some(Current { writer: Some("lamp".into()), ..theirs() })).settlement;
        assert_eq!((settled.outcome, settled.base, settled.conflict), (Outcome::Rebase, 9, None));
    }

    #[test]
    fn what_was_stored_before_they_wrote_is_not_stored_again() {
        let settled = differs(Some(Current { counter: Some(7), ..theirs() })).settlement;
        assert_eq!((settled.outcome, settled.base), (Outcome::Theirs(theirs().item), 9));
        let tombstone = differs(Some(Current { counter: Some(8), item: None, ..theirs() })).settlement;
        assert_eq!(tombstone.outcome, Outcome::Theirs(None));
    }

    #[test]
    fn a_counter_of_another_database_file_says_nothing() {
        let settled = differs(Some(Current { counter: Some(99), site: Some("s0".into()), ..theirs() })).settlement;
        assert_eq!(settled.outcome, Outcome::Rebase);
    }

    #[test]
    fn the_device_wins_and_both_versions_are_kept() {
        let settled = differs(Some(theirs())).settlement;
        assert_eq!((settled.outcome, settled.base), (Outcome::Rebase, 9));
        let conflict = settled.conflict.unwrap();
        assert_eq!((conflict.mine, conflict.theirs), (push(4, Over::Known).row.item.clone(), theirs().item));
    }

    #[test]
    fn an_item_that_is_gone_is_made_anew_with_the_next_version_and_recorded_once() {
        let first = differs(None);
        assert_eq!((first.next, first.settlement.base), (Some(Over::Nothing), 4));
        assert_eq!(first.settlement.outcome, Outcome::Rebase);
        assert_eq!(first.settlement.conflict.unwrap().theirs, None);
        let again = rules().differs(&push(4, Over::Unversioned), None);
        assert_eq!((again.next, again.settlement.conflict), (Some(Over::Nothing), None));
    }

    #[test]
    fn an_item_without_a_version_is_written_over_on_top_of_the_known_version() {
        let put = Current { item: theirs().item, ..Current::default() };
        let verdict = differs(Some(put));
        assert_eq!((verdict.next, verdict.settlement.base), (Some(Over::Unversioned), 4));
        assert_eq!(verdict.settlement.conflict.unwrap().theirs, theirs().item);
    }

    fn decided(policy: Policy, mine: Option<Value>, theirs: Option<Value>, changed: i64) -> Verdict {
        let rules = Rules { policies: HashMap::from([("Reading".to_owned(), policy)]), ..rules() };
        let mut push = push(4, Over::Known);
        let row = Arc::make_mut(&mut push.row);
        row.item = mine.map(|item| item.as_object().unwrap().clone());
        row.changed = changed;
        let item = theirs.map(|item| item.as_object().unwrap().clone());
        rules.differs(&push, Some(Current { item, ..super::tests::theirs() }))
    }

    #[test]
    fn the_later_change_wins_and_what_has_no_time_does_too() {
        let of = |changed| decided(Policy::Lww, Some(json!({"value": 1})), Some(json!({"value": 2})), changed);
        assert_eq!(of(1001).settlement.outcome, Outcome::Rebase);
        let theirs_is_later = of(1000).settlement;
        assert_eq!(theirs_is_later.outcome, Outcome::Theirs(theirs().item));
        assert!(theirs_is_later.conflict.is_some() && of(1001).settlement.conflict.is_some());
        let rules = Rules { policies: HashMap::from([("Reading".to_owned(), Policy::Lww)]), ..rules() };
        let mut later = push(4, Over::Known);
        Arc::make_mut(&mut later.row).changed = i64::MAX;
        let timeless = rules.differs(&later, Some(Current { written: None, ..theirs() })).settlement;
        assert_eq!(timeless.outcome, Outcome::Theirs(theirs().item));
    }

    #[test]
    fn both_sides_are_put_together_or_both_kept_and_a_removal_does_not_win() {
        let (mine, theirs) = (json!({"value": 1}), json!({"value": 2}));
        let both = |policy| decided(policy, Some(mine.clone()), Some(theirs.clone()), 0);
        let item = theirs.as_object().unwrap().clone();
        assert_eq!(both(Policy::Merge).settlement.outcome, Outcome::Merge { theirs: item.clone(), counter: 6 });
        assert!(!both(Policy::Merge).is_final());
        assert_eq!(both(Policy::Both).settlement.outcome, Outcome::Both(item.clone()));
        let same = decided(Policy::Both, Some(mine.clone()), Some(json!({"value": 1.0})), 0).settlement;
        assert!(matches!(same.outcome, Outcome::Theirs(Some(_))) && same.conflict.is_none());
        for policy in [Policy::Merge, Policy::Both] {
            let theirs_stays = decided(policy, None, Some(theirs.clone()), 0).settlement;
            assert_eq!(theirs_stays.outcome, Outcome::Theirs(Some(item.clone())));
            assert!(theirs_stays.conflict.is_some());
            let mine_stays = decided(policy, Some(mine.clone()), None, 0).settlement;
            assert!(mine_stays.outcome == Outcome::Rebase && mine_stays.conflict.is_some());
            let none_stays = decided(policy, None, None, 0).settlement;
            assert!(none_stays.outcome == Outcome::Theirs(None) && none_stays.conflict.is_none());
        }
    }

    #[test]
    fn what_an_earlier_database_of_the_device_wrote_is_not_lost_where_both_sides_count() {
        let earlier = Current { writer: Some("lamp".into()), site: Some("s0".into()), ..theirs() };
        let of = |policy| {
            let rules = Rules { policies: HashMap::from([("Reading".to_owned(), policy)]), ..rules() };
            rules.differs(&push(0, Over::Nothing), Some(earlier.clone())).settlement
        };
        assert!(of(Policy::Device).outcome == Outcome::Rebase && of(Policy::Device).conflict.is_none());
        assert!(matches!(of(Policy::Merge).outcome, Outcome::Merge { counter: 0, .. }));
        assert!(matches!(of(Policy::Cloud).outcome, Outcome::Theirs(_)));
    }

    #[test]
    fn the_next_merge_begins_with_what_the_cloud_has_of_the_device() {
        let rules = Rules { policies: HashMap::from([("Reading".to_owned(), Policy::Merge)]), ..rules() };
        let push = push(4, Over::Known);
        assert_eq!(rules.stored(&push).settlement.known, push.row.item);
        let older = Current { writer: Some("lamp".into()), ..theirs() };
        let rebased = rules.differs(&push, Some(older)).settlement;
        assert_eq!((rebased.outcome, rebased.known), (Outcome::Rebase, theirs().item));
        assert_eq!(super::tests::rules().stored(&push).settlement.known, None);
    }
}
