//! The broker's end of real connections, which break.

use std::convert::Infallible;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::net::sockopt::set_socket_linger;
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, Timer};

use super::world::World;

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More of the same, at this time at the latest.
    Wait(Instant),
    /// The broker ends the connection.
    Cut,
    /// It reads and says nothing more; the client has to end the connection within this time.
    Wither(Duration),
}

/// Serves one connection after the other; a new one ends the one before, as with any broker.
pub async fn serve(listener: &Async<TcpListener>, world: &Arc<Mutex<World>>) -> Infallible {
    let mut next = None;
    loop {
        let stream = match next.take() {
            Some(stream) => stream,
            None => listener.accept().await.unwrap().0,
        };
        stream.get_ref().set_nodelay(true).unwrap();
        let bytes = world.lock().unwrap().begin();
        let mut line = Line { stream, world, input: BytesMut::new(), left_in: bytes.0, left_out: bytes.1 };
        let other = async { Some(listener.accept().await.unwrap().0) };
        let talk = async {
            line.talk().await;
            None
        };
        next = other.or(talk).await;
        world.lock().unwrap().end();
    }
}

struct Line<'a> {
    stream: Async<TcpStream>,
    world: &'a Mutex<World>,
    input: BytesMut,
    /// Bytes that the connection carries yet.
    left_in: usize,
    left_out: usize,
}

impl Line<'_> {
    /// Talks until the connection is at its end.
    async fn talk(&mut self) {
        loop {
            let (output, then) = self.world.lock().unwrap().step(&mut self.input, Instant::now());
            let whole = output.len() <= self.left_out;
            let output = &output[..output.len().min(self.left_out)];
            self.left_out -= output.len();
            if self.stream.write_all(output).await.is_err() {
                return;
            }
            match then {
                _ if !whole || self.left_in == 0 => return self.cut(),
                Then::Cut => return self.cut(),
                Then::Wither(limit) => return self.wither(limit).await,
                Then::Wait(until) => {
                    if !self.read(until).await {
                        return;
                    }
                }
            }
        }
    }

    /// Reads what comes until then; false at the end of the connection.
    async fn read(&mut self, until: Instant) -> bool {
        let mut bytes = [0; 2048];
        let most = self.left_in.min(bytes.len());
        let reading = async { self.stream.read(&mut bytes[..most]).await.unwrap_or(0) };
        let waiting = async {
            Timer::at(until).await;
            usize::MAX
        };
        match reading.or(waiting).await {
            0 => return false,
            usize::MAX => {}
            count => {
                self.left_in -= count;
                self.input.extend_from_slice(&bytes[..count]);
            }
        }
        true
    }

    /// With a reset, which may take with it what was sent before, or in peace.
    fn cut(&mut self) {
        if !self.world.lock().unwrap().cuts_in_peace() {
            set_socket_linger(self.stream.get_ref(), Some(Duration::ZERO)).unwrap();
        }
    }

    async fn wither(&mut self, limit: Duration) {
        let mut bytes = [0; 2048];
        let reading = async {
            while self.stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
            true
        };
        let waiting = async {
            Timer::after(limit).await;
            false
        };
        assert!(reading.or(waiting).await, "the client keeps a connection that is of no use");
    }
}
