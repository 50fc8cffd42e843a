//! What one may do with a mailbox (RFC 4314, 2).
//!
//! Machine: no IO, no clock, no randomness.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Flag, Flags, SystemFlags};

/// A set of rights. The bits are in the store's records: they keep their meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rights(pub u16);

/// Letters in the order of their bits.
const LETTERS: &[u8] = b"lrswipkxtea";

impl Rights {
    pub const NONE: Self = Self(0);
    pub const LOOKUP: Self = Self(1);
    pub const READ: Self = Self(2);
    pub const SEEN: Self = Self(4);
    pub const WRITE: Self = Self(8);
    pub const INSERT: Self = Self(16);
    pub const POST: Self = Self(32);
    pub const CREATE: Self = Self(64);
    pub const DELETE: Self = Self(128);
    pub const MARK_DELETED: Self = Self(256);
    pub const EXPUNGE: Self = Self(512);
    pub const ADMINISTER: Self = Self(1024);
    pub const ALL: Self = Self(2047);
    /// `c` and `d` of RFC 2086 (2.1.1).
    const OLD_CREATE: Self = Self(Self::CREATE.0 | Self::DELETE.0);
    const OLD_DELETE: Self = Self(Self::MARK_DELETED.0 | Self::EXPUNGE.0);

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Has some of these.
    pub fn any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The letters of a command; None: one of them is no right.
    pub fn parse(letters: &[u8]) -> Option<Self> {
        letters.iter().try_fold(Self::NONE, |all, letter| {
            let more = match letter {
                b'c' => Self::OLD_CREATE,
                b'd' => Self::OLD_DELETE,
                letter => Self(1 << LETTERS.iter().position(|known| known == letter)?),
            };
            Some(all.with(more))
        })
    }

    /// Flags that may be changed (RFC 4314, 4).
    pub fn flags(self) -> Settable {
        let mut system = SystemFlags::default();
        for (flag, _) in SystemFlags::ALL {
            let needed = match flag {
                SystemFlags::SEEN => Self::SEEN,
                SystemFlags::DELETED => Self::MARK_DELETED,
                _ => Self::WRITE,
            };
            if self.contains(needed) {
                system = system.with(flag);
            }
        }
        Settable {
            system,
            keywords: self.contains(Self::WRITE),
        }
    }
}

/// As answers have them: with `c` and `d` where some of their members are there (2.1.1).
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in LETTERS.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{}", char::from(*letter))?;
            }
        }
        for (old, letter) in [(Self::OLD_CREATE, 'c'), (Self::OLD_DELETE, 'd')] {
            if self.any(old) {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// Flags that somebody may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settable {
    pub system: SystemFlags,
    pub keywords: bool,
}

impl Settable {
    pub const ALL: Self = Self {
        system: SystemFlags(u16::MAX),
        keywords: true,
    };

    pub fn has(&self, flag: &Flag) -> bool {
        match flag {
            Flag::System(system) => self.system.contains(*system),
            Flag::Keyword(_) => self.keywords,
        }
    }

    /// `new` as far as it may be, else `old`.
    pub fn change(&self, old: Flags, new: Flags) -> Flags {
        let kept = old.system.without(self.system);
        Flags {
            system: SystemFlags(new.system.0 & self.system.0).with(kept),
            keywords: match self.keywords {
                true => new.keywords,
                false => old.keywords,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_have_letters() {
        let text = |letters: &str| Rights::parse(letters.as_bytes()).map(|r| r.to_string());
        assert_eq!(Rights::ALL.to_string(), "lrswipkxteacd");
        for (letters, told) in [
            ("", ""),
            ("rl", "lr"),
            ("lrswikda", "lrswikteacd"),
            ("cda", "kxteacd"),
            ("x", "xc"),
            ("e", "ed"),
        ] {
            assert_eq!(text(letters).as_deref(), Some(told), "{letters}");
        }
        for bad in ["lrQ", "q", "0", "l r", "L"] {
            assert_eq!(text(bad), None, "{bad}");
        }
        // They are in the store.
        for (letter, bit) in LETTERS
            .iter()
            .zip([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
        {
            assert_eq!(Rights::parse(&[*letter]), Some(Rights(bit)));
        }
    }

    #[test]
    fn flags_change_by_right() {
        let flags = |system: &[SystemFlags], keywords| Flags {
            system: system
                .iter()
                .fold(SystemFlags::default(), |a, f| a.with(*f)),
            keywords,
        };
        use SystemFlags as F;
        let old = flags(&[F::DELETED, F::DRAFT], 1);
        let new = flags(&[F::SEEN, F::FLAGGED], 2);
        for (letters, after) in [
            ("", old),
            ("swt", new),
            ("s", flags(&[F::DELETED, F::DRAFT, F::SEEN], 1)),
            ("t", flags(&[F::DRAFT], 1)),
            ("w", flags(&[F::DELETED, F::FLAGGED], 2)),
        ] {
            let may = Rights::parse(letters.as_bytes())
                .unwrap_or_default()
                .flags();
            assert_eq!(may.change(old, new), after, "{letters}");
        }
        assert_eq!(Settable::ALL.change(old, new), new);
    }
}
