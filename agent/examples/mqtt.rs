//! Subscribes with a handler and publishes with acknowledgement, while other work goes on.
//!
//! ```text
//! cargo run --example mqtt -- mqtt://localhost:1883
//! ```

use std::process::ExitCode;
use std::time::Duration;

use ioto::mqtt::{self, Message, Options, QoS};
use smol::{LocalExecutor, Timer, channel};

fn main() -> ExitCode {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: mqtt URL, as in mqtt://localhost:1883");
        return ExitCode::from(2);
    };
    match run(&url) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(url: &str) -> Result<(), mqtt::Error> {
    let client_id = format!("ioto-example-{}", std::process::id());
    let (client, connection) = mqtt::new(Options::from_url(url, client_id)?);

    let executor = LocalExecutor::new();
    let connection = executor.spawn(connection.run());
    executor.spawn(blink()).detach();

    smol::block_on(executor.run(async {
        let (handled, next) = channel::bounded(1);
        let granted = client
            .subscribe("ioto-example/wish/#", QoS::AtLeastOnce, async move |message: Message| {
                // A slow handler holds up nothing but its own next message.
                Timer::after(Duration::from_millis(50)).await;
                println!("received {}: {}", message.topic, String::from_utf8_lossy(&message.payload));
                handled.send(()).await.ok();
            })
            .await?;
        println!("subscribed, granted {granted:?}");

        for celsius in 20..25 {
            client.publish("ioto-example/wish/temperature", celsius.to_string()).await?;
            println!("the broker has {celsius}");
        }
        for _ in 20..25 {
            next.recv().await.ok();
        }
        println!("sent {}, received {}", client.state().sent, client.state().received);

        client.close();
        connection.await;
        Ok(())
    }))
}

/// Some other work of the same program, on the same thread.
async fn blink() {
    loop {
        println!("blink");
        Timer::after(Duration::from_millis(20)).await;
    }
}
