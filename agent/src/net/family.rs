//! The addresses of one family that the system knows of a name.

use std::ffi::{CStr, CString};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ptr;

use nix::libc;

/// IPv6 or IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V6,
    V4,
}

/// What getaddrinfo(3) made, until it is given back.
struct List(*mut libc::addrinfo);

/// Asks the system's resolver, as the standard library does, but for one family; it blocks.
#[allow(unsafe_code, reason = "the list is the C library's: it is read while we have it, and checked for its lengths")]
pub(super) fn look_up(host: &str, port: u16, family: Family) -> io::Result<Vec<SocketAddr>> {
    let host = CString::new(host)?;
    // All of its fields may be zero or null.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_family = match family {
        Family::V6 => libc::AF_INET6,
        Family::V4 => libc::AF_INET,
    };
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list = List(ptr::null_mut());
    match unsafe { libc::getaddrinfo(host.as_ptr(), ptr::null(), &hints, &mut list.0) } {
        0 => {}
        libc::EAI_SYSTEM => return Err(io::Error::last_os_error()),
        code => {
            let text = unsafe { CStr::from_ptr(libc::gai_strerror(code)) };
            return Err(io::Error::other(text.to_string_lossy()));
        }
    }
    let mut found = Vec::new();
    let mut next: *const libc::addrinfo = list.0;
    while let Some(entry) = unsafe { next.as_ref() } {
        let holds = |size: usize| entry.ai_addrlen as usize >= size && !entry.ai_addr.is_null();
        if entry.ai_family == libc::AF_INET && holds(size_of::<libc::sockaddr_in>()) {
            let address = unsafe { entry.ai_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr));
            found.push(SocketAddr::new(ip.into(), port));
        } else if entry.ai_family == libc::AF_INET6 && holds(size_of::<libc::sockaddr_in6>()) {
            let address = unsafe { entry.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            found.push(SocketAddrV6::new(ip, port, 0, address.sin6_scope_id).into());
        }
        next = entry.ai_next;
    }
    Ok(found)
}

impl Drop for List {
    #[allow(unsafe_code, reason = "it came from getaddrinfo(3), and nobody has it any more")]
    fn drop(&mut self) {
        if !self.0.is_null() {
            unsafe { libc::freeaddrinfo(self.0) };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_family_gives_its_own_addresses() {
        let v4 = look_up("localhost", 7, Family::V4).unwrap();
        assert!(v4.contains(&"127.0.0.1:7".parse().unwrap()) && v4.iter().all(SocketAddr::is_ipv4), "{v4:?}");
        assert_eq!(look_up("fe80::1%1", 7, Family::V6).unwrap(), ["[fe80::1%1]:7".parse().unwrap()]);
        assert_eq!(look_up("::1", 7, Family::V6).unwrap(), ["[::1]:7".parse().unwrap()]);
        assert!(look_up("::1", 7, Family::V4).is_err());
        for nonsense in ["not a name", "nul\0", ""] {
            assert!(look_up(nonsense, 7, Family::V6).is_err(), "{nonsense}");
        }
    }
}
