//! Mail addresses and domains (RFC 5321, 4.1.2; RFC 6531, 3.3).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::nfc;

/// A domain, compared in its normal form: lower-case A-labels, or an address literal `[...]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

/// A mailbox address, `local@domain`. The local part is kept as given, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    local: String,
    domain: Domain,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    #[error("empty domain")]
    Empty,
    #[error("domain longer than 255 bytes")]
    TooLong,
    #[error("not a valid domain name")]
    Invalid,
    #[error("not a valid address literal")]
    Literal,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("no @ in the address")]
    NoAt,
    #[error("empty local part")]
    EmptyLocal,
    #[error("local part longer than 240 bytes")]
    LongLocal,
    #[error("character that needs quotes, or is not allowed, in the local part")]
    Local,
    #[error("address longer than 254 bytes")]
    TooLong,
    #[error(transparent)]
    Domain(#[from] DomainError),
}

impl Domain {
    /// Parses a domain name (U-labels become A-labels) or an address literal
    /// `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321, 4.1.3).
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        if text.len() > 255 {
            return Err(DomainError::TooLong);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(DomainError::Literal)?;
            let ip: std::net::IpAddr = match inner.get(..5) {
                Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
                    let v6: std::net::Ipv6Addr =
                        inner[5..].parse().map_err(|_| DomainError::Literal)?;
                    v6.into()
                }
                _ => {
                    let v4: std::net::Ipv4Addr = inner.parse().map_err(|_| DomainError::Literal)?;
                    v4.into()
                }
            };
            return Ok(Self(match ip {
                std::net::IpAddr::V4(ip) => format!("[{ip}]"),
                std::net::IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
            }));
        }
        let ascii = idna::domain_to_ascii(text).map_err(|_| DomainError::Invalid)?;
        let label_ok = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if ascii.len() > 253 || !ascii.split('.').all(label_ok) {
            return Err(DomainError::Invalid);
        }
        Ok(Self(ascii))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }
}

impl Address {
    /// Longest local part that is taken from others, in bytes.
    pub const MAX_LOCAL: usize = 240;

    /// Parses `local@domain` or `"quoted local"@domain`, without angle brackets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > 254 + Self::MAX_LOCAL {
            return Err(AddressError::TooLong);
        }
        let (local, rest) = match text.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (local, rest) = text.split_once('@').ok_or(AddressError::NoAt)?;
                (local.to_owned(), rest)
            }
        };
        if !text.starts_with('"') && !is_dot_string(&local) {
            return Err(if local.is_empty() {
                AddressError::EmptyLocal
            } else {
                AddressError::Local
            });
        }
        Self::from_parts(local, Domain::parse(rest)?)
    }

    /// From an unquoted local part and a domain. Control characters are refused.
    pub fn from_parts(local: String, domain: Domain) -> Result<Self, AddressError> {
        // RFC 5321, 4.5.3.1.1 has 64; senders that encode a return address in it need more.
        if local.len() > Self::MAX_LOCAL {
            return Err(AddressError::LongLocal);
        }
        if local.chars().any(char::is_control) {
            return Err(AddressError::Local);
        }
        if local.len() + 1 + domain.0.len() > 254 {
            return Err(AddressError::TooLong);
        }
        Ok(Self { local, domain })
    }

    /// The local part without quotes, case as given.
    pub fn local(&self) -> &str {
        &self.local
    }

    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The form under which local addresses are looked up: local part in lower case, and in
    /// Unicode's form C, because keyboards differ in what they send (RFC 6532, 3.1).
    pub fn lookup_key(&self) -> String {
        let lower = self.local.to_lowercase();
        format!("{}@{}", nfc(&lower), self.domain.0)
    }

    /// The same address without its sub-address (`alice+x@` → `alice@`), if it has one.
    pub fn without_detail(&self, separator: char) -> Option<Self> {
        let (user, _) = self.local.split_once(separator)?;
        (!user.is_empty()).then(|| Self {
            local: user.to_owned(),
            domain: self.domain.clone(),
        })
    }
}

/// `Dot-string` of RFC 5321 with the UTF-8 of RFC 6531.
fn is_dot_string(local: &str) -> bool {
    let atext = |c: char| {
        c.is_ascii_alphanumeric()
            || "!#$%&'*+-/=?^_`{|}~".contains(c)
            || (!c.is_ascii() && !c.is_control())
    };
    !local.is_empty()
        && local
            .split('.')
            .all(|atom| !atom.is_empty() && atom.chars().all(atext))
}

/// Takes the text after an opening quote; gives the unquoted local part and what follows `"@`.
fn unquote(text: &str) -> Result<(String, &str), AddressError> {
    let mut local = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let rest = text[at + 1..].strip_prefix('@').ok_or(AddressError::NoAt)?;
                return Ok((local, rest));
            }
            '\\' => match chars.next() {
                Some((_, c)) if (' '..='~').contains(&c) => local.push(c),
                _ => return Err(AddressError::Local),
            },
            c if c.is_control() => return Err(AddressError::Local),
            c => local.push(c),
        }
    }
    Err(AddressError::NoAt)
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if c == '"' || c == '\\' {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

impl TryFrom<String> for Domain {
    type Error = DomainError;
    fn try_from(text: String) -> Result<Self, DomainError> {
        Self::parse(&text)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_rfc_5321_allows() {
        for (text, local, shown) in [
            ("alice@Example.ORG", "alice", "alice@example.org"),
            ("\"a b\"@x.test", "a b", "\"a b\"@x.test"),
            ("\"a\\\"@\\\\\"@x.test", "a\"@\\", "\"a\\\"@\\\\\"@x.test"),
            ("\"plain\"@x.test", "plain", "plain@x.test"),
            ("a@[192.0.2.1]", "a", "a@[192.0.2.1]"),
            ("a@[IPv6:2001:DB8::1]", "a", "a@[IPv6:2001:db8::1]"),
            ("grün@bücher.example", "grün", "grün@xn--bcher-kva.example"),
            ("o'neil+x@x.test", "o'neil+x", "o'neil+x@x.test"),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!(
                (address.local(), address.to_string().as_str()),
                (local, shown),
                "{text}"
            );
            assert_eq!(Address::parse(&address.to_string()), Ok(address), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "alice",
            "@x.test",
            "a@",
            "a b@x.test",
            ".a@x.test",
            "a..b@x.test",
            "a@-x.test",
            "a@x..test",
            "a@[1.2.3]",
            "a@[IPv6:zz]",
            "\"a@x.test",
            "\"a\"x@x.test",
            "a\r@x.test",
            "\"a\nb\"@x.test",
            "a@b@c.test",
            "a@x.test ",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(
            Address::parse(&format!("{}@x.test", "a".repeat(241))),
            Err(AddressError::LongLocal)
        );
    }

    #[test]
    fn drops_the_detail() {
        let address = Address::parse("alice+lists@x.test").expect("valid");
        assert_eq!(
            address.without_detail('+').map(|a| a.to_string()),
            Some("alice@x.test".into())
        );
        assert_eq!(
            Address::parse("+x@x.test")
                .expect("valid")
                .without_detail('+'),
            None
        );
    }
}
