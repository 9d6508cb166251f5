//! The session against a broker that forgets, repeats, delays, falls silent and hangs up, over links that break, with a
//! disk that fails, in an agent that is killed: seeded runs on a simulated clock.
//!
//! Checked in each run: a message of QoS 1 arrives at least once and one of QoS 2 exactly once, unless the application was
//! told that it was given up; first deliveries are in the order of publishing; what is said to be acknowledged has
//! arrived; no packet id is used twice at a time; what is received is acknowledged after it was handled and, with QoS 2,
//! handled once; queues, windows and notes keep their bounds; connections end for a reason; in the end nothing is left.
//!
//! A broker that forgets the session sets the messages of QoS 2 back that are on their way just then: these arrive at
//! least once.

#![allow(clippy::unwrap_used)]

pub(super) mod broker;
pub(super) mod nature;
mod store;
mod world;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use self::nature::{Counts, Published};
use self::world::World;
use super::broken::{Defect, break_session};
use super::outbox_file::OutboxFile;
use super::packet::{Packet, PubAck, WireQoS};
use super::session::{Action, Kept};
use super::{Message, QoS};

const RUNS: usize = 1000;

/// Runs in which a defect must show.
const DEFECT_RUNS: usize = 300;

/// One run from its beginning to the state in which everything was delivered.
fn run(seed: u64) -> World {
    live(World::new(seed))
}

fn live(mut world: World) -> World {
    let incoming = world.random.u32(..100);
    for index in 0..incoming {
        let qos = if world.random.bool() { WireQoS::AtLeastOnce } else { WireQoS::ExactlyOnce };
        world.broker.to_send.push_back((index, qos));
    }
    let qos_of: HashMap<u32, WireQoS> = world.broker.to_send.iter().copied().collect();
    for _ in 0..world.random.usize(100..1200) {
        world.step(false);
    }
    let connects = world.counts.connects;
    for _ in 0..200_000 {
        if world.is_settled() {
            break;
        }
        world.step(true);
    }
    assert!(world.is_settled(), "something is stuck: {:?} {:?}", world.nature, world.session);
    assert_eq!(world.rest(), 0, "something is left on the disk");
    let calm = world.counts.connects - connects;
    assert!(world.nature.bytes.is_some() || calm <= 2, "{calm} connections although nothing was wrong");
    check_deliveries(&world);
    assert!(world.wanted.is_subset(&world.broker.subscribed));
    if world.broker.to_send.is_empty() {
        check_received(&world, incoming, &qos_of);
    }
    world
}

fn check_deliveries(world: &World) {
    let mut arrived: HashMap<u32, usize> = HashMap::new();
    let mut last: HashMap<&str, u32> = HashMap::new();
    for &index in &world.broker.arrived {
        let times = arrived.entry(index).or_default();
        *times += 1;
        if *times == 1 {
            let lane = world.published[index as usize].lane.as_str();
            let before = last.insert(lane, index);
            assert!(before.is_none_or(|before| before < index), "{index} came after {before:?} on {lane}");
        }
    }
    for (index, published) in world.published.iter().enumerate() {
        let times = arrived.get(&(index as u32)).copied().unwrap_or(0);
        let Published { qos, is_uncertain, may_repeat, failed, .. } = published;
        assert!(times > 0 || *is_uncertain || failed.is_some(), "{index} is lost: {published:?}");
        assert!(times <= 1 || *qos == QoS::AtLeastOnce || *may_repeat, "{index} came {times} times: {published:?}");
    }
}

fn check_received(world: &World, incoming: u32, qos_of: &HashMap<u32, WireQoS>) {
    assert_eq!(world.handled.len(), incoming as usize, "received messages are lost");
    for (index, times) in &world.handled {
        let is_exact = qos_of[index] == WireQoS::ExactlyOnce && !world.sent_again.contains(index);
        assert!(*times == 1 || !is_exact, "the received message {index} was handled {times} times");
    }
}

