//! One request on one connection, up to the head of its response.

use std::future::poll_fn;
use std::task::Poll;

use super::connection::Connection;
use super::sender::{Failure, Sender};
use super::timer::{IdleTimer, TotalTimer};
use super::{Error, Options, Stage};
use crate::http1::{self, ResponseHead};

/// Interim responses before the final one; some servers send a few, none sends many.
const INTERIM: u32 = 16;

/// Sends while it listens, because a server may answer before it has the whole body, and then close.
///
/// When the head is there some of the body may still be unsent.
pub(super) async fn exchange(
    connection: &mut Connection,
    sender: &mut Sender,
    host: &str,
    options: &Options,
    total: &mut TotalTimer,
) -> Result<ResponseHead, Error> {
    let host = || host.to_owned();
    let mut refused = None;
    let mut interim = 0;
    let mut idle = IdleTimer::new(options.timeouts.idle);
    let mut head = IdleTimer::new(options.timeouts.head);
    poll_fn(|cx| {
        if refused.is_none() && !sender.is_done() {
            let before = sender.total();
            match sender.poll(cx, &mut connection.stream) {
                Poll::Ready(Err(Failure::Body(source))) => return Poll::Ready(Err(Error::Body(source))),
                // Perhaps the server closed because it has answered: the answer says more than the broken connection.
                Poll::Ready(Err(Failure::Connection(source))) => refused = Some(source),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if sender.total() != before {
                idle.progress();
            }
        }
        loop {
            match connection.poll_head(cx, &options.limits) {
                Poll::Ready(Ok(Ok(head))) if is_interim(&head) && interim < INTERIM => interim += 1,
                Poll::Ready(Ok(Ok(head))) if is_interim(&head) => {
                    let source = http1::Error::Malformed("too many interim responses");
                    return Poll::Ready(Err(Error::Response { host: host(), source }));
                }
                Poll::Ready(Ok(Ok(head))) => return Poll::Ready(Ok(head)),
                Poll::Ready(Ok(Err(source))) => {
                    return Poll::Ready(Err(match (source, refused.take()) {
                        (http1::Error::Truncated, Some(source)) => Error::Broken { host: host(), source },
                        (source, _) => Error::Response { host: host(), source },
                    }));
                }
                Poll::Ready(Err(source)) => return Poll::Ready(Err(Error::Broken { host: host(), source })),
                Poll::Pending => break,
            }
        }
        let (timer, stage) = match refused.is_some() || sender.is_done() {
            true => (&mut head, Stage::Head),
            false => (&mut idle, Stage::Idle),
        };
        if timer.poll(cx).is_ready() {
            return Poll::Ready(Err(Error::Timeout { host: host(), stage, after: timer.after() }));
        }
        total.poll(cx).map(|after| Err(Error::Timeout { host: host(), stage: Stage::Total, after }))
    })
    .await
}

/// 1xx is followed by the final response, but for 101: nobody asked for another protocol, so that is an answer like any.
fn is_interim(head: &ResponseHead) -> bool {
    (100..200).contains(&head.status) && head.status != 101
}
