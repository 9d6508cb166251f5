//! Functions bound to URLs.

use std::future::Future;
use std::pin::Pin;

use super::{Error, Exchange};

/// What a request to an action's URL runs. Every `async` closure or function `(&mut Exchange) -> Result<(), Error>` that may be
/// shared by threads is one. Its future stays on the thread of its connection and need not be `Send`.
pub trait Action: Send + Sync + 'static {
    /// Serves one request.
    fn call<'a>(&'a self, exchange: &'a mut Exchange) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;
}

impl<F> Action for F
where
    F: AsyncFn(&mut Exchange) -> Result<(), Error> + Send + Sync + 'static,
{
    fn call<'a>(&'a self, exchange: &'a mut Exchange) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>> {
        Box::pin(self(exchange))
    }
}
