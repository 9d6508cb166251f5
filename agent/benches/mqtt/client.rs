//! What `ci/bench mqtt` measures: publishes through the agent's client, and tells what it took.
//!
//! Usage: bench_mqtt PORT QOS MESSAGES BYTES WINDOW [OUTBOX]
//!
//! With OUTBOX, the name of a file, the messages are durable.

use std::collections::VecDeque;

use bytes::Bytes;
use ioto::mqtt::{self, Error, Options, QoS};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use smol::{LocalExecutor, Task};

/// Messages of QoS 0 that are under way to the socket.
const AHEAD: usize = 256;

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).take(5).filter_map(|word| word.parse().ok()).collect();
    let [port, qos, messages, bytes, window] = numbers[..] else {
        eprintln!("usage: bench_mqtt PORT QOS MESSAGES BYTES WINDOW [OUTBOX]");
        std::process::exit(2);
    };
    let level = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let ahead = if qos == 0 { AHEAD } else { window };
    let options = Options::new("127.0.0.1", port as u16, "bench-rust").clean_session(true).inflight(window as u16);
    let outbox = std::env::args().nth(6);
    let is_durable = outbox.is_some();
    let options = outbox.into_iter().fold(options, Options::outbox);
    let (client, connection) = match mqtt::open(options) {
        Ok(both) => both,
        Err(error) => {
            eprintln!("bench_mqtt: {error}");
            std::process::exit(1);
        }
    };
    let executor = LocalExecutor::new();
    let payload = Bytes::from(vec![b'x'; bytes]);
    let outcome: Result<f64, Error> = smol::block_on(executor.run(async {
        let connection = executor.spawn(connection.run());
        client.publish("bench/ready", "").await?;
        let before = cpu();
        let mut sending: VecDeque<Task<Result<(), Error>>> = VecDeque::with_capacity(ahead);
        for _ in 0..messages {
            if sending.len() >= ahead {
                if let Some(first) = sending.pop_front() {
                    first.await?;
                }
            }
            let (client, payload) = (client.clone(), payload.clone());
            sending.push_back(
                executor
                    .spawn(async move { client.publish("bench/topic", payload).qos(level).durable(is_durable).await }),
            );
        }
        for task in sending {
            task.await?;
        }
        let took = cpu() - before;
        client.close();
        connection.await;
        Ok(took)
    }));
    match outcome {
        Ok(took) => println!("{{\"cpu\": {took:.6}, \"rss\": {}}}", usage().max_rss()),
        Err(error) => {
            eprintln!("bench_mqtt: {error}");
            std::process::exit(1);
        }
    }
}

fn usage() -> Usage {
    getrusage(UsageWho::RUSAGE_SELF).expect("the kernel counts")
}

fn cpu() -> f64 {
    let used = usage();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(used.user_time()) + seconds(used.system_time())
}
