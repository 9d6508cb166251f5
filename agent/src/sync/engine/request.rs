//! Requests: a row on its way, and which rows go together.

use std::sync::Arc;

use super::{Engine, Row};
use crate::db::changelog::Pending;
use crate::sync::answer::Over;

/// A row on its way to the cloud.
#[derive(Clone, Debug)]
pub struct Push {
    /// Names this push; the answer comes back under it.
    pub id: u64,
    /// The request that it is a part of.
    pub(super) request: u64,
    /// The row and its change.
    pub row: Arc<Pending>,
    /// What the write expects to find in the cloud.
    pub over: Over,
}

impl Push {
    /// A push of its own request.
    #[cfg(test)]
    pub(in crate::sync) fn new(id: u64, row: Pending, over: Over) -> Self {
        Self { id, request: id, row: Arc::new(row), over }
    }

    /// The version of the item once this is stored: the one after the known version. An item that is made may have had versions
    /// before that the device never saw, or no longer knows: it leaps beyond them, always as far for the same change.
    pub fn version(&self) -> u64 {
        let next = self.row.base.saturating_add(1);
        if self.over == Over::Known {
            return next;
        }
        let [a, b, c, ..] = self.row.op;
        next + u64::from(u32::from_be_bytes([0, a, b, c]))
    }
}

impl Engine {
    /// The next request, which has this row.
    pub(super) fn load(&mut self, first: Pending) -> Vec<Push> {
        self.next_request += 1;
        let mut is_full = !self.goes_along(&first);
        let mut pushes = vec![self.push(first)];
        while !is_full && pushes.len() < self.batch {
            is_full = !self.ready.front().is_some_and(|row| self.goes_along(row));
            let next = if is_full { None } else { self.ready.pop_front() };
            pushes.extend(next.map(|row| self.push(row)));
        }
        self.requests.insert(self.next_request, pushes.len());
        pushes
    }

    /// Whether the row may be in a request with others: it is new, and was not tried before.
    fn goes_along(&self, row: &Pending) -> bool {
        let is_new = row.base == 0 && row.item.is_some() && self.journals.contains(&row.model);
        let is_untried = |row: &Row| !row.is_known() && row.next.is_none();
        is_new && self.rows.get(&(row.model.clone(), row.key.clone())).is_none_or(is_untried)
    }

    fn push(&mut self, row: Pending) -> Push {
        let known = self.rows.get(&(row.model.clone(), row.key.clone())).and_then(|row| row.next);
        let over = known.unwrap_or(if row.base == 0 { Over::Nothing } else { Over::Known });
        self.next_id += 1;
        let push = Push { id: self.next_id, request: self.next_request, row: Arc::new(row), over };
        self.sent.insert(push.id, push.clone());
        push
    }
}
