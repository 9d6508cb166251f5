//! Messages and handlers.

use ioto::mqtt::{Client, Error, Message, Options, QoS};
use smol::channel;

use super::broker::{Broker, collect, failure, in_time, with_client};

#[test]
fn messages_go_both_ways_and_publishing_resolves_with_the_acknowledgement() {
    let broker = Broker::open();
    with_client(broker.options("both"), async |client: Client| {
        let mut subscriber = broker.subscriber("out", &[]).await;
        let incoming = collect(&client, "in/+").await;

        client.publish("out/a", "one").await.unwrap();
        client.publish("out/b", "two").qos(QoS::AtMostOnce).await.unwrap();
        assert_eq!(subscriber.next().await, "out/a 1 one");
        assert_eq!(subscriber.next().await, "out/b 0 two");

        broker.publish(&["-t", "in/x", "-m", "hello", "-q", "1"]).await;
        let message = in_time("message", incoming.recv()).await.unwrap();
        assert_eq!(message, Message::new("in/x", "hello", QoS::AtLeastOnce));

        let large = "x".repeat(128 * 1024);
        client.publish("in/large", large.clone()).await.unwrap();
        assert_eq!(in_time("large message", incoming.recv()).await.unwrap().payload, large);

        let state = client.state();
        assert_eq!((state.connected, state.sent, state.received, state.connects), (true, 3, 2, 1));
        assert_eq!((state.queued, state.in_flight, state.lost, state.subscriptions), (0, 0, 0, 1));
    });
}

#[test]
fn a_retained_message_is_kept_by_the_broker_and_told_apart() {
    let broker = Broker::open();
    with_client(broker.options("retained"), async |client: Client| {
        let message = Message { retain: true, ..Message::new("kept/1", "old", QoS::AtLeastOnce) };
        client.send(message.clone()).await.unwrap();
        let incoming = collect(&client, "kept/#").await;
        assert_eq!(in_time("retained message", incoming.recv()).await.unwrap(), message);
        client.unsubscribe("kept/#").await.unwrap();
        client.publish("kept/1", "new").await.unwrap();
        assert_eq!(client.state().subscriptions, 0);
        assert_eq!(incoming.recv().await, Err(channel::RecvError), "the handler is gone");
    });
}

#[test]
fn bad_requests_fail_at_once_even_without_a_broker() {
    with_client(Options::new("127.0.0.1", 1, "bad"), async |client: Client| {
        assert!(matches!(client.publish("a/#", "").await, Err(Error::Topic(_))));
        let large = vec![0; 200_000];
        assert!(matches!(client.publish("a", large).await, Err(Error::TooLarge { .. })));
        assert!(matches!(client.subscribe("a#", QoS::AtMostOnce, async |_| ()).await, Err(Error::Filter(_))));
        let reason = failure(&client).await;
        assert!(reason.contains("cannot connect to 127.0.0.1 port 1"), "{reason}");
    });
}

#[test]
fn handlers_wait_for_nobody_else_and_may_publish_themselves() {
    let broker = Broker::open();
    with_client(broker.options("handlers").inflight(3).queue(5), async |client: Client| {
        client.subscribe("stuck", QoS::AtLeastOnce, async |_| std::future::pending().await).await.unwrap();
        let replies = collect(&client, "reply").await;
        let echo = client.clone();
        let handler = async move |message: Message| {
            echo.publish("reply", message.payload).await.unwrap();
        };
        client.subscribe("ask", QoS::AtLeastOnce, handler).await.unwrap();
        client.publish("stuck", "never finished").await.unwrap();

        // Acknowledgements keep their order, so the unfinished message makes the broker stop after its window of 20.
        for n in 0..8 {
            client.publish("ask", n.to_string()).await.unwrap();
        }
        for n in 0..8 {
            assert_eq!(in_time("reply", replies.recv()).await.unwrap().payload, n.to_string());
        }
    });
}

#[test]
fn a_filter_may_have_two_handlers_and_handles_work_on_other_threads() {
    let broker = Broker::open();
    with_client(broker.options("two"), async |client: Client| {
        let handlers = [collect(&client, "t/+").await, collect(&client, "t/+").await];
        let elsewhere = std::thread::spawn(move || {
            smol::block_on(async {
                for n in 0..100 {
                    client.publish("t/1", n.to_string()).await.unwrap();
                }
            });
        });
        for n in 0..100 {
            for handler in &handlers {
                assert_eq!(in_time("message", handler.recv()).await.unwrap().payload, n.to_string());
            }
        }
        // The last acknowledgement may come after the message, and is taken here.
        smol::unblock(|| elsewhere.join()).await.unwrap();
    });
}
