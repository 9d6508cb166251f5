//! `--sigv4` of a build without AWS.

use ioto::config::Config;
use ioto::fetch::{Client, Request, Response};

use super::failure::Failure;
use super::plan::Plan;

/// There is none.
pub enum Signer {}

impl Signer {
    /// Says that there is none.
    pub fn new(_: &str, _: Option<&str>, _: &Config, _: Client) -> Result<Self, Failure> {
        Err(Failure::usage("--sigv4: this build cannot sign for AWS: it needs the feature `aws`"))
    }

    /// Nothing can be sent.
    pub async fn send(
        &self,
        _: &Plan,
        _: &str,
        _: u64,
        _: impl Fn(Request) -> Request + Send + Sync + 'static,
    ) -> Result<Response, Failure> {
        match *self {}
    }
}
