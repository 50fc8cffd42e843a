//! Mod-sequences in answers, and what a client that comes back missed (RFC 7162).

use std::io::Write as _;

use super::{Answer, Exec, Out, Refusal};
use crate::imap::command::{QResync, SeqNumber, SequenceSet};
use crate::store::Snapshot;
use crate::types::{ModSeq, Uid, UidSet, UidValidity};

impl Exec {
    /// A command that implies it: from now on the client hears of mod-sequences (RFC 7162, 3.1).
    pub(super) fn use_modseq(&mut self, out: &mut Out<'_>) {
        if !std::mem::replace(&mut self.enabled.condstore, true) {
            self.first_modseq(out);
        }
    }

    pub(super) fn first_modseq(&self, out: &mut Out<'_>) {
        if let Some(selected) = &self.selected {
            let highest = selected.numbering.highest_modseq();
            out.line(&format!(
                "* OK [HIGHESTMODSEQ {highest}] Mod-sequences are told"
            ));
        }
    }

    /// What the mod-sequences that were told do not say.
    pub(super) fn tell_modseq(&mut self, out: &mut Out<'_>) {
        let selected = self.selected.as_mut();
        if let Some(modseq) = selected.and_then(super::Selected::modseq_to_tell) {
            out.line(&format!(
                "* OK [HIGHESTMODSEQ {modseq}] Up to here all was told"
            ));
        }
    }

    /// The same in the tagged OK, as EXPUNGE must (RFC 7162, 3.2.7), where there is room.
    pub(super) fn with_modseq(&mut self, answer: Answer, out: &mut Out<'_>) -> Answer {
        match answer {
            Ok(text) if !text.starts_with('[') => {
                let selected = self.selected.as_mut();
                let modseq = selected.and_then(super::Selected::modseq_to_tell);
                Ok(match modseq {
                    Some(modseq) => format!("[HIGHESTMODSEQ {modseq}] {text}"),
                    None => text,
                })
            }
            answer => {
                self.tell_modseq(out);
                answer
            }
        }
    }

    /// `VANISHED (EARLIER)`: those of `asked` that went after `since` (RFC 7162, 3.2.6). Not what
    /// the client still numbers: that is told as it happens. Where not all is known any more, all
    /// that is not there is told.
    pub(super) fn vanished(
        &self,
        numbering: &Snapshot,
        since: ModSeq,
        asked: &UidSet,
        out: &mut Out<'_>,
    ) -> Result<(), Refusal> {
        let key = self.selected()?.key;
        let gone = match self.store.expunged_since(key, since)? {
            Some(gone) => UidSet::from_ranges(common(&gone, asked)),
            None => asked.clone(),
        };
        let gone = numbering.missing(&gone);
        if !gone.is_empty() {
            let _ = write!(out.buf, "* VANISHED (EARLIER) {gone}\r\n");
        }
        Ok(())
    }

    /// SELECT (QRESYNC ...): what changed while the client was away (RFC 7162, 3.2.5).
    pub(super) async fn resync(&self, known: &QResync, out: &mut Out<'_>) -> Result<(), Refusal> {
        let selected = self.selected()?;
        let numbering = selected.numbering.clone();
        if numbering.uid_validity() != UidValidity(known.uid_validity) {
            return Ok(());
        }
        let since = ModSeq(known.modseq);
        let all = UidSet::from_ranges([(1, u32::MAX)]);
        let uids = known.known.as_ref().unwrap_or(&all);
        let matched = known.matching.as_ref();
        let matched = matched.map_or(0, |(numbers, uids)| {
            matched_up_to(&numbering, numbers, uids)
        });
        match matched.checked_add(1) {
            Some(1) => self.vanished(&numbering, since, uids, out)?,
            Some(from) => {
                let behind = UidSet::from_ranges([(from, u32::MAX)]);
                let uids = UidSet::from_ranges(common(uids, &behind));
                self.vanished(&numbering, since, &uids, out)?;
            }
            None => {}
        }
        for (seq, message) in numbering.changed_since(since, uids) {
            selected.flag_change(seq, &message, &numbering, &mut out.buf);
            out.piece().await?;
        }
        Ok(())
    }

    /// The UIDs that a client may mean to have: as they stand there, `*` is the last one given.
    pub(super) fn meant(&self, set: &SequenceSet) -> Result<UidSet, Refusal> {
        let selected = self.selected()?;
        let last = selected.numbering.uid_next().0.saturating_sub(1);
        let value = |n: &SeqNumber| match n {
            SeqNumber::Number(n) => *n,
            SeqNumber::Star => last,
        };
        let ranges = set.ranges().iter().map(|(a, b)| (value(a), value(b)));
        let saved = selected.saved.ranges().filter(|_| set.has_saved());
        let saved = saved.map(|r| (*r.start(), *r.end()));
        Ok(UidSet::from_ranges(ranges.chain(saved)))
    }
}

/// The UID up to which the client knows what went: of the last message number that still stands
/// for the UID that it stood for (RFC 7162, 3.2.5.2).
fn matched_up_to(numbering: &Snapshot, numbers: &UidSet, uids: &UidSet) -> u32 {
    let pairs = numbers.iter().zip(uids.iter());
    let there = pairs.take_while(|(seq, _)| *seq <= numbering.len());
    there
        .filter(|(seq, uid)| numbering.seq_of(Uid(*uid)) == Some(*seq))
        .last()
        .map_or(0, |(_, uid)| uid)
}

/// What is in both.
pub(super) fn common(a: &UidSet, b: &UidSet) -> Vec<(u32, u32)> {
    let (mut a, mut b) = (a.ranges().peekable(), b.ranges().peekable());
    let mut out = Vec::new();
    while let (Some(one), Some(other)) = (a.peek(), b.peek()) {
        let from = *one.start().max(other.start());
        let to = *one.end().min(other.end());
        if from <= to {
            out.push((from, to));
        }
        if one.end() <= other.end() {
            a.next();
        } else {
            b.next();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_sets_have_in_common() {
        let set = |ranges: &[(u32, u32)]| UidSet::from_ranges(ranges.iter().copied());
        let both = |a: &UidSet, b: &UidSet| UidSet::from_ranges(common(a, b)).to_string();
        let (a, b) = (
            set(&[(1, 5), (9, 20), (30, 30)]),
            set(&[(4, 10), (12, 13), (30, 40)]),
        );
        assert_eq!(both(&a, &b), "4:5,9:10,12:13,30");
        assert_eq!(both(&b, &a), "4:5,9:10,12:13,30");
        assert_eq!(both(&a, &UidSet::new()), "");
    }
}
