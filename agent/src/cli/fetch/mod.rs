//! `ioto fetch`: requests from the command line, at home to users of curl.

mod data;
mod failure;
mod meter;
mod plan;
mod proxies;
#[cfg_attr(not(feature = "aws"), path = "unsigned.rs")]
mod sign;
mod sink;
mod table;
mod transfer;
mod trust;
mod write_out;

use std::cell::OnceCell;
use std::process::ExitCode;
use std::time::Duration;

use ioto::config::{Loaded, Profile};
use ioto::fetch::{Client, Options, Timeouts};

pub use self::table::{DETAILS, OPTIONS};

use self::failure::Failure;
use self::plan::Plan;
use self::sign::Signer;
use self::transfer::Transfers;
use super::args::Args;
use super::config::load;
use super::output::{complain, print};

/// Redirections that `-L` follows.
const REDIRECTS: u8 = 10;

/// How long a server may think, or a connection stand still, where `-m` says nothing: people wait longer than devices.
const PATIENCE: Duration = Duration::from_secs(300);

/// Fetches what the arguments name.
pub fn main(args: Args) -> ExitCode {
    let complains = !args.flag("silent") || args.flag("show-error");
    let plan = match Plan::read(&args) {
        Ok(plan) => plan,
        Err(failure) => return fail(&failure, complains || failure.status == Failure::USAGE),
    };
    let (client, signer) = match prepare(&args, &plan) {
        Ok(prepared) => prepared,
        Err(Refusal::Failure(failure)) => return fail(&failure, complains),
        Err(Refusal::Said(status)) => return status,
    };
    // As a whole: between two calls of `block_on` another thread would take over the reactor, and give it back.
    smol::block_on(run_all(Transfers { plan: &plan, client, signer, piece: Vec::new() }))
}

async fn run_all(mut transfers: Transfers<'_>) -> ExitCode {
    let plan = transfers.plan;
    let mut status = ExitCode::SUCCESS;
    for url in plan.urls.iter().flat_map(|url| (0..plan.repeat).map(move |_| url)) {
        let (figures, result) = transfers.run(url).await;
        meter::clear();
        if let Err(failure) = result {
            status = fail(&failure, plan.complains);
        }
        if let Some(format) = &plan.write_out {
            let _ = print(&format.fill(&figures));
        }
    }
    status
}

/// Why nothing is sent.
enum Refusal {
    Failure(Failure),
    /// It was told already.
    Said(ExitCode),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn prepare(args: &Args, plan: &Plan) -> Result<(Client, Option<Signer>), Refusal> {
    // The configuration counts for few options, and need not be there for the others.
    let loaded: OnceCell<Loaded> = OnceCell::new();
    if args.flag("insecure") || plan.sigv4.is_some() {
        let _ = loaded.set(load(args).map_err(Refusal::Said)?);
    }
    let profile = loaded.get().map_or(Profile::Prod, |loaded| loaded.config.profile);
    let connect = plan.connect_timeout.unwrap_or(Timeouts::default().connect);
    let patience = plan.max_time.unwrap_or_default().max(PATIENCE);
    let options = Options {
        tls: trust::read(args, profile)?,
        timeouts: Timeouts { connect, tls: connect, head: patience, idle: patience, ..Timeouts::default() },
        redirects: if plan.follow { REDIRECTS } else { 0 },
        proxies: plan.proxies.clone(),
        direct: plan.direct.clone(),
        ..Options::default()
    };
    let client = Client::new(options);
    let signer = match (&plan.sigv4, loaded.get()) {
        (Some(_), _) if plan.follow || plan.user.is_some() => {
            return Err(
                Failure::usage("--sigv4: a signature is for one URL and says who we are; leave out -L and -u").into()
            );
        }
        (Some((service, region)), Some(loaded)) => {
            Some(Signer::new(service, region.as_deref(), &loaded.config, client.clone())?)
        }
        _ => None,
    };
    Ok((client, signer))
}

fn fail(failure: &Failure, complains: bool) -> ExitCode {
    meter::clear();
    if complains {
        complain(&format!("ioto: {failure}"));
    }
    ExitCode::from(failure.status)
}
