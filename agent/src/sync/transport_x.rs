//! x
use super::answer::Answer;
use super::engine::Push;
use std::future::Future;
/// A way
pub trait Transport {
    /// Sends
    fn push(&self, push: Push) -> impl Future<Output = Answer>;
}
