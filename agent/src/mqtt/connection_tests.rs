#![allow(clippy::unwrap_used)]

use std::future::IntoFuture;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use bytes::BytesMut;

use super::*;
use crate::mqtt::packet::{ConnAck, PubAck};
use crate::mqtt::{self, QoS, Wait};

/// A broker for one client, on a thread of its own: it takes messages until the client leaves, acknowledges each by
/// itself, and says how many messages it took with how many reads.
fn broker() -> (u16, JoinHandle<(usize, usize)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || serve(&mut listener.accept().unwrap().0)))
}

fn serve(stream: &mut TcpStream) -> (usize, usize) {
    stream.set_nodelay(true).unwrap();
    let (mut input, mut chunk) = (BytesMut::new(), vec![0; 64 * 1024]);
    let (mut messages, mut reads) = (0, 0);
    loop {
        let count = stream.read(&mut chunk).unwrap();
        input.extend_from_slice(&chunk[..count]);
        reads += 1;
        while let Ok(packet) = Packet::read(&mut input, 1000) {
            let answer = match packet {
                Packet::Connect(_) => Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false)),
                Packet::Publish(publish) => {
                    messages += 1;
                    if publish.pkid == 0 {
                        continue;
                    }
                    Packet::PubAck(PubAck::new(publish.pkid))
                }
                Packet::Disconnect => return (messages, reads),
                other => panic!("{other:?}"),
            };
            let mut output = BytesMut::new();
            answer.write(&mut output, 1000).unwrap();
            stream.write_all(&output).unwrap();
        }
    }
}

/// Runs a client of the broker at the port.
fn with_client<T>(port: u16, work: impl AsyncFnOnce(&LocalExecutor<'_>, &mqtt::Client) -> T) -> T {
    let (client, connection) = mqtt::new(Options::new("127.0.0.1", port, "test").clean_session(true).inflight(100));
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let connection = executor.spawn(connection.run());
        client.publish("ready", "").await.unwrap();
        let result = work(&executor, &client).await;
        client.close();
        connection.await;
        result
    }))
}

#[test]
fn messages_that_nobody_waits_for_go_out_with_few_writes() {
    let (port, broker) = broker();
    with_client(port, async |_, client| {
        let publish = || client.publish("a/topic", "x".repeat(64)).qos(QoS::AtMostOnce);
        for _ in 1..5000 {
            publish().wait(Wait::None).await.unwrap();
        }
        publish().wait(Wait::Sent).await.unwrap();
    });
    let (messages, reads) = broker.join().unwrap();
    assert_eq!(messages, 5001);
    assert!(reads < 250, "{reads} reads of {messages} messages");
}

#[test]
fn a_full_window_is_not_moved_on_with_a_write_for_each_acknowledgement() {
    let (port, broker) = broker();
    with_client(port, async |executor, client| {
        let publish = |_| client.publish("a/topic", "x".repeat(64)).wait(Wait::Ack);
        let tasks: Vec<_> = (0..5000).map(publish).map(|publish| executor.spawn(publish.into_future())).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let (messages, reads) = broker.join().unwrap();
    assert_eq!(messages, 5001);
    assert!(reads < 1000, "{reads} reads of {messages} messages");
}
