//! Settling: what the cloud said about a change becomes what the row is, in one transaction with the change log.

use rusqlite::params;

use super::changelog::{Conflict, Outcome, Settlement};
use super::editor::Editor;
use super::error::Error;
use super::inbound::with_key;
use super::merge::{Basis, Merged, is_same_item, merge};
use super::outbox::{self, Sides};
use super::query::Item;
use super::schema::Model;

impl Editor {
    /// Carries the settlements out, all or none.
    pub(super) fn settle(&mut self, settlements: &[Settlement]) -> Result<(), Error> {
        let schema = self.schema();
        for settled in settlements {
            let model = schema.demand(&settled.model)?;
            self.fresh().settled(&settled.model, &settled.key);
            match &settled.outcome {
                // Both sides were put together before: an answer that comes again says nothing new.
                Outcome::Merge { .. } | Outcome::Both(_) if !self.is_pending(model, &settled.key)? => {}
                Outcome::Merge { theirs, counter } => self.settle_merge(model, settled, theirs, *counter)?,
                Outcome::Both(theirs) => self.settle_both(model, settled, theirs)?,
                Outcome::Applied | Outcome::Rebase | Outcome::Theirs(_) => self.settle_one_side(model, settled)?,
            }
        }
        Ok(())
    }

    fn settle_one_side(&mut self, model: &Model, settled: &Settlement) -> Result<(), Error> {
        let key = &settled.key;
        let before = self.before(model, key)?;
        let is_queued = outbox::settle(self.connection(), settled, model.sync().down())?;
        match (&settled.outcome, is_queued) {
            (Outcome::Theirs(Some(item)), false) => {
                let item = with_key(model, key, item.clone());
                self.put(model, key, &item, self.rows().sealed_document(model, key, &item)?)?;
                self.note(model, key, before, Some(&item));
            }
            (Outcome::Theirs(None), false) => {
                self.delete(model, key)?;
                self.note(model, key, before, None);
            }
            (Outcome::Applied, true) if settled.known.is_some() => {
                self.set_basis(model, key, settled.known.as_ref(), settled.n)?;
            }
            // An earlier change than the one that was sent.
            (Outcome::Rebase, true) if settled.known.is_some() => {
                self.set_basis(model, key, settled.known.as_ref(), settled.n.saturating_sub(1))?;
            }
            _ => {}
        }
        if !is_queued {
            self.drop_basis(model, key)?;
        }
        self.log_conflict(model, settled, settled.outcome.name())
    }

    /// The row as it is now, newer changes too, and theirs. A row that was removed meanwhile becomes theirs.
    fn settle_merge(&mut self, model: &Model, settled: &Settlement, theirs: &Item, counter: u64) -> Result<(), Error> {
        let key = &settled.key;
        let theirs = with_key(model, key, theirs.clone());
        let mine = self.current(model, key)?;
        let settled = &of_now(settled, mine.clone(), &theirs);
        let Some(mine) = mine else { return self.take_theirs(model, settled, &theirs) };
        let (basis, n) = self.basis(model, key)?;
        // A change of the device came to the cloud before theirs, and its answer to nobody: what it was is known only while the
        // program runs.
        let basis = match (&settled.known, basis.as_ref()) {
            (Some(known), _) => Basis::Certain(Some(known)),
            (None, basis) if counter > n => Basis::Doubtful(basis),
            (None, basis) => Basis::Certain(basis),
        };
        let Merged { item, is_conflict } = merge(basis, &mine, &theirs);
        if is_conflict {
            self.log_conflict(model, settled, settled.outcome.name())?;
        }
        outbox::move_base(self.connection(), settled)?;
        if is_same_item(&item, &theirs) {
            outbox::drop_change(self.connection(), model.name(), key)?;
            self.drop_basis(model, key)?;
        } else {
            self.set_basis(model, key, Some(&theirs), settled.n.saturating_sub(1))?;
        }
        let before = self.before(model, key)?;
        self.put(model, key, &item, self.rows().sealed_document(model, key, &item)?)?;
        self.wrote(model, key);
        self.note(model, key, before, Some(&item));
        Ok(())
    }

    /// Theirs gets the row, and the row as it is now becomes a new one beside it.
    fn settle_both(&mut self, model: &Model, settled: &Settlement, theirs: &Item) -> Result<(), Error> {
        let key = &settled.key;
        let theirs = with_key(model, key, theirs.clone());
        let mine = self.current(model, key)?;
        let settled = &of_now(settled, mine.clone(), &theirs);
        if let Some(mine) = mine {
            let beside = self.key_beside(model, key)?;
            let copy = with_key(model, &beside, mine);
            self.put(model, &beside, &copy, self.rows().sealed_document(model, &beside, &copy)?)?;
            self.wrote(model, &beside);
            self.record(model, &beside, false)?;
            self.note(model, &beside, None, Some(&copy));
        }
        self.take_theirs(model, settled, &theirs)
    }

    /// The row becomes theirs, whatever changes wait.
    fn take_theirs(&mut self, model: &Model, settled: &Settlement, theirs: &Item) -> Result<(), Error> {
        let key = &settled.key;
        let before = self.before(model, key)?;
        outbox::drop_change(self.connection(), model.name(), key)?;
        outbox::move_base(self.connection(), settled)?;
        self.drop_basis(model, key)?;
        self.put(model, key, theirs, self.rows().sealed_document(model, key, theirs)?)?;
        self.wrote(model, key);
        self.note(model, key, before, Some(theirs));
        self.log_conflict(model, settled, settled.outcome.name())
    }

    /// A key that no row has: the device's name for the file and the number of the change make it another each time.
    fn key_beside(&self, model: &Model, key: &str) -> Result<String, Error> {
        let sql = "SELECT n FROM _sync_out WHERE model = ?1 AND key = ?2";
        let n: u64 = self.connection().prepare_cached(sql)?.query_row(params![model.name(), key], |row| row.get(0))?;
        let site: String = outbox::state(self.connection(), "site")?.unwrap_or_default();
        Ok(format!("{key}~{}{n}", site.get(..4).unwrap_or_default()))
    }

    /// The row, also when its time is over.
    fn current(&self, model: &Model, key: &str) -> Result<Option<Item>, Error> {
        match self.document(model, key)? {
            Some(text) => self.rows().item(model, key, &text).map(Some),
            None => Ok(None),
        }
    }

    fn log_conflict(&self, model: &Model, settled: &Settlement, resolution: &str) -> Result<(), Error> {
        match self.sides(model, settled)? {
            Some(sides) => outbox::log_conflict(self.connection(), settled, sides, resolution),
            None => Ok(()),
        }
    }

    /// The two sides of a conflict as they are stored.
    fn sides(&self, model: &Model, settled: &Settlement) -> Result<Option<Sides>, Error> {
        let side = |item: &Option<Item>| {
            item.as_ref().map(|item| self.rows().sealed_document(model, &settled.key, item)).transpose()
        };
        let sides = |conflict: &Conflict| Ok((side(&conflict.mine)?, side(&conflict.theirs)?));
        settled.conflict.as_ref().map(sides).transpose()
    }
}

/// The settlement with the conflict as it is now: the row may have changed since it was sent.
fn of_now(settled: &Settlement, mine: Option<Item>, theirs: &Item) -> Settlement {
    Settlement { conflict: Some(Conflict { mine, theirs: Some(theirs.clone()) }), ..settled.clone() }
}
