//! What the programs of a device say to each other. The agent, `ioto-helper` and `ioto-rescue` are built from it; it has
//! no executor, no TLS and no database, so that the small programs stay small.
//!
//! A request to `ioto-helper` is one frame over the Unix socket [`HELPER_SOCKET`], its answer is another, and then the
//! connection is closed. A frame is its length (four bytes, big end first, at most [`MAX_FRAME`]) and a JSON object.
//!
//! ```no_run
//! use ioto_wire::{Client, Request};
//!
//! let answer = Client::default().ask(&Request::Restart)?;
//! println!("{:?}: {}", answer.outcome, answer.text);
//! # Ok::<(), ioto_wire::AskError>(())
//! ```

mod answer;
mod client;
mod frame;
pub mod heartbeat;
mod json;
mod names;
mod network;
pub mod notify;
mod passed;
mod request;

pub use self::answer::{Answer, Outcome};
pub use self::client::{AskError, Client, HELPER_SOCKET, connect_within, peer};
pub use self::frame::{FrameError, MAX_FRAME, Timed, read_frame, write_frame};
pub use self::json::{Invalid, VERSION};
pub use self::names::{Bundle, Hostname, Slot, Time, Zone};
pub use self::network::{Interface, Ip, Prefixed, Profile, Wifi};
pub use self::passed::passed;
pub use self::request::{Mark, Request, Verb};

/// Entry of the fuzz target `helper`.
#[doc(hidden)]
pub mod fuzzing {
    /// A frame is read from any bytes; what decodes must be the same after it was encoded and decoded again.
    pub fn frame(input: &[u8]) {
        let _ = crate::Answer::decode(input);
        let mut rest = input;
        let framed = crate::read_frame(&mut rest);
        for payload in [Some(input), framed.as_deref().ok()].into_iter().flatten() {
            if let Ok(request) = crate::Request::decode(payload) {
                let bytes = request.encode();
                assert_eq!(crate::Request::decode(&bytes), Ok(request.clone()));
                assert!(!request.masked().to_string().contains('\n'));
            }
        }
    }
}
