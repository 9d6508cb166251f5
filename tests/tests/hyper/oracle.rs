//! The same bytes read by hyper, from memory.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, Version};

use super::request::Request;

/// The requests that hyper serves, each with its whole body.
pub fn requests(bytes: &[u8]) -> Vec<Request> {
    let served = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request| {
        let served = served.clone();
        async move {
            let read = read(request).await?;
            served.borrow_mut().push(read);
            Ok::<_, hyper::Error>(Response::new(Nothing))
        }
    });
    let memory = Memory { bytes: bytes.to_vec(), at: 0 };
    let mut builder = http1::Builder::new();
    builder.half_close(true).header_read_timeout(None);
    // An error is an end like another: what counts is what was served before it.
    let _ = smol::block_on(builder.serve_connection(memory, service));
    served.take()
}

async fn read(request: hyper::Request<Incoming>) -> hyper::Result<Request> {
    let (head, mut body) = request.into_parts();
    let mut payload = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            payload.extend_from_slice(&data);
        }
    }
    let fields = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    Ok(Request::new(
        head.method.as_str(),
        head.uri.authority().map(|authority| authority.as_str()),
        head.uri.path_and_query().map_or("/", |path| path.as_str()),
        head.version == Version::HTTP_11,
        fields,
        payload,
    ))
}

/// A connection on which all bytes have arrived, and then the end.
struct Memory {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Memory {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let length = buffer.remaining().min(self.bytes.len() - self.at);
        buffer.put_slice(&self.bytes[self.at..self.at + length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A response's body without a byte.
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
