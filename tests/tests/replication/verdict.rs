//! Whether what the device has, what the cloud has and what happened fit together.

use std::collections::BTreeMap;

use ioto::db::Item;
use ioto::db::changelog::LoggedConflict;
use serde_json::{Map, Value, json};

use crate::device::{Device, State, made_by};
use crate::history::{self, By, Write, document};
use crate::run::Mode;
use crate::same;

/// All that is known at the end of a run.
pub struct Evidence<'a> {
    pub mode: Mode,
    pub device: &'a Device,
    /// The rows on the device, and the changes that made them so.
    pub rows: BTreeMap<String, State>,
    /// What was written to the table, in order.
    pub writes: Vec<Write>,
    /// What the table has.
    pub items: BTreeMap<String, Map<String, Value>>,
    pub conflicts: Vec<LoggedConflict>,
}

impl Evidence<'_> {
    /// An error says which invariant does not hold, and of what.
    pub fn judge(&self) -> Result<(), String> {
        if let Some(logged) = self.conflicts.iter().find(|logged| !self.is_real(logged)) {
            return Err(format!("I2 a conflict with nobody: {logged:?}"));
        }
        history::judge(&self.writes, |theirs, mine| self.is_explained(theirs, mine))?;
        for (key, states) in &self.device.lost {
            if !states.iter().any(|state| self.is_accounted_for(key, state)) {
                return Err(format!(
                    "I2 {key} was {states:?} on the device, which is neither in the cloud nor in the log"
                ));
            }
        }
        let keys = self.rows.keys().chain(self.items.keys().filter(|key| !self.rows.contains_key(*key)));
        keys.into_iter().try_for_each(|key| self.check(key))
    }

    /// One row against its item.
    fn check(&self, key: &str) -> Result<(), String> {
        let of_key = || self.writes.iter().filter(|write| write.key == key);
        let mine = of_key().rev().find(|write| matches!(write.by, By::Device { .. }));
        let none = State::none();
        let state = self.rows.get(key).unwrap_or(&none);
        match mine {
            _ if state.change == 0 => {}
            // Theirs won, and is the same: both removed the row.
            _ if self.mode.takes_edits() && self.is_accounted_for(key, state) => {}
            None => return Err(format!("I2 {key} never came to the cloud: {state:?}")),
            Some(mine) if !made_by(mine, state) => {
                return Err(format!("I2 the cloud has {mine:?} of the device last, and not {state:?}"));
            }
            Some(_) => {}
        }
        let is_ours = of_key().next_back().is_some_and(|last| matches!(last.by, By::Device { .. }));
        let attributes = self.items.get(key);
        let item = attributes.and_then(document);
        // Without a way down, what others wrote last is theirs alone.
        if !is_ours && !self.mode.takes_edits() {
            return Ok(());
        }
        if !are_same(item.as_ref(), state.item.as_ref()) {
            return Err(format!("I1 {key} is {item:?} in the cloud and {:?} on the device", state.item));
        }
        // A tombstone has a time to live, of the cloud's function.
        let foreign = ["gpk", "_ts", "ttl"].into_iter().filter(|name| *name != "ttl" || item.is_some());
        let returns = foreign.into_iter().find(|name| attributes.is_some_and(|item| item.contains_key(*name)));
        match returns.filter(|_| is_ours) {
            Some(name) => Err(format!("I8 {key} still has {name} after a write of the device, and comes back")),
            None => Ok(()),
        }
    }

    /// A conflict is one with somebody else, about what that one wrote.
    fn is_real(&self, logged: &LoggedConflict) -> bool {
        self.writes.iter().any(|write| {
            let is_theirs = matches!(write.by, By::Cloud { .. }) && write.key == logged.key;
            is_theirs && write.version == logged.base && same(&json!(write.item), &json!(logged.conflict.theirs))
        })
    }

    /// Whether the device wrote over an edit of the cloud knowingly: it had taken the edit, or keeps it in the log. Of a row
    /// that it removed, the condition of the write says enough; one that was made anew after that has nothing of the edit.
    fn is_explained(&self, theirs: usize, mine: usize) -> bool {
        let (edit, write) = (&self.writes[theirs], &self.writes[mine]);
        let By::Cloud { number } = edit.by else { return true };
        let of_edit = |item: &Item| item.get("cloudOnly").and_then(Value::as_u64) == Some(number);
        let is_logged = |logged: &LoggedConflict| logged.key == edit.key && logged.base == edit.version;
        write.item.as_ref().is_none_or(of_edit)
            || self.device.was_absent(&write.key, theirs, mine)
            || self.conflicts.iter().any(is_logged)
    }

    /// Whether a state that the device does not have any more came to the cloud, or is in the log.
    fn is_accounted_for(&self, key: &str, state: &State) -> bool {
        let by_device = |write: &&Write| write.key == key && matches!(write.by, By::Device { .. });
        let mine =
            |logged: &LoggedConflict| logged.key == key && same(&json!(logged.conflict.mine), &json!(state.item));
        // Where both sides count, a removal on both is no conflict.
        let is_theirs_too = |write: &Write| {
            write.key == key && write.item.is_none() && state.item.is_none() && matches!(write.by, By::Cloud { .. })
        };
        let both_count = matches!(self.mode.conflict, Some("merge" | "both"));
        state.change == 0
            || both_count && self.writes.iter().any(is_theirs_too)
            || self.writes.iter().filter(by_device).any(|write| made_by(write, state))
            || self.conflicts.iter().any(mine)
    }
}

/// Whether the cloud has what the device has. What only others know stays in the cloud.
fn are_same(item: Option<&Item>, row: Option<&Item>) -> bool {
    let known = |item: &Item| -> Item {
        let is_known = |name: &String| name != "cloudOnly" || row.is_some_and(|row| row.contains_key(name));
        item.iter().filter(|(name, _)| is_known(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    same(&json!(item.map(known)), &json!(row))
}