#[test]
fn no_fault_and_no_kill_loses_repeats_or_reorders_a_message() {
    let seed = super::test_seed();
    let mut random = Rng::with_seed(seed);
    let (mut sum, mut messages, mut repeats, mut exact) = (Counts::default(), 0, 0, 0);
    for run_number in 0..RUNS {
        let run_seed = if run_number == 0 { seed } else { random.u64(..) };
        println!("run {run_number}: SEED={run_seed}");
        let world = run(run_seed);
        let Counts { kills, connects, cuts, losses, malformed } = world.counts;
        sum.kills += kills;
        sum.connects += connects;
        sum.cuts += cuts;
        sum.losses += losses;
        sum.malformed += malformed;
        messages += world.published.len();
        repeats += world.broker.repeats;
        exact += world.published.iter().filter(|p| p.qos == QoS::ExactlyOnce && !p.may_repeat).count();
    }
    println!("{messages} messages ({exact} to be taken exactly once), {repeats} repeats, {sum:?}");
    assert!(messages > RUNS * 20 && repeats > RUNS && exact > RUNS * 20, "the faults were not there");
    assert!(sum.kills > RUNS && sum.losses > RUNS && sum.cuts > RUNS && sum.malformed > RUNS / 4, "{sum:?}");
}

#[test]
fn a_real_file_keeps_the_same_as_the_disk_in_memory() {
    let seed = super::test_seed();
    let mut random = Rng::with_seed(seed);
    let path = std::env::temp_dir().join(format!("core-simulation-{}-{seed:x}", std::process::id()));
    let mut kills = 0;
    for _ in 0..40 {
        let run_seed = random.u64(..);
        println!("SEED={run_seed}");
        let mut world = World::new(run_seed);
        if world.nature.has_disk {
            world.file = Some(OutboxFile::open(&path.join("outbox")).unwrap().0);
            let world = live(world);
            kills += world.counts.kills;
            drop(world);
            let (_, kept) = OutboxFile::open(&path.join("outbox")).unwrap();
            assert_eq!(kept, Kept::default());
        }
    }
    std::fs::remove_dir_all(&path).unwrap();
    assert!(kills > 40, "{kills}");
}

#[test]
fn each_defect_of_the_session_is_found() {
    let seed = super::test_seed();
    for defect in Defect::ALL {
        let mut random = Rng::with_seed(seed);
        break_session(Some(defect));
        let found = (0..DEFECT_RUNS).find(|_| {
            let run_seed = random.u64(..);
            catch_unwind(AssertUnwindSafe(|| run(run_seed))).is_err()
        });
        break_session(None);
        assert!(found.is_some(), "{defect:?} was not found in {DEFECT_RUNS} runs, SEED={seed}");
        println!("{defect:?} was found in run {}", found.unwrap_or_default());
    }
}

#[test]
fn the_ids_wrap_around_past_65535_with_some_always_in_flight() {
    let seed = super::test_seed();
    let mut world = World::new(seed);
    world.connect();
    let mut unacknowledged = VecDeque::new();
    let mut count = 0u32;
    while count < 140_000 {
        if world.session.publish(Message::new("t", "", QoS::AtLeastOnce), world.now).is_ok() {
            count += 1;
        }
        while let Some(action) = world.session.poll(world.now) {
            if let Action::Send(Packet::Publish(publish)) = action {
                assert!(publish.pkid != 0 && !unacknowledged.contains(&publish.pkid), "SEED={seed}");
                unacknowledged.push_back(publish.pkid);
            }
        }
        // The first one is answered very late, so that the numbers come around to it.
        let late = usize::from(count % 70_000 != 0);
        if unacknowledged.len() > late && world.random.u8(..4) > 0 {
            let pkid = unacknowledged.remove(world.random.usize(late..unacknowledged.len())).unwrap();
            world.session.received(Packet::PubAck(PubAck { pkid }), world.now).unwrap();
        }
        if unacknowledged.len() == 1 && world.session.queued() > 0 {
            let pkid = unacknowledged.pop_front().unwrap();
            world.session.received(Packet::PubAck(PubAck { pkid }), world.now).unwrap();
        }
    }
}
