//! `aws`: where AWS is and who we are there.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// Access to AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// `aws.region`, as `eu-central-1`.
    pub region: String,
    /// `aws.endpoint`: a URL that takes the place of AWS's own endpoints (an emulator, a private link).
    pub endpoint: Option<String>,
    /// `aws.authority`: PEM file of the roots to trust; nothing: the system's roots.
    pub authority: Option<PathBuf>,
    /// `aws.accessKeyId`
    pub access_key_id: String,
    /// `aws.secretAccessKey`
    pub secret_access_key: Secret,
    /// `aws.sessionToken`
    pub session_token: Secret,
    /// `timeouts.aws`: one call, with its retries.
    pub timeout: Duration,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            region: "us-east-1".into(),
            endpoint: None,
            authority: None,
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            session_token: Secret::default(),
            timeout: Duration::from_secs(60),
        }
    }
}
