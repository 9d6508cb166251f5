//! What `ci/bench mqtt` measures: publishes through the agent's client, and tells what it took.
//!
//! Usage: bench_mqtt PORT QOS MESSAGES BYTES WINDOW [OUTBOX]
//!
//! With OUTBOX, the name of a file, the messages are durable.

use std::collections::VecDeque;
use std::future::IntoFuture;

use bytes::Bytes;
use ioto::mqtt::{self, Client, Error, Options, QoS, Wait};
use nix::sys::resource::{UsageWho, getrusage};
use smol::{LocalExecutor, Task};

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).take(5).filter_map(|word| word.parse().ok()).collect();
    let [port, qos, messages, bytes, window] = numbers[..] else {
        eprintln!("usage: bench_mqtt PORT QOS MESSAGES BYTES WINDOW [OUTBOX]");
        std::process::exit(2);
    };
    let level = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
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
    let outcome: Result<(f64, u64), Error> = smol::block_on(executor.run(async {
        let connection = executor.spawn(connection.run());
        client.publish("bench/ready", "").await?;
        let before = cpu();
        match level {
            QoS::AtMostOnce => unanswered(&client, messages, &payload).await?,
            _ => windowed(&executor, &client, messages, &payload, (window, is_durable)).await?,
        }
        // Before the end of the connection, as libmosquitto's is measured.
        let figures = (cpu() - before, memory());
        client.close();
        connection.await;
        Ok(figures)
    }));
    match outcome {
        Ok((took, memory)) => println!("{{\"cpu\": {took:.6}, \"rss\": {memory}}}"),
        Err(error) => {
            eprintln!("bench_mqtt: {error}");
            std::process::exit(1);
        }
    }
}

/// QoS 0, as a program sends that waits for nothing but room in the queue.
async fn unanswered(client: &Client, messages: usize, payload: &Bytes) -> Result<(), Error> {
    let publish = || client.publish("bench/topic", payload.clone()).qos(QoS::AtMostOnce);
    for _ in 1..messages {
        publish().wait(Wait::None).await?;
    }
    publish().wait(Wait::Sent).await
}

/// QoS 1, with so many messages under way.
async fn windowed<'a>(
    executor: &LocalExecutor<'a>,
    client: &Client,
    messages: usize,
    payload: &Bytes,
    (window, is_durable): (usize, bool),
) -> Result<(), Error> {
    let mut sending: VecDeque<Task<Result<(), Error>>> = VecDeque::with_capacity(window);
    for _ in 0..messages {
        if sending.len() >= window {
            if let Some(first) = sending.pop_front() {
                first.await?;
            }
        }
        let (client, payload) = (client.clone(), payload.clone());
        let publish = client.publish("bench/topic", payload).qos(QoS::AtLeastOnce).durable(is_durable);
        sending.push_back(executor.spawn(publish.into_future()));
    }
    for task in sending {
        task.await?;
    }
    Ok(())
}

/// The most memory so far, in KB. (What getrusage says counts what the parent had before exec.)
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn cpu() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_SELF).expect("the kernel counts");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(used.user_time()) + seconds(used.system_time())
}
