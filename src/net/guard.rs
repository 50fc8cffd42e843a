//! Which addresses a URL given by a user may lead to: no internal target is reached through us.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Used twice: when a device is registered, on the URL; and at every connection, on each
//! resolved address, so that a name which changes its address gains nothing. May import: types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use serde::Serialize;

use crate::types::{Target, TargetError};

/// Longest endpoint that is taken, in bytes.
pub const MAX_ENDPOINT: usize = 2048;

/// Why a target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    #[error("the endpoint is not a valid URL")]
    Url,
    #[error("the endpoint is longer than {MAX_ENDPOINT} bytes")]
    TooLong,
    #[error("the endpoint must be an https: URL")]
    Scheme,
    #[error("the endpoint must not hold a user name or password")]
    UserInfo,
    #[error("the endpoint must not have a fragment")]
    Fragment,
    #[error("the endpoint's port is not allowed")]
    Port,
    #[error("the endpoint leads to an address that is not allowed")]
    Address,
}

/// Targets that are allowed although the rules would refuse them.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allowed: Vec<Target>,
    http: bool,
}

impl Guard {
    /// `allow` as in `[push] allow_private`; `http` permits plain `http:` at those targets.
    pub fn new(allow: &[String], http: bool) -> Result<Self, TargetError> {
        let allowed = allow.iter().map(|entry| Target::parse(entry));
        Ok(Self {
            allowed: allowed.collect::<Result<_, _>>()?,
            http,
        })
    }

