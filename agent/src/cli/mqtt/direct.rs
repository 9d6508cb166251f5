//! Over a connection of the command's own.

use std::collections::VecDeque;
use std::future::pending;
use std::ops::ControlFlow;
use std::time::Duration;

use ioto::mqtt::{self, Client, Options};
use smol::future::FutureExt;
use smol::{LocalExecutor, Task, Timer};

use super::super::output::complain;
use super::payloads::Payloads;
use super::{Failure, Publication, Subscription, timed_out};

/// Messages of `-l` that are under way at a time.
const WINDOW: usize = 100;

/// How often it is looked whether the first connection failed.
const LOOK: Duration = Duration::from_millis(20);

/// Publishes all payloads, and waits until the broker has them.
pub fn publish(options: Options, order: Publication, mut payloads: Payloads) -> Result<(), Failure> {
    let executor = LocalExecutor::new();
    let (timeout, debug) = (order.timeout, order.debug);
    run(&executor, options, timeout, debug, async |client| {
        let mut sending: VecDeque<Task<Result<(), mqtt::Error>>> = VecDeque::new();
        loop {
            let taken = payloads;
            let (payload, rest) = smol::unblock(move || {
                let mut payloads = taken;
                (payloads.next(), payloads)
            })
            .await;
            payloads = rest;
            let Some(payload) = payload? else { break };
            let (message, client) = (order.message(payload), client.clone());
            sending.push_back(executor.spawn(async move { client.send(message).await }));
            while sending.len() >= WINDOW || sending.front().is_some_and(Task::is_finished) {
                match sending.pop_front() {
                    Some(first) => first.await?,
                    None => break,
                }
            }
        }
        for task in sending {
            task.await?;
        }
        Ok(())
    })
}

/// Shows what comes.
pub fn subscribe(options: Options, mut order: Subscription) -> Result<(), Failure> {
    let executor = LocalExecutor::new();
    let (timeout, debug) = (order.timeout, order.debug);
    run(&executor, options, timeout, debug, async |client| {
        let (sender, messages) = smol::channel::bounded(WINDOW);
        for filter in &order.filters {
            let sender = sender.clone();
            let handler = async move |message| drop(sender.send(message).await);
            let granted = client.subscribe(filter, order.qos, handler).await?;
            if debug {
                complain(&format!("subscribed to {filter} with {granted:?}"));
            }
        }
        drop(sender);
        while let Ok(message) = messages.recv().await {
            if order.show(&message)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    })
}

/// Connects, does the work and says goodbye. A first connection that fails is an error; a later one is made again.
fn run(
    executor: &LocalExecutor<'_>,
    options: Options,
    timeout: Option<Duration>,
    debug: bool,
    work: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (client, connection) = mqtt::new(options);
    let too_late = async {
        match timeout {
            Some(timeout) => {
                Timer::after(timeout).await;
                Err(timed_out(timeout))
            }
            None => pending().await,
        }
    };
    smol::block_on(executor.run(async {
        let connection = executor.spawn(connection.run());
        let outcome = work(&client).or(first_failure(&client, debug)).or(too_late).await;
        client.close();
        connection.await;
        outcome
    }))
}

async fn first_failure(client: &Client, debug: bool) -> Result<(), Failure> {
    loop {
        let state = client.state();
        if state.connects > 0 {
            if debug {
                complain("connected");
            }
            return pending().await;
        }
        if let Some(error) = state.last_error {
            return Err(Failure(error));
        }
        Timer::after(LOOK).await;
    }
}
