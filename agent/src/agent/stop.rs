//! Asking a service to end.

use smol::channel::{Receiver, Sender, bounded};

/// The end that asks. Dropping it asks too.
#[derive(Debug)]
pub struct Stopper(Sender<()>);

/// The end that a service watches.
#[derive(Clone, Debug)]
pub struct Stop(Receiver<()>);

/// A pair of both ends.
pub fn pair() -> (Stopper, Stop) {
    // Nothing is ever sent: the news is that the channel is closed, and every clone hears it.
    let (sender, receiver) = bounded(1);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Asks the service to end.
    pub fn stop(&self) {
        self.0.close();
    }
}

impl Stop {
    /// Resolves when the service shall end.
    pub async fn requested(&self) {
        let _ = self.0.recv().await;
    }

    /// Whether the service shall end.
    pub fn is_requested(&self) -> bool {
        self.0.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_hears_it_even_when_the_asking_end_is_dropped() {
        let (stopper, stop) = pair();
        let second = stop.clone();
        assert!(!stop.is_requested());
        drop(stopper);
        smol::block_on(second.requested());
        assert!(stop.is_requested());
    }
}
