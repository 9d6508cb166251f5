//! Messages of a filter for one who asks for them, until he goes away.

use std::fmt;

use smol::channel::{Receiver, bounded};

use super::session::RequestId;
use super::{Client, Error, Message, QoS};

/// Messages that wait to be taken; the broker is held back beyond them.
const ROOM: usize = 64;

/// Takes the messages of a filter one after the other. Dropped, its subscription ends, unless others have the same filter.
pub struct Listener {
    client: Client,
    request: RequestId,
    messages: Receiver<Message>,
}

impl Client {
    /// As [`subscribe`](Self::subscribe), and gives the messages to [`Listener::next`]; resolves once the broker has answered.
    ///
    /// Errors: those of [`subscribe`](Self::subscribe).
    pub async fn listen(&self, filter: &str, qos: QoS) -> Result<(Listener, QoS), Error> {
        let (sender, messages) = bounded(ROOM);
        let handler = async move |message| drop(sender.send(message).await);
        let request = self.ask_for(filter, qos, handler)?;
        // From here on the subscription ends also when the caller does not wait for the answer.
        let listener = Listener { client: self.clone(), request, messages };
        let granted = self.answer(request).await?;
        Ok((listener, granted))
    }
}

impl Listener {
    /// The next message; nothing when the connection has ended for good. It may be dropped while it waits.
    pub async fn next(&self) -> Option<Message> {
        self.messages.recv().await.ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.messages.close();
        self.client.leave(self.request);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}
