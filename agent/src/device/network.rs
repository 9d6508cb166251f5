//! The network interfaces and their addresses.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::facts::read;

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name, as `eth0`.
    pub name: String,
    /// Its hardware address, as `02:fc:00:00:00:01`.
    pub mac: Option<String>,
    /// Whether it has a link and is up; absent when the driver does not know.
    pub up: Option<bool>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Interface {
    pub(super) fn to_json(&self) -> Value {
        json!({"name": self.name, "mac": self.mac, "up": self.up, "addresses": self.addresses})
    }
}

/// The network interfaces, without loopback, by name.
pub fn interfaces() -> Vec<Interface> {
    let Ok(directory) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let mut names: Vec<String> = Vec::new();
    for name in directory.flatten().filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name != "lo")
    {
        // Few names do not need the sorting of the standard library, which takes several kilobytes of the program.
        names.insert(names.partition_point(|known| *known < name), name);
    }
    let mut addresses = ipv4_addresses(
        &read("/proc/net/fib_trie").unwrap_or_default(),
        &parse_routes(&read("/proc/net/route").unwrap_or_default()),
    );
    addresses.extend(parse_if_inet6(&read("/proc/net/if_inet6").unwrap_or_default()));
    let describe = |name: String| {
        let file = |file: &str| read(format!("/sys/class/net/{name}/{file}")).map(|text| text.trim().to_owned());
        Interface {
            mac: file("address").filter(|mac| !mac.is_empty() && mac != "00:00:00:00:00:00"),
            up: match file("operstate").as_deref() {
                Some("up") => Some(true),
                None | Some("unknown") => None,
                Some(_) => Some(false),
            },
            addresses: addresses.iter().filter(|(owner, _)| *owner == name).map(|(_, address)| *address).collect(),
            name,
        }
    };
    names.into_iter().map(describe).collect()
}

/// A network that an interface reaches without a gateway.
struct Route {
    interface: String,
    network: u32,
    mask: u32,
}

/// The lines of `/proc/net/route`; numbers are in hexadecimal, in network byte order as the processor reads it.
fn parse_routes(text: &str) -> Vec<Route> {
    let number = |field: &str| u32::from_str_radix(field, 16).ok().map(|n| u32::from_be_bytes(n.to_ne_bytes()));
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, network, gateway, _, _, _, _, mask, ..] = fields[..] else { return None };
        let route = Route { interface: interface.into(), network: number(network)?, mask: number(mask)? };
        (number(gateway)? == 0).then_some(route)
    };
    text.lines().filter_map(route).collect()
}

/// The kernel lists the IPv4 addresses of the machine without their interface, in `/proc/net/fib_trie`; the interface is
/// the one whose network is the closest around the address.
fn ipv4_addresses(trie: &str, routes: &[Route]) -> Vec<(String, IpAddr)> {
    let mut found: Vec<(String, IpAddr)> = Vec::new();
    let mut last = None;
    for line in trie.lines().map(str::trim) {
        if let Some(leaf) = line.strip_prefix("|-- ") {
            last = leaf.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            let Some(address) = last.take().filter(|address| !address.is_loopback()) else { continue };
            let around = routes.iter().filter(|route| u32::from(address) & route.mask == route.network);
            let Some(route) = around.max_by_key(|route| route.mask) else { continue };
            let entry = (route.interface.clone(), IpAddr::V4(address));
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    found
}

/// `fe8000000000000000fc00fffe000001 04 40 20 80     eth0`
fn parse_if_inet6(text: &str) -> Vec<(String, IpAddr)> {
    let entry = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next().filter(|field| field.len() == 32)?, 16).ok()?;
        Some((fields.nth(4)?.to_owned(), IpAddr::V6(Ipv6Addr::from(address))))
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 127.0.0.1\n        \
        /32 host LOCAL\n        +-- 192.0.2.0/30 2 0 2\n           |-- 192.0.2.2\n              /32 host LOCAL\n        \
        |-- 192.0.2.255\n           /32 link BROADCAST\n     |-- 10.1.2.3\n        /32 host LOCAL\n\
        Local:\n           |-- 192.0.2.2\n              /32 host LOCAL\n";

    /// The lines as this machine's byte order writes them.
    fn routes() -> Vec<Route> {
        let hex = |a: u8, b: u8, c: u8, d: u8| format!("{:08X}", u32::from_ne_bytes([a, b, c, d]));
        let (zero, gateway) = (hex(0, 0, 0, 0), hex(192, 0, 2, 1));
        let net = |n: &str, m: &str, i: &str, g: &str| format!("{i}\t{n}\t{g}\t0001\t0\t0\t0\t{m}\t0\t0\t0\n");
        parse_routes(&format!(
            "Iface\tDestination\tGateway\n{}{}{}",
            net(&zero, &zero, "eth0", &gateway),
            net(&hex(192, 0, 2, 0), &hex(255, 255, 255, 0), "eth0", &zero),
            net(&hex(10, 0, 0, 0), &hex(255, 0, 0, 0), "wlan0", &zero),
        ))
    }

    #[test]
    fn ipv4_addresses_belong_to_the_closest_network() {
        let found = ipv4_addresses(TRIE, &routes());
        let expected = [("eth0", "192.0.2.2"), ("wlan0", "10.1.2.3")];
        assert_eq!(found, expected.map(|(i, a)| (i.to_owned(), a.parse().unwrap())));
    }

    #[test]
    fn ipv6_addresses_name_their_interface() {
        let text = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\nshort 04 40 20 80 eth0\n";
        assert_eq!(parse_if_inet6(text), [("eth0".to_owned(), "fe80::fc:ff:fe00:1".parse().unwrap())]);
    }

    #[test]
    fn noise_has_no_addresses() {
        assert!(ipv4_addresses("|-- 1.2.3.4.5\n /32 host LOCAL\n/32 host LOCAL", &routes()).is_empty());
        assert!(parse_routes("a b c\n\n1 2 3 4 5 6 7 xyz").is_empty());
    }

    #[test]
    fn loopback_is_left_out_here() {
        assert!(interfaces().iter().all(|interface| interface.name != "lo"));
    }
}
