//! What can go wrong between the server and a program behind it.

use std::fmt;
use std::io;

use crate::http1;
use crate::web::Error;

/// What a program did wrong.
#[derive(Debug)]
pub(in crate::web) enum Fault {
    /// It cannot be reached.
    Connect(io::Error),
    /// It did not answer in time.
    Late,
    /// It stopped reading the request, or sending the response.
    Stalled,
    /// The connection broke.
    Broken(io::Error),
    /// It closed the connection before it answered, or before all of the answer was sent.
    Closed,
    /// What it sent is no response.
    Response(http1::Error),
    /// It sent more interim responses than anybody needs.
    Interim,
    /// It switched protocols, and nobody asked for that.
    Switched,
}

/// Who made an exchange fail.
#[derive(Debug)]
pub(in crate::web) enum Failure {
    /// The client, or the request; the error is for the connection to explain.
    Client(Error),
    /// The program.
    Program(Fault),
}

impl Fault {
    /// 502 or 504 (RFC 9110 §15.6.3, §15.6.5).
    pub fn status(&self) -> u16 {
        match self {
            Fault::Late | Fault::Stalled => 504,
            Fault::Connect(error) if error.kind() == io::ErrorKind::TimedOut => 504,
            _ => 502,
        }
    }

    /// What went wrong on its connection.
    pub fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Fault::Stalled,
            io::ErrorKind::UnexpectedEof => Fault::Closed,
            io::ErrorKind::InvalidData => {
                match error.get_ref().and_then(|inner| inner.downcast_ref::<http1::Error>()) {
                    Some(error) => Fault::Response(*error),
                    None => Fault::Broken(error),
                }
            }
            _ => Fault::Broken(error),
        }
    }

    /// Whether the connection ended, as it does when the program dies.
    pub fn is_end(&self) -> bool {
        matches!(self, Fault::Connect(_) | Fault::Broken(_) | Fault::Closed)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Connect(error) => write!(f, "it cannot be reached: {error}"),
            Fault::Late => f.write_str("it did not answer in time"),
            Fault::Stalled => f.write_str("it stopped in the middle of the exchange"),
            Fault::Broken(error) => write!(f, "the connection broke: {error}"),
            Fault::Closed => f.write_str("it closed the connection too early"),
            Fault::Response(error) => write!(f, "its response cannot be passed on: {error}"),
            Fault::Interim => f.write_str("it sent too many interim responses"),
            Fault::Switched => f.write_str("it switched protocols unasked, or not to what was asked for"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Client(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Program(fault)
    }
}

impl From<http1::Error> for Failure {
    fn from(error: http1::Error) -> Self {
        Failure::Client(error.into())
    }
}
