//! What can be told of a request without a store.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! May import: types.

use super::protocol::{Failure, FailureKind, Request};
use crate::types::{Address, Domain};

impl Request {
    /// Whether its names are names, before anybody is asked for a password or makes a store.
    pub fn check(&self) -> Result<(), Failure> {
        match self {
            Self::AccountAdd { address, .. }
            | Self::AccountPasswd { address, .. }
            | Self::AccountRemove { address, .. }
            | Self::AccountRestore { address }
            | Self::AccountQuota { address, .. }
            | Self::AccountShow { address }
            | Self::AliasRemove { address }
            | Self::DeviceList { address }
            | Self::DeviceAdd { address, .. }
            | Self::DeviceRemove { address, .. }
            | Self::DeviceTest { address, .. }
            | Self::Import { address }
            | Self::Export {
                address: Some(address),
                ..
            } => parse_address(address).map(drop),
            Self::AliasAdd { address, targets } => {
                parse_address(address)?;
                targets.iter().try_for_each(|t| parse_address(t).map(drop))
            }
            Self::DomainAdd { domain } | Self::DomainRemove { domain } => {
                parse_domain(domain).map(drop)
            }
            Self::AccountList
            | Self::AliasList
            | Self::DomainList
            | Self::StoreImage
            | Self::StoreCompact
            | Self::StoreCheck { .. }
            | Self::StoreHold
            | Self::Status
            | Self::Export { address: None, .. } => Ok(()),
        }
    }

    /// True for what takes as long as it takes, and tells how far it is.
    pub fn is_long(&self) -> bool {
        matches!(
            self,
            Self::StoreImage | Self::StoreCompact | Self::StoreCheck { .. } | Self::StoreHold
        )
    }

    /// True for what sense has with an empty store: a store is not made for anything else.
    pub fn begins_a_store(&self) -> bool {
        matches!(self, Self::DomainAdd { .. })
    }
}

pub(super) fn parse_address(text: &str) -> Result<Address, Failure> {
    let wrong = |reason: String| {
        Failure::new(
            FailureKind::Usage,
            format!("`{text}` is not a mail address: {reason}"),
        )
    };
    let address = Address::parse(text).map_err(|error| wrong(error.to_string()))?;
    // RFC 5321, 4.5.3.1.1: others need not take more.
    if address.local().len() > 64 {
        return Err(wrong("local part longer than 64 bytes".into()));
    }
    Ok(address)
}

pub(super) fn parse_domain(text: &str) -> Result<Domain, Failure> {
    let usage = |reason: String| {
        Failure::new(
            FailureKind::Usage,
            format!("`{text}` is not a mail domain: {reason}"),
        )
    };
    match Domain::parse(text) {
        Ok(domain) if domain.is_literal() => Err(usage("it is an address".into())),
        Ok(domain) => Ok(domain),
        Err(error) => Err(usage(error.to_string())),
    }
}
