//! The answers of SEARCH, SORT and ESEARCH (RFC 9051, 7.3.4; RFC 4731; RFC 5182; RFC 5256, 4;
//! RFC 5267, 3; RFC 6203, 4; RFC 7162, 3.1.6; RFC 7377, 2.1; RFC 9394, 3).

use std::io::Write as _;

use super::search::Hit;
use super::{Answer, Exec, Out};
use crate::imap::command::{PartialRange, Search, SearchReturn};
use crate::imap::encode;
use crate::store::Snapshot;
use crate::types::{Uid, UidSet};

/// A sequence set that keeps an order: only numbers that rise by one are ranges (RFC 5267, 3.2).
#[derive(Default)]
pub(super) struct InOrder {
    written: Vec<u8>,
    range: Option<(u32, u32)>,
}

impl InOrder {
    pub(super) fn of(numbers: impl Iterator<Item = u32>) -> Vec<u8> {
        let mut set = Self::default();
        for number in numbers {
            match &mut set.range {
                Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
                _ => {
                    set.end();
                    set.range = Some((number, number));
                }
            }
        }
        set.end();
        set.written
    }

    fn end(&mut self) {
        let Some((first, last)) = self.range.take() else {
            return;
        };
        if !self.written.is_empty() {
            self.written.push(b',');
        }
        let _ = match first == last {
            true => write!(self.written, "{first}"),
            false => write!(self.written, "{first}:{last}"),
        };
    }
}

/// What RETURN asks for.
#[derive(Default)]
struct Wanted {
    min: bool,
    max: bool,
    all: bool,
    count: bool,
    save: bool,
    relevancy: bool,
    /// Something is asked for that has no item of its own.
    hints: bool,
    partial: Option<PartialRange>,
}

impl Wanted {
    fn of(returns: &[SearchReturn]) -> Self {
        let mut wanted = Self::default();
        for option in returns {
            match option {
                SearchReturn::Min => wanted.min = true,
                SearchReturn::Max => wanted.max = true,
                SearchReturn::All => wanted.all = true,
                SearchReturn::Count => wanted.count = true,
                SearchReturn::Save => wanted.save = true,
                SearchReturn::Relevancy => wanted.relevancy = true,
                SearchReturn::Context | SearchReturn::Update => wanted.hints = true,
                SearchReturn::Partial(range) => wanted.partial = Some(*range),
            }
        }
        // RFC 4731, 3.1
        wanted.all |= returns.is_empty();
        wanted
    }

    /// Anything but that the result is saved.
    fn tells(&self) -> bool {
        let items = self.min || self.max || self.all || self.count || self.partial.is_some();
        items || self.relevancy || self.hints && !self.save
    }

    /// What is told of, and what is saved as `$` (RFC 5182, 2.4; RFC 9394, 3.2).
    fn saved(&self, found: &[Hit]) -> UidSet {
        let narrow = self.min || self.max || self.partial.is_some();
        if !narrow || self.all || self.count {
            return found.iter().map(|hit| hit.uid).collect();
        }
        let part = self.partial.map_or(0..0, |range| range.of(found.len()));
        let min = found.first().filter(|_| self.min);
        let max = found.last().filter(|_| self.max);
        let part = found.get(part).unwrap_or_default();
        part.iter()
            .chain(min)
            .chain(max)
            .map(|hit| hit.uid)
            .collect()
    }
}

impl Exec {
    /// `found` is in the order that was asked for, and was found in `current`.
    pub(super) fn answer(
        &mut self,
        search: &Search,
        current: &Snapshot,
        found: &[Hit],
        out: &mut Out<'_>,
    ) -> Answer {
        let number = |hit: &Hit| if search.uid { hit.uid } else { hit.seq };
        let done = if search.sort.is_some() {
            "Sorted"
        } else {
            "Searched"
        };
        let classic = search.sort.is_some() || !self.enabled.rev2;
        let returns = match &search.returns {
            None if !classic => Some(&[][..]),
            returns => returns.as_deref(),
        };
        let wanted = Wanted::of(returns.unwrap_or_default());
        // RFC 7162, 3.1.6; RFC 4731, 3.2
        let modseq = if search.key.has_modseq() {
            let told = wanted.saved(found);
            let modseq = |uid| current.by_uid(Uid(uid)).map(|m| m.modseq);
            told.iter().filter_map(modseq).max()
        } else {
            None
        };
        if returns.is_none() {
            let name: &[u8] = match search.sort {
                Some(_) => b"* SORT",
                None => b"* SEARCH",
            };
            out.buf.extend_from_slice(name);
            for hit in found {
                let _ = write!(out.buf, " {}", number(hit));
            }
            if let Some(modseq) = modseq {
                let _ = write!(out.buf, " (MODSEQ {modseq})");
            }
            out.line("");
            return Ok(done.into());
        }
        if wanted.save {
            self.save(search, found);
        }
        if wanted.tells() {
            out.buf.extend_from_slice(b"* ESEARCH (");
            out.buf.extend_from_slice(&self.correlator(None));
            out.buf.push(b')');
            if search.uid {
                out.buf.extend_from_slice(b" UID");
            }
            result(&wanted, found, &number, &mut out.buf);
            if let Some(modseq) = modseq {
                let _ = write!(out.buf, " MODSEQ {modseq}");
            }
            out.line("");
        }
        Ok(done.into())
    }

