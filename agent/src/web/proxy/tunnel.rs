//! WebSockets to a program: after its 101 the bytes are none of our business.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use super::call::{Bell, Call, patience};
use super::fault::{Failure, Fault};
use super::headers;
use super::pump::{Pump, Side};
use crate::config::FOREVER;
use crate::http1::{ResponseHead, Version, encode_field, encode_status_line};
use crate::web::transfer::{Stage, Wire};
use crate::web::{Error, Exchange};

/// Passes the answer on, and then all bytes in both directions until both sides have ended, or nothing moves for
/// `web.timeouts.inactivity`.
pub(super) async fn run(
    exchange: &mut Exchange,
    mut call: Call,
    head: &ResponseHead,
    is_wanted: bool,
) -> Result<(), Failure> {
    let is_websocket =
        head.headers.has_token("upgrade", "websocket") && head.headers.has_token("connection", "upgrade");
    if !is_wanted || !is_websocket || !call.is_sent {
        return Err(Fault::Switched.into());
    }
    let inactivity = exchange.shared.settings.timeouts.inactivity;
    let fields = headers::switched(exchange, head);
    let client = exchange.transfer.get_mut();
    write_head(&fields, &mut client.link.output)?;
    client.begin(Stage::Upgraded(Wire::Partial));
    client.link.live(inactivity);
    client.link.whole().set(Instant::now() + FOREVER);
    client.link.flush().await.map_err(Error::Io)?;
    call.program.get_mut().link.set_patience(patience(inactivity));

    let exchange = &*exchange;
    let (client, program) = (&exchange.transfer, &call.program);
    let (mut up, mut down) = (Some(Pump::default()), Some(Pump::default()));
    let bell = Bell::new(exchange);
    poll_fn(|cx| {
        for (pump, from, to) in [(&mut up, client, program), (&mut down, program, client)] {
            match pump.as_mut().map(|pump| pump.poll_raw(cx, from, to)) {
                Some(Poll::Ready(Ok(()))) => *pump = None,
                Some(Poll::Ready(Err(Side::From(error) | Side::To(error)))) => {
                    return Poll::Ready(Err(Failure::Client(error.into())));
                }
                Some(Poll::Pending) | None => {}
            }
        }
        if up.is_none() && down.is_none() {
            return Poll::Ready(Ok(()));
        }
        bell.poll(cx, exchange).map(Err)
    })
    .await?;
    exchange.transfer.borrow_mut().begin(Stage::Upgraded(Wire::Closed));
    Ok(())
}

fn write_head(fields: &crate::http1::Headers, out: &mut Vec<u8>) -> Result<(), Failure> {
    encode_status_line(Version::Http11, 101, out)?;
    encode_field("Upgrade", "websocket", out)?;
    encode_field("Connection", "Upgrade", out)?;
    for (name, value) in fields.iter() {
        encode_field(name, value, out)?;
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}