    /// Checks everything that can be told from the URL alone. A name must still be resolved,
    /// and each of its addresses pass [`Guard::address`].
    pub fn url(&self, endpoint: &str) -> Result<Url, Refusal> {
        if endpoint.len() > MAX_ENDPOINT {
            return Err(Refusal::TooLong);
        }
        let url = Url::parse(endpoint).map_err(|_| Refusal::Url)?;
        let plain = match url.scheme() {
            "https" => false,
            "http" if self.http => true,
            _ => return Err(Refusal::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(Refusal::Fragment);
        }
        let port = url.port_or_known_default().ok_or(Refusal::Port)?;
        let host = url.host_str().ok_or(Refusal::Url)?;
        if !self.port_possible(port, plain) {
            return Err(Refusal::Port);
        }
        // The URL parser has turned `0x7f.1`, `2130706433` and the like into dotted form.
        if let Some(ip) = literal(host) {
            self.address(ip, port, plain)?;
        }
        Ok(url)
    }

    /// May a connection to this address be made? `plain`: without TLS.
    pub fn address(&self, ip: IpAddr, port: u16, plain: bool) -> Result<(), Refusal> {
        if self.allows(ip, port) && (!plain || self.http) {
            return Ok(());
        }
        if plain {
            return Err(Refusal::Scheme);
        }
        if !is_public(ip) {
            return Err(Refusal::Address);
        }
        if port != 443 {
            return Err(Refusal::Port);
        }
        Ok(())
    }

    /// True where the operator named this target himself.
    pub fn allows(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        self.allowed
            .iter()
            .any(|a| a.port.is_none_or(|p| p == port) && in_network(ip, a.network, a.bits))
    }

    /// Before the name is resolved: is there any address for which this port would pass?
    fn port_possible(&self, port: u16, plain: bool) -> bool {
        (port == 443 && !plain)
            || self
                .allowed
                .iter()
                .any(|a| a.port.is_none_or(|p| p == port))
    }
}

/// The address that a URL's host is, if it is one.
pub fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

fn in_network(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            ip.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            ip.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

/// True for an address on the public internet (the IANA special-purpose registries).
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    const REFUSED: [([u8; 4], u8); 18] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 31, 196, 0], 24),
        ([192, 52, 193, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([192, 175, 48, 0], 24),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
    ];
    !REFUSED
        .iter()
        .any(|(network, bits)| in_network(ip.into(), Ipv4Addr::from(*network).into(), *bits))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    const fn v6(a: u16, b: u16, c: u16) -> Ipv6Addr {
        Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)
    }
    /// All that is global unicast; what is outside is special, or assigned to nobody.
    const GLOBAL: (Ipv6Addr, u8) = (v6(0x2000, 0, 0), 3);
    const REFUSED: [(Ipv6Addr, u8); 4] = [
        (v6(0x2001, 0, 0), 23),
        (v6(0x2001, 0xdb8, 0), 32),
        (v6(0x2620, 0x4f, 0x8000), 48),
        (v6(0x3fff, 0, 0), 20),
    ];
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let s = ip.segments();
    let embedded =
        |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    // NAT64 and 6to4 lead to the IPv4 address within.
    if in_network(ip.into(), v6(0x64, 0xff9b, 0).into(), 96) {
        return is_public_v4(embedded(s[6], s[7]));
    }
    if s[0] == 0x2002 {
        return is_public_v4(embedded(s[1], s[2]));
    }
    let within = |(network, bits): &(Ipv6Addr, u8)| in_network(ip.into(), (*network).into(), *bits);
    within(&GLOBAL) && !REFUSED.iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_are_not_public() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.168.0.1",
            "192.175.48.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "100:0:0:1::1",
            "1fff::1",
            "2620:4f:8000::1",
            "4000::1",
            "8000::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().expect(ip)), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "2001:200::1",
            "2620:4f:8001::1",
            "2a00::1",
            "2606:4700::1111",
        ] {
            assert!(is_public(ip.parse().expect(ip)), "{ip}");
        }
    }

    #[test]
    fn urls_are_judged_after_parsing() {
        let guard = Guard::new(&[], false).expect("valid");
        for (url, refusal) in [
            ("http://push.example/a", Refusal::Scheme),
            ("ftp://push.example/a", Refusal::Scheme),
            ("nonsense", Refusal::Url),
            ("https://", Refusal::Url),
            ("https://u@push.example/a", Refusal::UserInfo),
            ("https://u:p@push.example/a", Refusal::UserInfo),
            ("https://push.example/a#x", Refusal::Fragment),
            ("https://push.example:8443/a", Refusal::Port),
            ("https://127.0.0.1/a", Refusal::Address),
            ("https://127.0.0.1./a", Refusal::Address),
            ("https://0x7f.1/a", Refusal::Address),
            ("https://2130706433/a", Refusal::Address),
            ("https://0177.0.0.1/a", Refusal::Address),
            ("https://[::1]/a", Refusal::Address),
            ("https://[::ffff:7f00:1]/a", Refusal::Address),
            ("https://169.254.169.254/latest", Refusal::Address),
        ] {
            assert_eq!(guard.url(url).err(), Some(refusal), "{url}");
        }
        for url in [
            "https://push.example/a",
            "https://push.example:443/a?b=c",
            "https://1.1.1.1/",
        ] {
            assert!(guard.url(url).is_ok(), "{url}");
        }
        let long = format!("https://push.example/{}", "a".repeat(MAX_ENDPOINT));
        assert_eq!(guard.url(&long).err(), Some(Refusal::TooLong));
        let fits = format!("https://push.example/{}", "a".repeat(MAX_ENDPOINT - 21));
        assert!(guard.url(&fits).is_ok());
    }

    #[test]
    fn the_allow_list_opens_exactly_what_it_names() {
        let list = ["192.168.1.20/32:8080", "127.0.0.1/32:*", "[fd00::]/64:443"].map(String::from);
        let guard = Guard::new(&list, false).expect("valid");
        for (url, ok) in [
            ("https://192.168.1.20:8080/", true),
            ("https://192.168.1.20/", false),
            ("https://192.168.1.21:8080/", false),
            ("https://127.0.0.1:1/", true),
            ("https://[::ffff:127.0.0.1]:1/", true),
            ("https://127.0.0.2:1/", false),
            ("https://[fd00::7]/", true),
            ("https://[fd00:0:0:1::7]/", false),
            ("http://127.0.0.1:1/", false),
        ] {
            assert_eq!(guard.url(url).is_ok(), ok, "{url}");
        }
        let http = Guard::new(&list, true).expect("valid");
        assert!(http.url("http://127.0.0.1:1/").is_ok());
        assert_eq!(http.url("http://1.1.1.1:1/").err(), Some(Refusal::Scheme));
        let ip = "1.1.1.1".parse().expect("valid");
        assert_eq!(http.address(ip, 80, true), Err(Refusal::Scheme));
    }

    #[test]
    fn refuses_a_malformed_allow_list() {
        for entry in ["", "1.2.3.4:80", "[::1/128]:443", "1.2.3.4/32:0"] {
            assert!(Guard::new(&[entry.to_owned()], false).is_err(), "{entry}");
        }
    }
}
