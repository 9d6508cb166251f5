//! What must hold of the rows on the device and the items in the cloud.

use crate::db::Item;
use crate::db::changelog::{Conflict, Settlement};

use super::cloud::identity;
use super::world::{FIELDS, World};

impl World {
    /// A conflict is one with somebody else, or an earlier file of the device, about a version that existed.
    pub(super) fn check_conflict(&self, settled: &Settlement, conflict: &Conflict) -> Result<(), String> {
        let theirs = identity(&(settled.key.clone(), settled.base, conflict.theirs.clone()));
        let is_gone = conflict.theirs.is_none() && self.cloud.was_deleted(&settled.key);
        let is_of_earlier_file = self.cloud.written.get(&theirs).is_some_and(|site| *site != self.device.store.site);
        if is_gone || is_of_earlier_file || self.cloud.identities.contains(&theirs) {
            return Ok(());
        }
        Err(format!("I2 a conflict with nobody: {theirs}"))
    }

    /// I1. A version of somebody else that the device did not write over is not the device's to judge.
    pub(super) fn check_rows(&self, strict: bool) -> Result<(), String> {
        for (key, row) in &self.device.store.rows {
            let Some(current) = self.cloud.current(key) else {
                // What came from the cloud without a version, and was deleted there, is not taken for deleted.
                if row.item.is_some() && strict && (row.base > 0 || !self.setup.is_both) {
                    return Err(format!("I1 {key} is not in the cloud"));
                }
                continue;
            };
            let is_ours =
                current.writer.as_deref() == Some("thing") && current.site.as_ref() == Some(&self.device.store.site);
            let may_be_past = self.setup.is_both && self.cloud.lost_count(key);
            if self.device.store.is_pending(key) || !strict && (!is_ours || may_be_past) {
                continue;
            }
            let mut theirs = current.item;
            if let (Some(theirs), Some(mine)) = (&mut theirs, &row.item) {
                theirs.retain(|name, _| FIELDS.contains(&name.as_str()) || mine.contains_key(name));
            }
            if !same(theirs.as_ref(), row.item.as_ref()) {
                return Err(format!("I1 {key} is {:?} on the device and {theirs:?} in the cloud", row.item));
            }
        }
        Ok(())
    }
}

pub(super) fn same(theirs: Option<&Item>, mine: Option<&Item>) -> bool {
    match (theirs, mine) {
        (Some(theirs), Some(mine)) => {
            theirs.len() == mine.len() && theirs.iter().all(|(name, value)| mine.get(name) == Some(value))
        }
        (None, None) => true,
        _ => false,
    }
}
