//! The order of SORT (RFC 5256, 3; RFC 5957).
//!
//! Machine: no IO, no clock, no randomness.

use std::cmp::Ordering;

use super::command::{SortCriterion, SortKey};
use super::keys::{Facts, Field, Texts};
use crate::mail::{base_subject, casemap};

/// A value that messages are ordered by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Number(i64),
    /// In the form of i;unicode-casemap.
    Text(Box<str>),
}

/// Messages with what they are sorted by.
pub struct Sorter<'a> {
    criteria: &'a [SortCriterion],
    /// For each message one value of each criterion.
    values: Vec<Value>,
}

/// INTERNALDATE as it is told: what no client can see orders nothing (RFC 5256, 2.2).
fn arrival(facts: &Facts) -> i64 {
    facts.internal.0.div_euclid(1000) * 1000
}

/// The sent date, which is the internal one where it is not known (RFC 5256, 2.2).
pub fn sent(facts: &Facts, texts: &Texts) -> i64 {
    texts.sent.map_or_else(|| arrival(facts), |(sent, _)| sent)
}

impl<'a> Sorter<'a> {
    pub fn new(criteria: &'a [SortCriterion]) -> Self {
        Self {
            criteria,
            values: Vec::new(),
        }
    }

    /// Whether anything but facts is asked for.
    pub fn needs_texts(&self) -> bool {
        self.criteria
            .iter()
            .any(|c| !matches!(c.key, SortKey::Arrival | SortKey::Size | SortKey::Relevancy))
    }

    /// The next message, in the order of the mailbox.
    pub fn push(&mut self, facts: &Facts, texts: &Texts, score: u8) {
        for criterion in self.criteria {
            let text = |text: &str| Value::Text(casemap(text).into());
            self.values.push(match criterion.key {
                SortKey::Arrival => Value::Number(arrival(facts)),
                SortKey::Date => Value::Number(sent(facts, texts)),
                SortKey::Relevancy => Value::Number(-i64::from(score)),
                SortKey::Size => Value::Number(i64::try_from(facts.size).unwrap_or(i64::MAX)),
                SortKey::Cc => text(texts.mailbox(Field::Cc)),
                SortKey::From => text(texts.mailbox(Field::From)),
                SortKey::To => text(texts.mailbox(Field::To)),
                SortKey::DisplayFrom => text(texts.display(Field::From)),
                SortKey::DisplayTo => text(texts.display(Field::To)),
                SortKey::Subject => text(&base_subject(texts.subject()).text),
            });
        }
    }

    /// The places of the messages, in their order; equal ones stay in the mailbox's.
    pub fn order(&self) -> Vec<u32> {
        let width = self.criteria.len();
        let rows: Vec<&[Value]> = self.values.chunks(width.max(1)).collect();
        let mut order: Vec<u32> = (0..rows.len())
            .filter_map(|n| u32::try_from(n).ok())
            .collect();
        let row = |n: &u32| rows.get(*n as usize).copied().unwrap_or_default();
        order.sort_by(|a, b| {
            let pairs = row(a).iter().zip(row(b)).zip(self.criteria);
            let mut different = pairs.map(|((a, b), criterion)| match criterion.reverse {
                false => a.cmp(b),
                true => b.cmp(a),
            });
            different
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        });
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Envelope, envelope_wire};
    use crate::types::BlobId;

    fn order(criteria: &[(bool, SortKey)], messages: &[(i64, u64, &str)]) -> Vec<u32> {
        let criteria: Vec<SortCriterion> = criteria
            .iter()
            .map(|(reverse, key)| SortCriterion {
                reverse: *reverse,
                key: *key,
            })
            .collect();
        let mut sorter = Sorter::new(&criteria);
        for (arrival, size, header) in messages {
            let facts = Facts {
                internal: (*arrival, 0),
                saved: 0,
                size: *size,
                blob: BlobId([0; 16]),
                variant: 0,
            };
            let wire = envelope_wire(format!("{header}\r\n\r\n").as_bytes());
            sorter.push(&facts, &Texts::of(&Envelope::read(&wire).unwrap()), 100);
        }
        sorter.order().into_iter().map(|n| n + 1).collect()
    }

    #[test]
    fn keys_one_after_the_other_and_the_mailbox_last() {
        let date = |day: u8, subject: &str| {
            format!("Date: {day} Mar 2026 10:00:00 +0000\r\nSubject: {subject}")
        };
        let texts = [
            date(3, "b"),
            date(1, "Re: a"),
            date(2, "A"),
            date(2, "b"),
            date(2, ""),
        ];
        let messages: Vec<_> = texts.iter().map(|t| (0, 0, t.as_str())).collect();
        let (subject, day) = ((false, SortKey::Subject), (true, SortKey::Date));
        assert_eq!(order(&[subject], &messages), [5, 2, 3, 1, 4]);
        assert_eq!(order(&[subject, day], &messages), [5, 3, 2, 1, 4]);
        assert_eq!(
            order(&[(true, SortKey::Subject)], &messages),
            [1, 4, 2, 3, 5]
        );
    }

    #[test]
    fn what_internaldate_does_not_show_orders_nothing() {
        let messages = [
            (5_900, 1, ""),
            (5_100, 1, ""),
            (-1, 1, ""),
            (-900, 1, ""),
            (0, 1, ""),
        ];
        for key in [SortKey::Arrival, SortKey::Date] {
            assert_eq!(order(&[(false, key)], &messages), [3, 4, 5, 1, 2]);
            assert_eq!(order(&[(true, key)], &messages), [1, 2, 5, 3, 4]);
        }
    }

    #[test]
    fn each_key_by_its_own() {
        let messages = [
            (30_000, 2, "From: Zoe <a@x>\r\nTo: b@x\r\nCc: Y <y@x>"),
            (10_000, 3, "From: b@x\r\nTo: \"anna\" <c@x>"),
            (
                20_000,
                1,
                "Date: 1 Jan 1970 00:00:00 +0000\r\nFrom: =?utf-8?q?=C3=84nne?= <c@x>\r\nTo: z",
            ),
        ];
        let one = |key| order(&[(false, key)], &messages);
        assert_eq!(one(SortKey::Arrival), [2, 3, 1]);
        assert_eq!(one(SortKey::Date), [3, 2, 1]);
        assert_eq!(one(SortKey::Size), [3, 1, 2]);
        assert_eq!(one(SortKey::From), [1, 2, 3]);
        // By decomposition: Ä is an A with something behind it.
        assert_eq!(one(SortKey::DisplayFrom), [3, 2, 1]);
        assert_eq!(one(SortKey::To), [1, 2, 3]);
        assert_eq!(one(SortKey::DisplayTo), [2, 1, 3]);
        assert_eq!(one(SortKey::Cc), [2, 3, 1]);
    }
}
