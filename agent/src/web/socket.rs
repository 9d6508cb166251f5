//! Sockets that end a stream when they are closed, where `smol::Async` only flushes; and that send files.

use std::fs::File;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::sys::sendfile::sendfile;
use smol::Async;
use smol::io::{AsyncRead, AsyncWrite};

use super::link::Duplex;

mod ioctl {
    #![allow(unsafe_code, missing_docs, reason = "nix makes the call, with the type of its argument")]
    nix::ioctl_read_bad!(unsent, nix::libc::TIOCOUTQ, nix::libc::c_int);
}

/// A TCP or Unix socket whose `poll_close` tells the peer that nothing more comes.
pub(super) struct Socket<T: HalfClose>(pub Async<T>);

/// A socket one direction of which can be closed.
pub(super) trait HalfClose {
    fn end_writing(&self) -> io::Result<()>;
}

impl HalfClose for TcpStream {
    fn end_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl HalfClose for UnixStream {
    fn end_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl<T: HalfClose> AsyncRead for Socket<T>
where
    Async<T>: AsyncRead + Unpin,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: HalfClose> AsyncWrite for Socket<T>
where
    Async<T>: AsyncWrite + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_flush(cx))?;
        Poll::Ready(self.0.get_ref().end_writing())
    }
}

impl<T: HalfClose + AsFd> Duplex for Socket<T>
where
    Async<T>: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_send_file(&mut self, cx: &mut Context<'_>, file: &File, bytes: usize) -> Poll<io::Result<usize>> {
        loop {
            match sendfile(self.0.get_ref(), file, None, bytes) {
                Ok(sent) => return Poll::Ready(Ok(sent)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => ready!(self.0.poll_writable(cx))?,
                // The file system cannot do it.
                Err(Errno::EINVAL | Errno::ENOSYS) => return Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    #[allow(unsafe_code, reason = "the kernel writes one number to where we say")]
    fn underway(&self) -> usize {
        let mut bytes = 0;
        match unsafe { ioctl::unsent(self.0.as_fd().as_raw_fd(), &mut bytes) } {
            Ok(_) => usize::try_from(bytes).unwrap_or(0),
            Err(_) => 0,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Seek, SeekFrom};

    use super::*;

    #[test]
    fn a_file_is_sent_from_where_it_stands_also_to_a_slow_reader() {
        let path = std::env::temp_dir().join(format!("ioto-send-{}-{}", std::process::id(), fastrand::u64(..)));
        let data: Vec<u8> = (0..3_000_000u32).map(|at| (at ^ (at >> 8)) as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let mut file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.seek(SeekFrom::Start(7)).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let mut received = Vec::new();
            theirs.read_to_end(&mut received).map(|_| received)
        });
        let mut socket = Socket(Async::new(ours).unwrap());
        smol::block_on(async { while poll_fn(|cx| socket.poll_send_file(cx, &file, 100_000)).await.unwrap() > 0 {} });
        drop(socket);
        assert!(reader.join().unwrap().unwrap() == data[7..]);
    }
}