    /// ESEARCH of one of several mailboxes, in which something was found (RFC 7377, 2.1).
    pub(super) fn answer_of(
        &self,
        search: &Search,
        mailbox: &str,
        now: &Snapshot,
        found: &[Hit],
        out: &mut Out<'_>,
    ) {
        let wanted = Wanted::of(search.returns.as_deref().unwrap_or_default());
        out.buf.extend_from_slice(b"* ESEARCH (");
        out.buf
            .extend_from_slice(&self.correlator(Some((mailbox, now))));
        out.buf.extend_from_slice(b") UID");
        result(&wanted, found, &|hit| hit.uid, &mut out.buf);
        if search.key.has_modseq() {
            let modseq = |uid| now.by_uid(Uid(uid)).map(|m| m.modseq);
            if let Some(modseq) = wanted.saved(found).iter().filter_map(modseq).max() {
                let _ = write!(out.buf, " MODSEQ {modseq}");
            }
        }
        out.line("");
    }

    /// What an ESEARCH says of the command that it answers.
    pub(super) fn correlator(&self, mailbox: Option<(&str, &Snapshot)>) -> Vec<u8> {
        let mut text = format!("TAG \"{}\"", self.tag).into_bytes();
        if let Some((name, snapshot)) = mailbox {
            text.extend_from_slice(b" MAILBOX ");
            encode::mailbox(&mut text, name, self.enabled.utf8());
            let _ = write!(text, " UIDVALIDITY {}", snapshot.uid_validity());
        }
        text
    }

    /// As `$` (RFC 5182).
    pub(super) fn save(&mut self, search: &Search, found: &[Hit]) {
        let wanted = Wanted::of(search.returns.as_deref().unwrap_or_default());
        if let Some(selected) = self.selected.as_mut() {
            selected.saved = wanted.saved(found);
        }
    }

    /// After NO: where the result was to be saved, nothing is; else `$` stays as it was
    /// (RFC 5182, 2.1).
    pub(super) fn forget_saved(&mut self, save: bool) {
        if let Some(selected) = self.selected.as_mut().filter(|_| save) {
            selected.saved = UidSet::new();
        }
    }
}

/// The items of an ESEARCH.
fn result(wanted: &Wanted, found: &[Hit], number: &dyn Fn(&Hit) -> u32, out: &mut Vec<u8>) {
    if let (true, Some(first)) = (wanted.min, found.first()) {
        let _ = write!(out, " MIN {}", number(first));
    }
    if let (true, Some(last)) = (wanted.max, found.last()) {
        let _ = write!(out, " MAX {}", number(last));
    }
    if wanted.all && !found.is_empty() {
        out.extend_from_slice(b" ALL ");
        out.extend_from_slice(&InOrder::of(found.iter().map(number)));
    }
    if let Some(range) = wanted.partial {
        let part = found.get(range.of(found.len())).unwrap_or_default();
        let _ = write!(out, " PARTIAL ({range} ");
        match part {
            [] => out.extend_from_slice(b"NIL"),
            part => out.extend_from_slice(&InOrder::of(part.iter().map(number))),
        }
        out.push(b')');
    }
    if wanted.relevancy {
        // RFC 6203, 4: in the order of what is told.
        let part = wanted
            .partial
            .map_or(0..found.len(), |range| range.of(found.len()));
        out.extend_from_slice(b" RELEVANCY (");
        let mut between = "";
        for hit in found.get(part).unwrap_or_default() {
            let _ = write!(out, "{between}{}", hit.score);
            between = " ";
        }
        out.push(b')');
    }
    if wanted.count {
        let _ = write!(out, " COUNT {}", found.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_only_rise() {
        let set =
            |numbers: &[u32]| String::from_utf8(InOrder::of(numbers.iter().copied())).unwrap();
        assert_eq!(set(&[]), "");
        assert_eq!(set(&[1, 2, 3, 5]), "1:3,5");
        // RFC 5267, 3.3
        assert_eq!(
            set(&[23765, 23764, 23763, 23761]),
            "23765,23764,23763,23761"
        );
        assert_eq!(set(&[u32::MAX, 1, 2]), "4294967295,1:2");
    }

    #[test]
    fn places_of_a_partial_result() {
        let of = |from, to, from_end, len| PartialRange { from, to, from_end }.of(len);
        assert_eq!(of(1, 500, false, 23764), 0..500);
        assert_eq!(of(23500, 24000, false, 23764), 23499..23764);
        assert!(of(24000, 24500, false, 23764).is_empty());
        assert_eq!(of(500, 1, false, 10), 0..10);
        assert_eq!(of(1, 100, true, 23764), 23664..23764);
        assert_eq!(of(2, 3, true, 2), 0..1);
        assert!(of(3, 9, true, 2).is_empty());
        assert!(of(1, 1, true, 0).is_empty());
        assert_eq!(of(u32::MAX, 1, true, 3), 0..3);
    }

    #[test]
    fn what_is_saved_depends_on_what_is_returned() {
        let hits: Vec<Hit> = (1..=9)
            .map(|uid| Hit {
                seq: uid,
                uid,
                score: 0,
            })
            .collect();
        let partial = SearchReturn::Partial(PartialRange {
            from: 3,
            to: 4,
            from_end: false,
        });
        let saved = |returns: &[SearchReturn]| Wanted::of(returns).saved(&hits).to_string();
        // RFC 9394, 3.2, table 1
        let (min, max, count) = (SearchReturn::Min, SearchReturn::Max, SearchReturn::Count);
        assert_eq!(saved(&[partial]), "3:4");
        assert_eq!(saved(&[partial, min]), "1,3:4");
        assert_eq!(saved(&[partial, max]), "3:4,9");
        assert_eq!(saved(&[partial, min, max]), "1,3:4,9");
        assert_eq!(saved(&[partial, count, min]), "1:9");
        // RFC 5182, 2.4
        assert_eq!(saved(&[min]), "1");
        assert_eq!(saved(&[min, max]), "1,9");
        assert_eq!(saved(&[min, count]), "1:9");
        assert_eq!(saved(&[SearchReturn::Save]), "1:9");
    }
}
