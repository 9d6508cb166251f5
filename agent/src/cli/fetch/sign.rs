//! `--sigv4`: requests to services of AWS, signed with the keys that the agent has.

use std::fs::File;

use ioto::aws::{Api, Provider};
use ioto::config::Config;
use ioto::device::identity;
use ioto::fetch::{Client, Request, Response};
use smol::Unblock;

use super::data::{Data, read_file};
use super::failure::Failure;
use super::plan::Plan;

/// Signs for one service.
pub struct Signer {
    api: Api,
    service: String,
}

impl Signer {
    /// With the region and the keys of the configuration, or the keys of the environment.
    pub fn new(service: &str, region: Option<&str>, config: &Config, client: Client) -> Result<Self, Failure> {
        let device = match config.aws.credentials.as_ref().is_some_and(|alias| alias.thing.is_none()) {
            true => identity(&config.directories.state, &config.device)
                .map_err(|error| Failure::usage(error.to_string()))?,
            false => String::new(),
        };
        let mut config = config.aws.clone();
        if let Some(region) = region {
            config.region = region.into();
        }
        let api = Api::with_client(&config, Provider::new(&config, &device)?, client)?;
        Ok(Self { api, service: service.into() })
    }

    /// Sends what the plan says. A wrong clock is put right, and what fails in passing is tried again.
    pub async fn send(
        &self,
        plan: &Plan,
        url: &str,
        offset: u64,
        adapt: impl Fn(Request) -> Request + Send + Sync + 'static,
    ) -> Result<Response, Failure> {
        let mut request = self.api.request(&self.service, plan.method.clone(), url)?.with(adapt);
        for (name, value) in &plan.headers {
            request = request.header(name, value);
        }
        if offset > 0 {
            request = request.header("Range", &format!("bytes={offset}-"));
        }
        if let Some(timeout) = plan.max_time {
            request = request.timeout(timeout);
        }
        request = match &plan.data {
            Data::Nothing => request,
            Data::Bytes(bytes, _) => request.body(bytes.clone()),
            Data::File(path) if self.service == "s3" => {
                let name = path.display().to_string();
                let length = path.metadata().map_err(|error| Failure::read(&name, &error))?.len();
                let path = path.clone();
                request.chunks(length, move || Ok(Unblock::new(File::open(&path)?)))
            }
            Data::File(path) => request.body(read_file(&path.display().to_string())?),
            Data::Form(_) | Data::Input => {
                return Err(Failure::usage("--sigv4: what is signed is read before; give -d or -T FILE"));
            }
        };
        Ok(request.send().await?)
    }
}
