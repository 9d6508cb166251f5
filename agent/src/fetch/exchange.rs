//! One request on one connection, up to the head of its response.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use super::connection::Connection;
use super::course::Course;
use super::sender::{Failure, Sender};
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
    course: &mut Course,
) -> Result<ResponseHead, Error> {
    let mut refused = None;
    let mut interim = 0;
    let mut since = None;
    poll_fn(|cx| {
        if refused.is_none() && !sender.is_done() {
            let before = sender.total();
            match sender.poll(cx, &mut connection.stream, &mut course.meter) {
                Poll::Ready(Err(Failure::Body(source))) => return Poll::Ready(Err(Error::Body(source))),
                // Perhaps the server closed because it has answered: the answer says more than the broken connection.
                Poll::Ready(Err(Failure::Connection(source))) => refused = Some(source),
                Poll::Ready(Ok(())) => since = None,
                Poll::Pending if sender.total() != before => since = None,
                Poll::Pending => {}
            }
        }
        loop {
            match connection.poll_head(cx, &options.limits) {
                Poll::Ready(Ok(Ok(head))) if is_interim(&head) && interim < INTERIM => interim += 1,
                Poll::Ready(Ok(Ok(head))) if is_interim(&head) => {
                    let source = http1::Error::Malformed("too many interim responses");
                    return Poll::Ready(Err(Error::Response { host: host.into(), source }));
                }
                Poll::Ready(Ok(Ok(head))) => return Poll::Ready(Ok(head)),
                Poll::Ready(Ok(Err(source))) => {
                    return Poll::Ready(Err(match (source, refused.take()) {
                        (http1::Error::Truncated, Some(source)) => Error::Broken { host: host.into(), source },
                        (source, _) => Error::Response { host: host.into(), source },
                    }));
                }
                Poll::Ready(Err(source)) => return Poll::Ready(Err(Error::Broken { host: host.into(), source })),
                Poll::Pending => break,
            }
        }
        let (stage, after) = match refused.is_some() || sender.is_done() {
            true => (Stage::Head, options.timeouts.head),
            false => (Stage::Idle, options.timeouts.idle),
        };
        let since = *since.get_or_insert_with(Instant::now);
        course.poll(cx, &mut connection.alarm, Some((stage, since, after)), host).map(Err)
    })
    .await
}

/// 1xx is followed by the final response, but for 101, which answers who asked for another protocol.
fn is_interim(head: &ResponseHead) -> bool {
    (100..200).contains(&head.status) && head.status != 101
}
