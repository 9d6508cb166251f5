//! Damage that is found in use: the file is closed, checked, mended or set aside, and work goes on, all of it on the writer's
//! thread. Reads wait meanwhile, and so do writes.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::claim::Claim;
use super::editor::Editor;
use super::error::Error;
use super::reader::Shared;
use super::schema::Schema;
use super::store::{Damage, Store};
use super::watch::Watchers;

/// Recoveries in a [`WINDOW`], at most: storage that loses more is dying, and each one costs it a file.
pub(super) const RECOVERIES: usize = 3;
/// See [`RECOVERIES`].
const WINDOW: Duration = Duration::from_secs(60 * 60);

/// What is needed to begin anew, and the editor.
pub(super) struct Keeper {
    editor: Result<Editor, Error>,
    /// Why nothing is written although there is an editor.
    refusal: Option<Error>,
    shared: Shared,
    claim: Arc<Claim>,
    schema: Arc<Schema>,
    watchers: Watchers,
    /// When a recovery began.
    begun: VecDeque<Instant>,
}

impl Keeper {
    pub(super) fn new(
        editor: Editor,
        shared: Shared,
        claim: Arc<Claim>,
        schema: Arc<Schema>,
        watchers: Watchers,
    ) -> Self {
        Self { editor: Ok(editor), refusal: None, shared, claim, schema, watchers, begun: VecDeque::new() }
    }

    /// The editor of a file that is sound as far as is known, or why there is none.
    pub(super) fn editor(&mut self) -> Result<&mut Editor, Error> {
        if self.editor.is_err() || self.claim.monitor().is_suspect() {
            self.recover();
        }
        match (&self.refusal, &mut self.editor) {
            (Some(refusal), _) => Err(refusal.clone()),
            (None, Ok(editor)) => Ok(editor),
            (None, Err(error)) => Err(error.clone()),
        }
    }

    pub(super) fn close(self) {
        if let Ok(editor) = self.editor {
            editor.close();
        }
    }

    fn recover(&mut self) {
        while self.begun.front().is_some_and(|begun| begun.elapsed() >= WINDOW) {
            self.begun.pop_front();
        }
        if self.begun.len() >= RECOVERIES {
            return self.give_up();
        }
        // What was mended in its place and failed again is not believed a second time.
        let damage = if self.begun.is_empty() { Damage::Suspected } else { Damage::Certain };
        self.begun.push_back(Instant::now());
        let monitor = self.claim.monitor();
        let begun = Instant::now();
        let _alone = monitor.outside.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody reads or writes from here on, so that nothing more is found in this file.
        let reason = monitor.clear();
        log::error!("{} is damaged and recovered now: {reason}", self.claim.path().display());
        // The reader's connection goes first, so that the last one puts the log into the file.
        *rows = Err(Error::Closed);
        let gone = Error::Damaged(reason.clone());
        let kept = match std::mem::replace(&mut self.editor, Err(gone)) {
            Ok(editor) => editor.leave(),
            Err(_) => Vec::new(),
        };
        match Store::open_again(&self.claim, &self.schema, &self.watchers, (damage, reason)) {
            Ok(mut store) => {
                store.editor.bring(kept);
                *rows = Ok(store.rows);
                self.editor = Ok(store.editor);
                self.refusal = None;
                monitor.refuse(None);
                self.watchers.lost();
                log::warn!("{} is used again after {:?}", self.claim.path().display(), begun.elapsed());
            }
            Err(error) => {
                log::error!("{} cannot be used: {error}", self.claim.path().display());
                monitor.refuse(Some(error.to_string()));
                *rows = Err(error.clone());
                self.editor = Err(error);
            }
        }
    }

    /// What can still be read is read on; what would be written could not be trusted to be there.
    fn give_up(&mut self) {
        if self.refusal.is_some() {
            return;
        }
        let reason = format!(
            "it was recovered {RECOVERIES} times within an hour and is damaged again: the storage seems to fail, nothing is \
             written until it is recovered anew, later within the hour"
        );
        log::error!("{}: {reason}", self.claim.path().display());
        self.claim.monitor().refuse(Some(reason.clone()));
        self.refusal = Some(Error::Damaged(reason));
    }
}
