//! Whom `ioto fetch` trusts on TLS, and who it is there: `--cacert`, `--pinnedpubkey`, `--cert`, `--key` and `-k`.

use std::path::PathBuf;

use ioto::config::Profile;
use ioto::fetch;
use ioto::net::{Pin, TlsClient};

use super::failure::Failure;
use crate::cli::args::Args;

/// As the options say; nothing when they say nothing.
pub fn read(args: &Args, profile: Profile) -> Result<Option<TlsClient>, Failure> {
    let identity = match (args.value("cert"), args.value("key")) {
        (None, Some(_)) => return Err(Failure::usage("--key goes with --cert")),
        (None, None) => None,
        (Some(certificate), key) => Some((PathBuf::from(certificate), PathBuf::from(key.unwrap_or(certificate)))),
    };
    let (authority, insecure) = (args.value("cacert"), args.flag("insecure"));
    let pins = args.value("pinnedpubkey").map(|pins| read_pins(&pins.to_string_lossy())).transpose()?;
    if authority.is_none() && identity.is_none() && pins.is_none() && !insecure {
        return Ok(None);
    }
    let mut builder = TlsClient::builder();
    if insecure {
        let only_dev = "-k is for profile dev only; give the server's authority with --cacert";
        builder = builder.unverified(profile).map_err(|_| Failure::usage(only_dev))?;
    }
    if let Some(file) = authority {
        builder = builder.authority(file);
    }
    if let Some((certificate, key)) = identity {
        builder = builder.identity(certificate, key);
    }
    builder = builder.pins(pins.into_iter().flatten());
    builder.build().map(Some).map_err(|error| fetch::Error::from(error).into())
}

/// Several are separated by semicolons.
fn read_pins(list: &str) -> Result<Vec<Pin>, Failure> {
    let pin = |text: &str| text.trim().parse().map_err(|reason| Failure::usage(format!("--pinnedpubkey: {reason}")));
    list.split(';').map(pin).collect()
}
