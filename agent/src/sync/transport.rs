//! How a push reaches the cloud.

use std::future::Future;

use super::answer::Answer;
use super::engine::Push;

/// A way to the cloud. Several pushes are on the way at a time, of different rows.
pub trait Transport {
    /// Sends a row and says what became of it. Every push ends in an answer after a bounded time; what is not known is
    /// [`Answer::Failed`]. Dropping the future gives the request up; it may arrive all the same.
    fn push(&self, push: Push) -> impl Future<Output = Answer>;
}
