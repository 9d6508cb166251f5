//! Sockets of connections: they end a stream when they are closed, and send files.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown};
use smol::io::{AsyncRead, AsyncWrite};

use super::duplex::Duplex;
use crate::net;
use crate::net::reactor::Source;

/// A TCP or Unix socket whose `poll_close` tells the peer that nothing more comes.
pub(super) struct Socket(pub Source);

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let room = buf.len();
        let result = self.0.poll_read(cx, |socket| Ok(recv(socket, &mut *buf, RecvFlags::empty())?.0));
        if matches!(result, Poll::Ready(Ok(received)) if received < room) {
            self.0.is_drained();
        }
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, |socket| Ok(send(socket, buf, SendFlags::NOSIGNAL)?))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [buf] = bufs {
            return self.poll_write(cx, buf);
        }
        let send_all =
            |socket: &OwnedFd| Ok(sendmsg(socket, bufs, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?);
        self.0.poll_write(cx, send_all)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.0.as_fd(), Shutdown::Write)?))
    }
}

impl Duplex for Socket {
    fn sends_files(&self) -> bool {
        true
    }

    fn poll_write_more(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, |socket| Ok(send(socket, data, SendFlags::NOSIGNAL | SendFlags::MORE)?))
    }

    fn poll_send_file(&mut self, cx: &mut Context<'_>, file: &File, at: u64, bytes: usize) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, |socket| match sendfile(socket, file, Some(&mut at.clone()), bytes) {
            Ok(sent) => Ok(sent),
            // The file system cannot do it.
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            Err(error) => Err(error.into()),
        })
    }

    fn underway(&self) -> usize {
        net::underway(self.0.as_fd()).unwrap_or(0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::net::reactor::{Reactor, block_on};

    #[test]
    fn a_file_is_sent_from_any_place_also_to_a_slow_reader() {
        let path = std::env::temp_dir().join(format!("ioto-send-{}-{}", std::process::id(), fastrand::u64(..)));
        let data: Vec<u8> = (0..3_000_000u32).map(|at| (at ^ (at >> 8)) as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let mut received = Vec::new();
            theirs.read_to_end(&mut received).map(|_| received)
        });
        ours.set_nonblocking(true).unwrap();
        let mut socket = Socket(Source::new(ours.into(), Reactor::current().unwrap()));
        block_on(async {
            let mut at = 7;
            loop {
                match poll_fn(|cx| socket.poll_send_file(cx, &file, at, 100_000)).await.unwrap() {
                    0 => break,
                    sent => at += sent as u64,
                }
            }
        });
        drop(socket);
        assert!(reader.join().unwrap().unwrap() == data[7..]);
    }
}
