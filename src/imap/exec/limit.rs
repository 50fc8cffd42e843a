//! No command works on more than so many messages, where a limit is configured (RFC 9738). The
//! last ones by UID are worked on, and the answer tells how far that came.

use super::{Answer, Exec, Out, Refusal};
use crate::imap::command::SearchKey;
use crate::imap::search::resolve;
use crate::store::{Message, Snapshot};
use crate::types::{Uid, UidSet};

impl Exec {
    /// The lowest UID that may be worked on, where more messages than may be are asked for.
    fn lowest(&self, uids: &UidSet, counts: &dyn Fn(&Message) -> bool) -> Option<Uid> {
        let selected = self.selected.as_ref().filter(|_| self.message_limit > 0)?;
        let most = self.message_limit as usize;
        let asked = uids.ranges().flat_map(|r| selected.numbering.range(r));
        let asked = asked.map(|(_, m)| m).filter(counts).map(|m| m.uid);
        let asked: Vec<Uid> = asked.collect();
        let left_out = asked.len().checked_sub(most).filter(|n| *n > 0)?;
        asked.get(left_out).copied()
    }

    /// Those of `uids` that a command may work on; that some are left out is told with its answer.
    pub(super) fn limited(&mut self, uids: UidSet) -> UidSet {
        self.limited_where(uids, &|_| true)
    }

    /// The same where only some of them count.
    pub(super) fn limited_where(
        &mut self,
        uids: UidSet,
        counts: &dyn Fn(&Message) -> bool,
    ) -> UidSet {
        self.limit_reached = self.lowest(&uids, counts);
        let Some(lowest) = self.limit_reached else {
            return uids;
        };
        let ranges = uids.ranges().filter(|r| *r.end() >= lowest.0);
        UidSet::from_ranges(ranges.map(|r| ((*r.start()).max(lowest.0), *r.end())))
    }

    /// COPY happens as a whole or not (RFC 9738, 3.1).
    pub(super) fn unlimited(&self, uids: &UidSet) -> Result<(), Refusal> {
        match self.lowest(uids, &|_| true) {
            None => Ok(()),
            Some(lowest) => Err(Refusal::No(format!(
                "[MESSAGELIMIT {} {lowest}] Too many messages at once",
                self.message_limit
            ))),
        }
    }

    /// Where a client says how many it wants, it gets them or nothing (RFC 9738, 3.1).
    pub(super) fn within_limit(&self, messages: usize) -> Result<(), Refusal> {
        let most = self.message_limit;
        if most > 0 && messages > most as usize {
            let text = format!("[MESSAGELIMIT {most}] More messages than one command may work on");
            return Err(Refusal::No(text));
        }
        Ok(())
    }

    /// The first UID that a search looks at: messages that it names by number or UID count.
    pub(super) fn search_from(&mut self, key: &SearchKey) -> u32 {
        if self.message_limit == 0 {
            return 1;
        }
        let Some(selected) = &self.selected else {
            return 1;
        };
        let named = named(key, &selected.numbering, &selected.saved);
        self.limited(named);
        self.limit_reached.map_or(1, |lowest| lowest.0)
    }

    /// With another code in the answer, an untagged NO has this one (RFC 9738, 3.1).
    pub(super) fn with_limit(&mut self, answer: Answer, out: &mut Out<'_>) -> Answer {
        let Some(lowest) = self.limit_reached.take() else {
            return answer;
        };
        let code = format!("[MESSAGELIMIT {} {lowest}]", self.message_limit);
        let mut beside = || out.line(&format!("* NO {code} The last ones only"));
        match answer {
            Ok(text) if !text.starts_with('[') => Ok(format!("{code} {text}")),
            Ok(text) => {
                beside();
                Ok(text)
            }
            Err(Refusal::No(text)) if text.starts_with("[EXPUNGEISSUED]") => {
                beside();
                Ok(text)
            }
            // What was worked on is done all the same.
            Err(Refusal::No(text))
                if ["[MODIFIED ", "[UNKNOWN-CTE]"]
                    .iter()
                    .any(|c| text.starts_with(c)) =>
            {
                beside();
                Err(Refusal::No(text))
            }
            Err(Refusal::Trouble(text)) => {
                beside();
                Err(Refusal::Trouble(text))
            }
            refused => refused,
        }
    }
}

/// UIDs outside of which nothing can match.
fn named(key: &SearchKey, numbering: &Snapshot, saved: &UidSet) -> UidSet {
    let last = numbering.last_uid().map_or(0, |uid| uid.0);
    let all = || UidSet::from_ranges([(1, last)]);
    match key {
        SearchKey::Set(set) => {
            let numbers = resolve(set, numbering.len(), &UidSet::new());
            let uid = |seq| numbering.by_seq(seq).map(|m| m.uid.0);
            let ranges = numbers.ranges().filter_map(|r| {
                let to = (*r.end()).min(numbering.len());
                Some((uid(*r.start())?, uid(to)?))
            });
            let saved = saved.ranges().filter(|_| set.has_saved());
            UidSet::from_ranges(ranges.chain(saved.map(|r| (*r.start(), *r.end()))))
        }
        SearchKey::Uid(set) => resolve(set, last, saved),
        SearchKey::And(keys) => keys.iter().fold(all(), |both, key| {
            let named = named(key, numbering, saved);
            UidSet::from_ranges(super::modseq::common(&both, &named))
        }),
        _ => all(),
    }
}
