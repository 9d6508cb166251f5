//! The other side: a server on the socket that the program was started with.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use async_signal::{Signal, Signals};
use smol::LocalExecutor;
use smol::future::or;
use smol::stream::StreamExt;

use crate::web::listener::Listener;
use crate::web::{Error, Server};

/// Serves until the process is told to end.
pub(super) fn serve(actions: Server) -> Result<(), Error> {
    let bound = actions.bind_to(vec![listener()?])?;
    let handle = bound.handle();
    let mut signals = Signals::new([Signal::Term, Signal::Int]).map_err(Error::Io)?;
    let stop = async {
        signals.next().await;
        handle.stop();
        std::future::pending().await
    };
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(or(bound.run(&executor), stop)));
    Ok(())
}

/// The standard input.
fn listener() -> Result<Listener, Error> {
    let wrong = || Error::Setting("the standard input is no Unix socket: only a web::Worker can start this".to_owned());
    let socket = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    match socket.local_addr() {
        Ok(address) if address.as_pathname().is_some() => Ok(Listener::inherited(socket)?),
        _ => Err(wrong()),
    }
}
