//! Targets inside the network that an operator names: `ADDRESS/BITS:PORT`.

use std::net::IpAddr;

/// A network and a port of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub network: IpAddr,
    pub bits: u8,
    /// None: all ports.
    pub port: Option<u16>,
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("`{0}` has no port")]
    NoPort(String),
    #[error("`{0}` is no port")]
    Port(String),
    #[error("`{0}` has no prefix length")]
    NoBits(String),
    #[error("`{0}` is no prefix length")]
    Bits(String),
    #[error("`{0}` is no address")]
    Address(String),
}

impl Target {
    /// `192.168.1.20/32:8080`, `127.0.0.1/32:*`, `[fd00::]/64:443`. The brackets stand around
    /// the address alone, and can be left out.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (network, port) = text
            .rsplit_once(':')
            .ok_or_else(|| TargetError::NoPort(text.into()))?;
        let port = match port {
            "*" => None,
            number => match number.parse() {
                Ok(port @ 1..) => Some(port),
                _ => return Err(TargetError::Port(number.into())),
            },
        };
        let (address, bits) = network
            .split_once('/')
            .ok_or_else(|| TargetError::NoBits(network.into()))?;
        let bare = match address.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|bare| bare.contains(':')),
            None => Some(address),
        };
        let network: IpAddr = bare
            .and_then(|bare| bare.parse().ok())
            .ok_or_else(|| TargetError::Address(address.into()))?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        match bits.parse() {
            Ok(bits) if bits <= most => Ok(Self {
                network,
                bits,
                port,
            }),
            _ => Err(TargetError::Bits(bits.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_target() {
        for (text, network, bits, port) in [
            ("192.168.1.20/32:8080", "192.168.1.20", 32, Some(8080)),
            ("10.0.0.0/8:*", "10.0.0.0", 8, None),
            ("[fd00::]/64:443", "fd00::", 64, Some(443)),
            ("::1/128:*", "::1", 128, None),
        ] {
            let network = network.parse().unwrap();
            let expected = Target {
                network,
                bits,
                port,
            };
            assert_eq!(Target::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_none_says_which_part_is_wrong() {
        for (text, reason) in [
            ("", "`` has no port"),
            ("1.2.3.4", "`1.2.3.4` has no port"),
            ("1.2.3.4/32:0", "`0` is no port"),
            ("1.2.3.4/32:65536", "`65536` is no port"),
            ("1.2.3.4:80", "`1.2.3.4` has no prefix length"),
            ("1.2.3.4/33:80", "`33` is no prefix length"),
            ("::1/129:80", "`129` is no prefix length"),
            ("x/8:80", "`x` is no address"),
            ("[::1/128]:443", "`[::1` is no address"),
            ("[::1/128:443", "`[::1` is no address"),
            ("::1]/128:443", "`::1]` is no address"),
            ("[[::1]]/128:443", "`[[::1]]` is no address"),
            ("[1.2.3.4]/32:443", "`[1.2.3.4]` is no address"),
            ("[::1]/128]:443", "`128]` is no prefix length"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert_eq!(error.to_string(), reason, "{text}");
        }
    }
}
