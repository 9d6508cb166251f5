//! Which broker a connection of the command's own goes to.

use ioto::config::Config;
use ioto::mqtt::Options;
use ioto::net::{Proxy, TlsClient};

use super::super::args::{Args, Usage};
use super::text;

/// Whether the arguments name a broker.
pub fn is_named(args: &Args) -> bool {
    ["host", "port", "url", "cafile"].iter().any(|name| args.flag(name))
}

/// The broker that the arguments name.
pub fn named(args: &Args) -> Result<Options, Usage> {
    let wrong = |error: &dyn std::fmt::Display| Usage(error.to_string());
    let tls = tls(args)?;
    let mut options = match text(args, "url") {
        Some(url) if args.flag("host") || args.flag("port") => {
            return Err(Usage(format!("-L {url} names host and port; -h and -p are too much")));
        }
        Some(url) => Options::from_url(&url, client_id(args)).map_err(|error| wrong(&error))?,
        None => {
            let default = if tls.is_some() { 8883 } else { 1883 };
            let port = text(args, "port").map_or(Ok(default), |port| {
                port.parse().map_err(|_| Usage(format!("-p: expected a port, found `{port}`")))
            })?;
            Options::new(text(args, "host").unwrap_or_else(|| "localhost".into()), port, client_id(args))
        }
    };
    if let Some(tls) = tls {
        options = options.tls(tls);
    }
    own(args, options)
}

/// The broker of the agent's configuration, with a client id of our own: with the agent's the broker would end its connection.
pub fn configured(args: &Args, config: &Config) -> Result<Options, Usage> {
    let mut settings = config.mqtt.clone();
    settings.client_id = Some(client_id(args));
    let options = Options::from_config(&settings, "ioto").map_err(|error| Usage(error.to_string()))?;
    own(args, options.schedule(Default::default()))
}

fn own(args: &Args, mut options: Options) -> Result<Options, Usage> {
    if let Some(user) = text(args, "username") {
        options = options.login(user, text(args, "pw").unwrap_or_default());
    } else if args.flag("pw") {
        return Err(Usage("-P: a password needs a name, -u".into()));
    }
    if let Some(url) = text(args, "proxy") {
        let proxy: Proxy = url.parse().map_err(|error| Usage(format!("--proxy: {error}")))?;
        options = options.proxy(proxy);
    }
    Ok(options.clean_session(true))
}

fn client_id(args: &Args) -> String {
    // 23 characters are what every broker takes [MQTT-3.1.3-5].
    text(args, "id").unwrap_or_else(|| format!("ioto-{:016x}", fastrand::u64(..)))
}

fn tls(args: &Args) -> Result<Option<TlsClient>, Usage> {
    let (authority, certificate, key) = (args.value("cafile"), args.value("cert"), args.value("key"));
    if certificate.is_some() != key.is_some() {
        return Err(Usage("--cert and --key need each other".into()));
    }
    if authority.is_none() && certificate.is_none() {
        return Ok(None);
    }
    let mut builder = TlsClient::builder();
    if let Some(authority) = authority {
        builder = builder.authority(authority);
    }
    if let (Some(certificate), Some(key)) = (certificate, key) {
        builder = builder.identity(certificate, key);
    }
    builder.build().map(Some).map_err(|error| Usage(error.to_string()))
}
