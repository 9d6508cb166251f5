//! The profile of a network interface. Nothing in it can end a line of the files that are written from it.

use crate::json::{Invalid, Members, text};
use serde_json::{Map, Value, json};
use std::fmt;
use std::net::IpAddr;

/// How an interface gets its addresses, and of which wireless network it is a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The interface.
    pub interface: Interface,
    /// Its addresses.
    pub ip: Ip,
    /// For a wireless one.
    pub wifi: Option<Wifi>,
}

/// The name of an interface: letters, digits and `_-.`, at most 15 bytes, which is what Linux takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface(String);

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ip {
    /// From a DHCP server.
    Dhcp,
    /// As given.
    Static {
        /// The address and the length of the network's prefix.
        address: Prefixed,
        /// The way out, of the same family as the address.
        gateway: Option<IpAddr>,
        /// Name servers, at most three.
        dns: Vec<IpAddr>,
    },
}

/// An address with the length of its network's prefix, as `192.168.1.7/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixed {
    address: IpAddr,
    length: u8,
}

/// A wireless network.
#[derive(Clone, PartialEq, Eq)]
pub struct Wifi {
    ssid: String,
    passphrase: Option<String>,
}

impl Interface {
    /// From its name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let good = (1..=15).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
            && text != "lo"
            && text != "all"
            && text != "default";
        match good {
            true => Ok(Self(text.into())),
            false => Err(Invalid::new("an interface is named as eth0: at most 15 letters, digits and _-. and not lo")),
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prefixed {
    /// From its text.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new("an address is given with the length of its prefix, as 192.168.1.7/24");
        let (address, length) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let digits = length.len() <= 3 && length.bytes().all(|b| b.is_ascii_digit());
        let length = length.parse::<u8>().ok().filter(|_| digits).ok_or_else(invalid)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        match (1..=most).contains(&length) && usable(address) {
            true => Ok(Self { address, length }),
            false => Err(invalid()),
        }
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl fmt::Display for Prefixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Wifi {
    /// A network by its name (1 to 32 bytes, nothing invisible) and passphrase: 8 to 63 printable ASCII characters or 64 hex digits;
    /// none for an open network.
    pub fn new(ssid: &str, passphrase: Option<&str>) -> Result<Self, Invalid> {
        if !(1..=32).contains(&ssid.len()) || ssid.chars().any(char::is_control) {
            return Err(Invalid::new("an SSID has 1 to 32 bytes and no control characters"));
        }
        let printable = |text: &str| text.bytes().all(|b| (b' '..=b'~').contains(&b));
        let good = |text: &str| match text.len() {
            8..=63 => printable(text),
            64 => text.bytes().all(|b| b.is_ascii_hexdigit()),
            _ => false,
        };
        match passphrase.is_none_or(good) {
            true => Ok(Self { ssid: ssid.into(), passphrase: passphrase.map(Into::into) }),
            false => {
                Err(Invalid::new("a passphrase has 8 to 63 printable ASCII characters, or is a key of 64 hex digits"))
            }
        }
    }

    /// The name of the network.
    pub fn ssid(&self) -> &str {
        &self.ssid
    }

    /// The passphrase; none for an open network.
    pub fn passphrase(&self) -> Option<&str> {
        self.passphrase.as_deref()
    }
}

/// Without the passphrase.
impl fmt::Debug for Wifi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wifi").field("ssid", &self.ssid).finish_non_exhaustive()
    }
}

impl Profile {
    pub(crate) fn decode(members: &mut Members) -> Result<Self, Invalid> {
        let interface = Interface::parse(&members.text("interface")?)?;
        let ip = match members.take("ip")? {
            Value::String(word) if word == "dhcp" => Ip::Dhcp,
            Value::Object(object) => fixed(Value::Object(object))?,
            _ => return Err(Invalid::new("\"ip\" must be \"dhcp\" or an object with address, gateway and dns")),
        };
        let wifi = members.optional("wifi").map(wifi).transpose()?;
        Ok(Self { interface, ip, wifi })
    }

    /// Adds its members to a request.
    pub(crate) fn encode(&self, object: &mut Map<String, Value>) {
        object.insert("interface".into(), self.interface.as_str().into());
        let ip = match &self.ip {
            Ip::Dhcp => "dhcp".into(),
            Ip::Static { address, gateway, dns } => {
                let mut ip = json!({"address": address.to_string()});
                if let Some(gateway) = gateway {
                    ip["gateway"] = gateway.to_string().into();
                }
                if !dns.is_empty() {
                    ip["dns"] = dns.iter().map(ToString::to_string).collect();
                }
                ip
            }
        };
        object.insert("ip".into(), ip);
        if let Some(wifi) = &self.wifi {
            let mut value = json!({"ssid": wifi.ssid});
            if let Some(passphrase) = &wifi.passphrase {
                value["passphrase"] = passphrase.as_str().into();
            }
            object.insert("wifi".into(), value);
        }
    }
}

fn fixed(value: Value) -> Result<Ip, Invalid> {
    let mut members = Members::of(value, "\"ip\"")?;
    let address = Prefixed::parse(&members.text("address")?)?;
    let gateway = members.optional("gateway").map(|value| ip(value, "gateway")).transpose()?;
    let dns = match members.optional("dns") {
        None => Vec::new(),
        Some(Value::Array(list)) if list.len() <= 3 => {
            list.into_iter().map(|value| ip(value, "dns")).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(Invalid::new("\"dns\" must be a list of at most three addresses")),
    };
    members.end()?;
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != address.address.is_ipv4()) {
        return Err(Invalid::new("the gateway must be of the same family as the address"));
    }
    Ok(Ip::Static { address, gateway, dns })
}

fn wifi(value: Value) -> Result<Wifi, Invalid> {
    let mut members = Members::of(value, "\"wifi\"")?;
    let ssid = members.text("ssid")?;
    let passphrase = members.optional("passphrase").map(|value| text(value, "passphrase")).transpose()?;
    members.end()?;
    Wifi::new(&ssid, passphrase.as_deref())
}

fn ip(value: Value, name: &str) -> Result<IpAddr, Invalid> {
    let address = text(value, name)?.parse().ok().filter(|address| usable(*address));
    address.ok_or_else(|| Invalid::new(format!("\"{name}\" must be the address of a host")))
}

fn usable(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}
