//! Who gets a received message: handlers, each with its own queue and task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use smol::channel::{Receiver, Sender, unbounded};

use super::session::{Receipt, RequestId};
use super::shared::Shared;
use super::topic;
use super::{Error, Message};

/// The handlers and their filters. A message goes to every handler whose filter takes it; each handles one message after
/// the other, in the order of arrival, and none waits for another.
#[derive(Default)]
pub(super) struct Handlers {
    routes: Vec<Route>,
    starts: Vec<Start>,
}

/// Handlers at most, so that a caller in a loop cannot fill the memory.
const LIMIT: usize = 256;

/// Makes the task of a handler. It is made on the thread that runs the connection, as its future need not be `Send`.
type Start = Box<dyn FnOnce() -> Task + Send>;

/// Handles messages until the route to it is gone and its queue is empty.
pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Route {
    request: RequestId,
    /// What the broker was asked for.
    at_broker: String,
    /// What the handler gets of it.
    filter: String,
    queue: Sender<Delivery>,
}

/// One message for one handler.
struct Delivery {
    message: Message,
    finish: Arc<Finish>,
}

/// Tells the session when the last handler has finished a message.
struct Finish {
    shared: Arc<Shared>,
    receipt: Receipt,
}

impl Handlers {
    /// Whether there may be one more.
    pub fn check_room(&self) -> Result<(), Error> {
        if self.routes.len() < LIMIT { Ok(()) } else { Err(Error::TooManySubscriptions(LIMIT)) }
    }

    /// Adds the handler of a subscription. Messages queue up for it at once; [`start`](Self::start) gives its task.
    pub fn add(
        &mut self,
        request: RequestId,
        at_broker: &str,
        filter: &str,
        handler: impl AsyncFnMut(Message) + Send + 'static,
    ) {
        // The bound is the session's: it holds 128 messages at most, and each is once in a queue.
        let (queue, deliveries) = unbounded();
        self.routes.push(Route { request, at_broker: at_broker.into(), filter: filter.into(), queue });
        self.starts.push(Box::new(move || Box::pin(handle(deliveries, handler))));
    }

    /// The tasks of handlers that were added since the last call.
    pub fn start(&mut self) -> impl Iterator<Item = Task> + '_ {
        self.starts.drain(..).map(|start| start())
    }

    /// The broker refused the subscription.
    pub fn refused(&mut self, request: RequestId) {
        self.routes.retain(|route| route.request != request);
    }

    /// The subscription is over; what was queued is still handled.
    pub fn unsubscribed(&mut self, filter: &str) {
        self.routes.retain(|route| route.at_broker != filter);
    }

    /// The handler of one subscription goes away. Gives the filter when it was the last one of that.
    pub fn leave(&mut self, request: RequestId) -> Option<String> {
        let index = self.routes.iter().position(|route| route.request == request)?;
        let filter = self.routes.remove(index).at_broker;
        self.routes.iter().all(|route| route.at_broker != filter).then_some(filter)
    }

    /// Queues a message for its handlers. Gives the receipt back when there is none.
    pub fn deliver(&self, receipt: Receipt, message: Message, shared: &Arc<Shared>) -> Option<Receipt> {
        let finish = Arc::new(Finish { shared: shared.clone(), receipt });
        for route in self.routes.iter().filter(|route| topic::matches(&route.filter, &message.topic)) {
            let delivery = Delivery { message: message.clone(), finish: finish.clone() };
            // It fails only when the connection is at its end.
            route.queue.try_send(delivery).ok();
        }
        Arc::into_inner(finish).map(|unhandled| unhandled.receipt)
    }
}

async fn handle(deliveries: Receiver<Delivery>, mut handler: impl AsyncFnMut(Message)) {
    while let Ok(Delivery { message, finish }) = deliveries.recv().await {
        handler(message).await;
        if let Some(Finish { shared, receipt }) = Arc::into_inner(finish) {
            shared.finished(receipt);
        }
    }
}
