//! What the integration tests share: the agent as a process of its own, the servers it talks to, and faults between them.
//!
//! Everything runs on loopback, on ports of its own and in temporary directories of its own, so that tests run side by
//! side, and ends with the value that stands for it. Helpers panic, with what the program said, where a test could
//! not go on anyway.

mod agent;
mod ahead;
mod credulous;
pub mod disk;
mod function;
mod http;
mod mosquitto;
mod moto;
mod proxy;
mod python;
pub mod readings;
pub mod relay;
mod rescue;
mod scratch;
mod signal;

pub use self::agent::{Agent, program};
pub use self::ahead::Ahead;
pub use self::credulous::Credulous;
pub use self::function::Function;
pub use self::http::{Client, Response};
pub use self::mosquitto::Mosquitto;
pub use self::moto::Moto;
pub use self::proxy::Proxy;
pub use self::python::python;
pub use self::rescue::Rescue;
pub use self::scratch::{Scratch, eventually, free_port, repository, seed};
pub use self::signal::{Signal, send};
