//! Signatures of an API: what a request may say, what its answer may tell, and to whom.
//!
//! `model` is what a file of signatures means, `load` reads one, `check` holds a value against a block of it, `text` turns the
//! texts of forms and queries into values, `measure` refuses bodies that are too much work. `step` is what stands before and
//! behind an action.

mod check;
mod load;
mod measure;
mod model;
mod step;
mod text;

#[cfg(test)]
mod generated;

pub use self::load::check_signatures;
pub(super) use self::load::knows;
pub(super) use self::model::Signatures;
pub(super) use self::step::{Validation, enter};
