//! The MQTT client beside real brokers: mosquitto over every transport, a broker of another make, what stands in between,
//! and the commands `ioto mqtt pub` and `ioto mqtt sub`.

mod brokers;
mod commands;
mod front;
mod networks;
mod queues;

use std::future::IntoFuture;
use std::time::Duration;

use ioto::mqtt::{self, Client, Message, Options, QoS};
use smol::future::FutureExt;
use smol::{LocalExecutor, Timer, channel};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs a test with a client whose connection is kept up meanwhile, and ends it in order.
fn with_client<T>(options: Options, test: impl AsyncFnOnce(Client) -> T) -> T {
    let fast = Duration::from_millis(100);
    let (client, connection) = mqtt::new(options.backoff(fast, fast));
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let connection = executor.spawn(connection.run());
        let result = test(client.clone()).await;
        client.close();
        in_time("the end of the connection", connection).await;
        result
    }))
}

async fn in_time<T>(what: &str, future: impl IntoFuture<Output = T>) -> T {
    let too_late = async {
        Timer::after(LIMIT).await;
        panic!("not within {LIMIT:?}: {what}")
    };
    future.into_future().or(too_late).await
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            Timer::after(Duration::from_millis(10)).await;
        }
    };
    in_time(what, waiting).await;
}

/// Subscribes and collects what comes.
async fn collect(client: &Client, filter: &str, qos: QoS) -> channel::Receiver<Message> {
    let (sender, messages) = channel::unbounded();
    let handler = async move |message| sender.send(message).await.expect("the test takes messages");
    in_time("the subscription", client.subscribe(filter, qos, handler)).await.expect("the broker grants it");
    messages
}

async fn next(messages: &channel::Receiver<Message>) -> Message {
    in_time("a message", messages.recv()).await.expect("the handler lives")
}
