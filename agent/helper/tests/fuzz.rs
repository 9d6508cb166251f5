//! Random frames against the running program: it does not end, keeps no descriptors, and still answers. `IOTO_HELPER_FUZZ` is the time in
//! seconds (3 when not said), `SEED` repeats a run.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use support::{Device, able};

const SEEDS: [&str; 9] = [
    r#"{"version":1,"verb":"ping"}"#,
    r#"{"version":1,"verb":"restart"}"#,
    r#"{"version":1,"verb":"hostname","name":"pump-7"}"#,
    r#"{"version":1,"verb":"time","ms":1790000000000}"#,
    r#"{"version":1,"verb":"zone","zone":"Europe/Berlin"}"#,
    r#"{"version":1,"verb":"install","bundle":"a.raucb"}"#,
    r#"{"version":1,"verb":"mark","slot":"A","as":"good"}"#,
    r#"{"version":1,"verb":"network","interface":"eth0","ip":{"address":"10.0.0.2/8","gateway":"10.0.0.1","dns":["10.0.0.1"]}}"#,
    r#"{"version":1,"verb":"network","interface":"wlan0","ip":"dhcp","wifi":{"ssid":"a","passphrase":"secret123"}}"#,
];

#[test]
fn random_frames_do_no_harm() {
    if !able() {
        return;
    }
    let text = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    let seed = text("SEED").unwrap_or_else(|| fastrand::u64(..));
    let time = Duration::from_secs(text("IOTO_HELPER_FUZZ").unwrap_or(3));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let device = Device::new();
    for name in ["bin/rauc", "sbin/ifup", "sbin/ifdown", "lib/ioto/update.d/install", "lib/ioto/update.d/mark"] {
        device.fake(name, "exit 0");
    }
    let mut device = device.serve();
    let descriptors = |device: &Device| fs::read_dir(format!("/proc/{}/fd", device.pid())).unwrap().count();
    device.done("ping", "{}");
    let (begin, before, mut count) = (Instant::now(), descriptors(&device), 0u64);
    while begin.elapsed() < time {
        let bytes = frame(&mut random);
        let mut stream = device.connect().unwrap_or_else(|| panic!("gone after {count} frames"));
        let _ = stream.write_all(&bytes);
        // Most end properly, some just go.
        if random.u8(..) > 20 {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
            let _ = stream.read(&mut [0; 4096]);
        }
        count += 1;
        assert!(device.ended().is_none(), "it ended after {count} frames");
    }
    device.wait_for("an answer, and its descriptors", |device| {
        device.ask("ping", "{}").0 && descriptors(device) <= before + 1
    });
    println!("{count} frames in {} s, {before} descriptors before, {} after", time.as_secs(), descriptors(&device));
}

fn frame(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut payload = SEEDS[random.usize(..SEEDS.len())].as_bytes().to_vec();
    for _ in 0..random.usize(0..6) {
        let at = random.usize(0..=payload.len());
        match random.u8(0..5) {
            0 => payload.insert(at, random.u8(..)),
            1 if at < payload.len() => payload[at] = random.u8(..),
            2 if at < payload.len() => drop(payload.remove(at)),
            3 => payload.truncate(at),
            _ => {
                let end = (at + random.usize(0..40)).min(payload.len());
                let copy = payload[at..end].to_vec();
                payload.splice(at..at, copy);
            }
        }
    }
    let length = if random.u8(0..10) == 0 { random.u32(..) >> random.u32(0..32) } else { payload.len() as u32 };
    [length.to_be_bytes().as_slice(), payload.as_slice()].concat()
}
