//! Message flags (RFC 9051, 2.3.2): system flags as bits, keywords as bits of a table that each
//! mailbox keeps.

use serde::{Deserialize, Serialize};

/// The system flags as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemFlags(pub u16);

impl SystemFlags {
    pub const SEEN: Self = Self(1);
    pub const ANSWERED: Self = Self(2);
    pub const FLAGGED: Self = Self(4);
    pub const DELETED: Self = Self(8);
    pub const DRAFT: Self = Self(16);

    /// All system flags with their wire names, in the order in which they are listed.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::ANSWERED, "\\Answered"),
        (Self::FLAGGED, "\\Flagged"),
        (Self::DELETED, "\\Deleted"),
        (Self::SEEN, "\\Seen"),
        (Self::DRAFT, "\\Draft"),
    ];

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The flags of one message in one mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flags {
    pub system: SystemFlags,
    /// Bit `i` is the keyword at place `i` of the mailbox's keyword table.
    pub keywords: u64,
}

/// A flag by name, as a client gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Flag {
    System(SystemFlags),
    /// A keyword; compared without regard to ASCII case, kept as first written.
    Keyword(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    #[error("unknown system flag")]
    UnknownSystem,
    #[error("not a valid keyword")]
    Keyword,
}

impl Flag {
    /// Longest keyword taken, in bytes.
    pub const MAX_KEYWORD: usize = 128;

    /// Parses `\Seen`, `$Forwarded`, `Label`. `\Recent` and unknown `\...` are errors.
    pub fn parse(name: &str) -> Result<Self, FlagError> {
        if name.starts_with('\\') {
            return SystemFlags::ALL
                .iter()
                .find(|(_, wire)| wire.eq_ignore_ascii_case(name))
                .map(|(flag, _)| Self::System(*flag))
                .ok_or(FlagError::UnknownSystem);
        }
        // flag-keyword = atom (RFC 9051, 9), and `]` besides: resp-text-code must survive it.
        let atom = |b: u8| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b);
        if name.is_empty() || name.len() > Self::MAX_KEYWORD || !name.bytes().all(atom) {
            return Err(FlagError::Keyword);
        }
        Ok(Self::Keyword(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_by_name() {
        assert_eq!(Flag::parse("\\seen"), Ok(Flag::System(SystemFlags::SEEN)));
        assert_eq!(
            Flag::parse("$Forwarded"),
            Ok(Flag::Keyword("$Forwarded".into()))
        );
        assert_eq!(Flag::parse("\\Recent"), Err(FlagError::UnknownSystem));
        assert_eq!(Flag::parse("a b"), Err(FlagError::Keyword));
        assert_eq!(Flag::parse(&"x".repeat(129)), Err(FlagError::Keyword));
    }
}
