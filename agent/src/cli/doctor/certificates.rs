//! Are the certificates in time?

#[cfg(not(feature = "web"))]
use super::{Around, Report};

/// Says nothing: this build has no TLS server.
#[cfg(not(feature = "web"))]
pub fn check(_: &Around, _: &mut Report) {}

#[cfg(feature = "web")]
pub use self::with_tls::check;

#[cfg(feature = "web")]
mod with_tls {
    use std::path::Path;

    use ioto::config::Scheme;
    use ioto::net::{Holder, iso8601, utc_ms};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::super::{Around, Report};

    const SUBJECT: &str = "certificate";
    /// Time to get another.
    const SOON: i64 = 30 * 24 * 60 * 60;

    pub fn check(around: &Around, report: &mut Report) {
        let config = &around.config;
        let (tls, has_https) = (&config.tls, config.web.listen.iter().any(|listen| listen.scheme == Scheme::Https));
        if config.services.web && has_https {
            let own = config.directories.certs.join("web.crt");
            let named = tls.certificate.iter().chain(tls.certificates.iter().map(|one| &one.certificate));
            let mut all: Vec<_> = named.collect();
            if all.is_empty() {
                all.push(&own);
            }
            all.into_iter().for_each(|path| certificate(path, report));
        }
        if let (true, Some(path)) = (config.services.mqtt, &config.mqtt.certificate) {
            certificate(path, report);
        }
    }

    fn certificate(path: &Path, report: &mut Report) {
        let shown = path.display();
        let read = match CertificateDer::from_pem_file(path) {
            Ok(certificate) => Holder::read(&certificate).ok_or_else(|| "it is malformed".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let holder = match read {
            Ok(holder) => holder,
            Err(error) => {
                let advice = "run this as the agent's user or as root, or name another file";
                return report.warn(SUBJECT, format!("{shown} can not be read: {error}"), advice);
            }
        };
        let now = utc_ms() / 1000;
        let until = iso8601(holder.not_after.saturating_mul(1000));
        match holder.not_after.saturating_sub(now) {
            _ if holder.not_before > now => {
                report.fail(SUBJECT, format!("{shown} is not valid yet"), "set the clock of the device");
            }
            i64::MIN..0 => report.fail(SUBJECT, format!("{shown} was valid until {until}"), "renew it"),
            0..SOON => report.warn(SUBJECT, format!("{shown} is valid until {until}"), "renew it soon"),
            _ => report.ok(SUBJECT, format!("{shown} is valid until {until}")),
        }
    }
}
