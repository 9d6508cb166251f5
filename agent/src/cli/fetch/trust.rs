//! Whom `ioto fetch` trusts on TLS, and who it is there: `--cacert`, `--cert`, `--key` and `-k`.

use std::path::PathBuf;
use std::sync::Arc;

use ioto::fetch;
use ioto::net::TlsClient;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::failure::Failure;
use crate::cli::args::Args;

/// As the options say; nothing when they say nothing. `is_dev`: the profile is that of a developer's machine.
pub fn read(args: &Args, is_dev: impl FnOnce() -> Result<bool, Failure>) -> Result<Option<TlsClient>, Failure> {
    let identity = match (args.value("cert"), args.value("key")) {
        (None, Some(_)) => return Err(Failure::usage("--key goes with --cert")),
        (None, None) => None,
        (Some(certificate), key) => Some((PathBuf::from(certificate), PathBuf::from(key.unwrap_or(certificate)))),
    };
    let insecure = args.flag("insecure");
    if insecure && !is_dev()? {
        return Err(Failure::usage("-k is for profile dev only; give the server's authority with --cacert"));
    }
    let authority = args.value("cacert");
    if authority.is_none() && identity.is_none() && !insecure {
        return Ok(None);
    }
    let mut builder = TlsClient::builder();
    if let Some(file) = authority {
        builder = builder.authority(file);
    }
    if let Some((certificate, key)) = identity {
        builder = builder.identity(certificate, key);
    }
    let client = match builder.build() {
        Ok(client) => client,
        // Who trusts everybody needs no roots.
        Err(ioto::net::Error::NoRoots) if insecure && args.value("cert").is_none() => {
            return Ok(Some(unverified(ClientConfig::builder_with_provider(Arc::new(ring::default_provider())))?));
        }
        Err(error) => return Err(fetch::Error::from(error).into()),
    };
    match insecure {
        false => Ok(Some(client)),
        true => {
            let mut config = ClientConfig::clone(client.config());
            config.dangerous().set_certificate_verifier(Arc::new(Anybody(ring::default_provider())));
            Ok(Some(Arc::new(config).into()))
        }
    }
}

fn unverified(builder: rustls::ConfigBuilder<ClientConfig, rustls::WantsVersions>) -> Result<TlsClient, Failure> {
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| Failure::new(35, error.to_string()))?;
    let verifier = Arc::new(Anybody(ring::default_provider()));
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// Takes any certificate for anybody's. That its owner has the key is checked nevertheless.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
