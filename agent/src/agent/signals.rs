//! What the service manager or a person asks by a signal.

use std::io;

use async_signal::Signal;
use smol::stream::StreamExt;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM, SIGINT: end in order.
    Stop,
    /// SIGHUP: take over certificates and log levels.
    Reload,
}

/// The signals that were sent to us.
pub struct Signals(async_signal::Signals);

impl Signals {
    /// From here on the signals come here instead of ending the process.
    pub fn new() -> io::Result<Self> {
        async_signal::Signals::new([Signal::Term, Signal::Int, Signal::Hup]).map(Self)
    }

    /// Waits for the next wish.
    pub async fn next(&mut self) -> Wish {
        loop {
            match self.0.next().await {
                Some(Ok(Signal::Hup)) => return Wish::Reload,
                Some(Ok(_)) => return Wish::Stop,
                Some(Err(error)) => log::warn!("a signal could not be read: {error}"),
                None => std::future::pending().await,
            }
        }
    }
}
