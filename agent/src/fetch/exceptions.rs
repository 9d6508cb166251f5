//! Hosts that are reached without the proxy.

use std::net::IpAddr;
use std::str::FromStr;

/// Hosts that are reached without the proxy, as the variable `NO_PROXY` of other programs lists them.
///
/// ```
/// use ioto::fetch::Exceptions;
///
/// let direct: Exceptions = "localhost, .example.com, 10.0.0.0/8, fd00::/8".parse()?;
/// for host in ["localhost", "example.com", "api.example.com", "10.1.2.3", "fd00::1"] {
///     assert!(direct.holds(host), "{host}");
/// }
/// for host in ["example.org", "notexample.com", "11.1.2.3", "fe80::1"] {
///     assert!(!direct.holds(host), "{host}");
/// }
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// A name and all below it.
    Domain(String),
    /// An address, and how many of its first bits count.
    Network(IpAddr, u8),
}

impl Exceptions {
    /// Whether a host, a name or an address, is one of them.
    pub fn holds(&self, host: &str) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        let host = host.trim_end_matches('.');
        self.0.iter().any(|exception| match (exception, address) {
            (Exception::All, _) => true,
            (Exception::Domain(domain), None) => is_below(host, domain),
            (Exception::Network(network, bits), Some(address)) => is_within(address, *network, *bits),
            _ => false,
        })
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    let Some(at) = host.len().checked_sub(domain.len()) else { return false };
    let Some((before, end)) = host.split_at_checked(at) else { return false };
    end.eq_ignore_ascii_case(domain) && (before.is_empty() || before.ends_with('.'))
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |differing: u128, width: u32| {
        width.checked_sub(u32::from(bits)).is_some_and(|rest| differing.checked_shr(rest).unwrap_or(0) == 0)
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => same(u128::from(a.to_bits() ^ n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => same(a.to_bits() ^ n.to_bits(), 128),
        _ => false,
    }
}

impl FromStr for Exceptions {
    type Err = String;

    /// Names, addresses and networks with commas or spaces between; `*` is everything.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty());
        parts.map(parse).collect::<Result<_, _>>().map(Self)
    }
}

fn parse(text: &str) -> Result<Exception, String> {
    if text == "*" {
        return Ok(Exception::All);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Exception::Network(address, if address.is_ipv4() { 32 } else { 128 }));
    }
    if let Some((network, bits)) = text.split_once('/') {
        let (network, bits) = (network.parse::<IpAddr>().ok(), bits.parse::<u8>().ok());
        return match (network, bits) {
            (Some(network @ IpAddr::V4(_)), Some(bits @ 0..=32))
            | (Some(network @ IpAddr::V6(_)), Some(bits @ 0..=128)) => Ok(Exception::Network(network, bits)),
            _ => Err(format!("'{text}' is no network; write it as 10.0.0.0/8")),
        };
    }
    let domain = text.strip_prefix("*.").or(text.strip_prefix('.')).unwrap_or(text);
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !domain.is_empty() && domain.chars().all(is_name) {
        true => Ok(Exception::Domain(domain.trim_end_matches('.').to_ascii_lowercase())),
        false => Err(format!("'{text}' is no host; write names, addresses or networks with commas between")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn holds(list: &str, host: &str) -> bool {
        list.parse::<Exceptions>().unwrap().holds(host)
    }

    #[test]
    fn networks_end_at_their_bits() {
        assert!(holds("192.168.4.0/22", "192.168.7.255") && !holds("192.168.4.0/22", "192.168.8.0"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "::1") && holds("[::1]", "::1") && !holds("::1", "::2"));
    }

    #[test]
    fn what_is_no_list_is_told() {
        for bad in ["10.0.0.0/33", "a/8", "http://x", "::1/129"] {
            assert!(bad.parse::<Exceptions>().is_err(), "{bad}");
        }
        assert_eq!("".parse::<Exceptions>().unwrap(), Exceptions::default());
        assert!(holds("*", "anything") && holds("*.a.b", "A.B.") && !holds("b", "ab"));
    }
}
