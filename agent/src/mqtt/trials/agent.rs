//! The agent: the whole client with an application, killed at any instant.

use std::cell::Cell;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use smol::channel::Receiver;
use smol::future::{FutureExt, poll_once};
use smol::{LocalExecutor, Timer};

use super::disk::{Disk, Gate};
use super::world::World;
use crate::mqtt::client::resume;
use crate::mqtt::session::Kept;
use crate::mqtt::simulation::broker::number;
use crate::mqtt::simulation::nature::payload;
use crate::mqtt::{self, Client, Message, Priority, QoS, Wait};

/// A life in which nothing brings the end ends after so long.
const LIFETIME: Duration = Duration::from_millis(250);

pub struct Agent<'a> {
    pub world: Arc<Mutex<World>>,
    pub directory: &'a Path,
    pub port: u16,
    pub deaths: Receiver<()>,
    /// Polls of the connection.
    pub polls: Rc<Cell<u64>>,
}

impl Agent<'_> {
    /// Lives and dies as often as is due; the last life ends in peace, with nothing left.
    pub async fn run(&self) {
        let (kills, has_disk, mut random) = {
            let mut world = self.world.lock().unwrap();
            (world.nature.kills, world.nature.has_disk, world.random.fork())
        };
        for life in 0..=kills {
            let disk = has_disk.then(|| Disk::open(self.directory, life, &self.world));
            self.live(disk.as_ref(), life, &mut random, life == kills).await;
        }
        if has_disk {
            let (disk, mut kept) = Disk::open(self.directory, kills, &self.world);
            if self.world.lock().unwrap().nature.is_unseen {
                // Ids of a session that the client does not know to be over.
                kept.received.clear();
            }
            assert_eq!(kept, Kept::default(), "something is left on the disk");
            disk.close();
        }
    }

    async fn live(&self, disk: Option<&(Arc<Disk>, Kept)>, life: usize, random: &mut Rng, is_last: bool) {
        let options = self.world.lock().unwrap().nature.options(self.port);
        let (client, connection) = match disk {
            None => mqtt::new(options),
            Some((disk, kept)) => {
                self.world.lock().unwrap().starts(kept);
                resume(options, Box::new(Gate(disk.clone())), kept.clone()).unwrap()
            }
        };
        let executor = LocalExecutor::new();
        let running = executor.spawn(counted(connection.run(), self.polls.clone()));
        executor.spawn(subscribe(client.clone(), self.world.clone(), random.fork())).detach();
        let application = self.work(&client, &executor, random.fork(), is_last);
        if is_last {
            executor.run(application).await;
            client.close();
            executor.run(running).await;
            disk.iter().for_each(|(disk, _)| disk.close());
            return;
        }
        {
            let mut world = self.world.lock().unwrap();
            world.kill_in = Some(random.u32(1..250));
        }
        let death = async {
            let old_age = async {
                Timer::after(LIFETIME).await;
                Ok(())
            };
            self.deaths.recv().or(old_age).await.unwrap();
        };
        executor.run(death.or(application)).await;
        let given_up = client.state().dropped;
        disk.iter().for_each(|(disk, _)| disk.freeze(self.directory, life + 1));
        let mut world = self.world.lock().unwrap();
        world.killed();
        while self.deaths.try_recv().is_ok() {}
        world.given_up.push(given_up);
    }

    /// Publishes; in the last life until everything has arrived, in the others until death.
    async fn work<'b>(&self, client: &Client, executor: &LocalExecutor<'b>, mut random: Rng, is_last: bool) {
        let nature = self.world.lock().unwrap().nature;
        let mut tasks = Vec::new();
        for _ in 0..nature.share {
            let qos = if random.bool() { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            let priority = random.choice(Priority::ALL).unwrap();
            let wait = [Wait::Ack, Wait::Ack, Wait::Ack, Wait::None, Wait::None, Wait::Sent][random.usize(..6)];
            let (lane, is_durable) = (format!("t/{}/{qos:?}/{priority:?}", random.u8(..3)), random.bool());
            let index = self.world.lock().unwrap().publish(lane.clone(), qos);
            let message = Message::new(lane, payload(index), qos);
            let publish = client.send(message).durable(is_durable).priority(priority).wait(wait);
            let is_stored = nature.has_disk && (is_durable || qos == QoS::ExactlyOnce) && wait == Wait::None;
            let world = self.world.clone();
            let mut publishing = Box::pin(async move {
                let result = publish.await;
                world.lock().unwrap().told(index, result, wait == Wait::Ack, is_stored);
            });
            // It is queued before the next one, or has its place in the line.
            if poll_once(&mut publishing).await.is_none() {
                tasks.push(executor.spawn(publishing));
            }
            check_bounds(client, &nature);
            if random.u8(..3) > 0 {
                Timer::after(Duration::from_micros(random.u64(..4000))).await;
            }
        }
        if !is_last {
            return std::future::pending().await;
        }
        Timer::after(Duration::from_micros(random.u64(..100_000))).await;
        self.world.lock().unwrap().is_calm = true;
        while !self.is_settled(client) {
            check_bounds(client, &nature);
            Timer::after(Duration::from_millis(2)).await;
        }
        for task in tasks {
            task.await;
        }
        self.world.lock().unwrap().given_up.push(client.state().dropped);
    }

    fn is_settled(&self, client: &Client) -> bool {
        let state = client.state();
        let world = self.world.lock().unwrap();
        let broker = &world.broker;
        state.queued + state.in_flight == 0
            && state.subscriptions == 1
            && broker.subscribed.len() == 1
            && broker.outgoing.is_empty()
            && broker.to_send.is_empty()
            && broker.answers.is_empty()
    }
}

/// Handles what arrives.
async fn subscribe(client: Client, world: Arc<Mutex<World>>, mut random: Rng) {
    let handling = world.lock().unwrap().nature.handling;
    let handler = async move |message: Message| {
        if random.bool() {
            Timer::after(Duration::from_micros(random.u64(..handling))).await;
        }
        world.lock().unwrap().finish(number(&message.payload));
    };
    // It ends with the agent.
    let _ = client.subscribe("in", QoS::ExactlyOnce, handler).await;
}

fn check_bounds(client: &Client, nature: &super::Nature) {
    let state = client.state();
    let window = usize::from(nature.window);
    for queued in state.queued_by_priority {
        // What was kept may have been in flight before a kill.
        let bound = nature.queue.count + if nature.kills > 0 { window } else { 0 };
        assert!(queued <= bound, "the queue has no bound: {queued}");
    }
    assert!(state.in_flight <= window, "the window has no bound");
    assert!(client.shared.lock().session.notes() <= 2000, "the memory has no bound");
}

/// Counts how often a future is polled.
async fn counted<T>(future: impl Future<Output = T>, polls: Rc<Cell<u64>>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        polls.set(polls.get() + 1);
        future.as_mut().poll(cx)
    })
    .await
}
