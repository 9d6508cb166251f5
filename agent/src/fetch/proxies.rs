//! Which proxy a request goes through.

use super::{Scheme, Url};
use crate::net::Proxy;

/// The proxies that requests go through. One that is made from a [`Proxy`] has it for all of them.
///
/// A client looks at no variables of the environment: what a service does is said by who configures it.
///
/// ```
/// use ioto::fetch::{Client, Options, Proxies};
/// use ioto::net::Proxy;
///
/// let gate: Proxy = "http://gate.example:3128".parse()?;
/// Client::new(Options { proxies: gate.clone().into(), ..Options::default() });
/// Client::new(Options { proxies: Proxies { http: None, https: Some(gate) }, ..Options::default() });
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For URLs of `http`; none.
    pub http: Option<Proxy>,
    /// For URLs of `https`; none.
    pub https: Option<Proxy>,
}

impl Proxies {
    pub(super) fn of(&self, url: &Url) -> Option<&Proxy> {
        match url.scheme() {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }
    }
}

impl From<Option<Proxy>> for Proxies {
    fn from(proxy: Option<Proxy>) -> Self {
        Self { http: proxy.clone(), https: proxy }
    }
}

impl From<Proxy> for Proxies {
    fn from(proxy: Proxy) -> Self {
        Some(proxy).into()
    }
}
