//! How many messages may be without an acknowledgement on a connection.

/// The window, which begins small on a link that has just proven bad.
///
/// A link that breaks after each kilobyte brings 50 messages never all the way: each connection would begin with the
/// same ones, and break before an acknowledgement of the first comes back. So a connection begins with as many as were
/// acknowledged on the one before, one at least, and each acknowledgement allows one more: twice as many in each round
/// trip, as in TCP.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    allowed: usize,
    /// On this connection.
    acknowledged: usize,
}

impl Window {
    pub fn new(size: usize) -> Self {
        Self { size, allowed: size, acknowledged: 0 }
    }

    /// Messages that may be in flight in all.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Messages that may be on this connection without an acknowledgement.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// Whether nothing was acknowledged since the connection began.
    pub fn is_fruitless(&self) -> bool {
        self.acknowledged == 0
    }

    pub fn acknowledged(&mut self) {
        self.acknowledged += 1;
        self.allowed = (self.allowed + 1).min(self.size);
    }

    /// The connection broke with or without messages on their way.
    pub fn disconnected(&mut self, were_on_their_way: bool) {
        self.allowed = if were_on_their_way { self.acknowledged.clamp(1, self.size) } else { self.size };
        self.acknowledged = 0;
    }
}
