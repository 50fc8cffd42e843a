//! STORE on condition that nobody else has changed a message (RFC 7162, 3.1.3).
//!
//! May import: types.

use std::sync::Arc;

use super::model::{FlagAction, Message};
use super::snapshot::Snapshot;
use crate::types::{Flags, ModSeq};

/// The condition, and what whoever sets it was last told of the mailbox.
#[derive(Clone, Debug)]
pub struct Unchanged {
    pub since: ModSeq,
    pub told: Option<Arc<Snapshot>>,
}

impl Unchanged {
    /// Not changed since. Or changed since, in other flags than those that are set or removed
    /// now: a message has one mod-sequence for all of them, and nobody should hear of a conflict
    /// that there is not (RFC 7162, 3.1.12). That can be told only where the client knew the
    /// message as it was told of it.
    pub(super) fn holds(
        &self,
        message: &Message,
        action: FlagAction,
        named: Flags,
        keywords: &[String],
    ) -> bool {
        if message.modseq <= self.since {
            return true;
        }
        let Some(told) = self.told.as_ref().filter(|_| action != FlagAction::Replace) else {
            return false;
        };
        if !keywords.starts_with(told.keywords()) {
            return false;
        }
        let same = |before: Message| {
            let system = before.flags.system.0 ^ message.flags.system.0;
            let other = before.flags.keywords ^ message.flags.keywords;
            system & named.system.0 == 0 && other & named.keywords == 0
        };
        let before = told.by_uid(message.uid);
        before.is_some_and(|before| before.modseq <= self.since && same(before))
    }

    /// The same before it is known which flags are named: false where it can't hold.
    pub(super) fn may_hold(&self, message: &Message) -> bool {
        let before = self.told.as_ref().and_then(|told| told.by_uid(message.uid));
        message.modseq <= self.since || before.is_some_and(|before| before.modseq <= self.since)
    }
}

impl From<ModSeq> for Unchanged {
    fn from(since: ModSeq) -> Self {
        Self { since, told: None }
    }
}
