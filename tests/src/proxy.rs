//! A TCP proxy that can be taken away: an outage of a server which keeps its data.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::free_port;

/// Passes connections on to a server, as long as it is open.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: SocketAddr,
    links: Arc<Mutex<Links>>,
    acceptor: Option<JoinHandle<()>>,
}

/// The connections that stand, to be cut at any time.
#[derive(Debug, Default)]
struct Links {
    closed: bool,
    count: u64,
    pairs: HashMap<u64, [TcpStream; 2]>,
}

impl Proxy {
    /// An open proxy in front of `target`.
    pub fn new(target: SocketAddr) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut proxy = Self { address, target, links: Arc::default(), acceptor: None };
        proxy.open();
        proxy
    }

    /// Where clients connect; stays the same from outage to outage.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets connections through (again).
    pub fn open(&mut self) {
        if self.acceptor.is_some() {
            return;
        }
        let listener = TcpListener::bind(self.address).expect("bind the proxy");
        let (links, target) = (Arc::clone(&self.links), self.target);
        lock(&links).closed = false;
        self.acceptor = Some(thread::spawn(move || accept(&listener, target, &links)));
    }

    /// Cuts all connections and refuses new ones.
    pub fn close(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        lock(&self.links).closed = true;
        // Wakes the acceptor, which then drops the listener.
        let _ = TcpStream::connect(self.address);
        acceptor.join().expect("the acceptor does not panic");
        self.cut();
    }

    /// Cuts all connections; new ones are let through.
    pub fn cut(&self) {
        for (_, pair) in lock(&self.links).pairs.drain() {
            pair.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, links: &Arc<Mutex<Links>>) {
    for client in listener.incoming() {
        if lock(links).closed {
            return;
        }
        let Ok(client) = client else { continue };
        // A server that is not there looks as it would without the proxy, but for a connection that was accepted first.
        let Ok(server) = TcpStream::connect(target) else { continue };
        if let Err(error) = join(client, server, links) {
            eprintln!("proxy: {error}");
        }
    }
}

/// Copies in both directions until either end closes its side of both.
fn join(client: TcpStream, server: TcpStream, links: &Arc<Mutex<Links>>) -> io::Result<()> {
    let pair = [client.try_clone()?, server.try_clone()?];
    let number = {
        let mut links = lock(links);
        links.count += 1;
        let number = links.count;
        links.pairs.insert(number, pair);
        number
    };
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || copy(from_client, to_server));
    let links = Arc::clone(links);
    thread::spawn(move || {
        copy(server, client);
        lock(&links).pairs.remove(&number);
    });
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

fn lock(links: &Mutex<Links>) -> std::sync::MutexGuard<'_, Links> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut &stream));
            }
        });
        address
    }

    fn round_trip(stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])
    }

    #[test]
    fn an_outage_cuts_and_refuses_and_ends_on_the_same_port() {
        let mut proxy = Proxy::new(echo());
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        round_trip(&mut stream).unwrap();
        proxy.close();
        assert!(round_trip(&mut stream).is_err());
        assert!(TcpStream::connect(proxy.address()).is_err());
        proxy.open();
        let mut stream = TcpStream::connect(proxy.address()).unwrap();
        round_trip(&mut stream).unwrap();
        proxy.cut();
        assert!(round_trip(&mut stream).is_err());
    }
}
