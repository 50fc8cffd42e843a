//! Header fields (RFC 5322, 2.2), tolerantly: any line is part of some field.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! Invariant: the fields and the blank line cover the header byte for byte.

use std::borrow::Cow;
use std::ops::Range;

use super::bytes::{line, trim, trim_end};

/// More header than this is kept, but not looked into.
pub(super) const MAX_HEADER: usize = 256 * 1024;

/// One field with its continuation lines.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// Without trailing blanks; empty where the line has no colon.
    pub name: &'a [u8],
    /// What follows the colon, still folded, without the last line break.
    pub value: &'a [u8],
    /// The whole field with its line break, in the bytes that were iterated.
    pub range: Range<usize>,
    /// Where `value` lies.
    pub value_range: Range<usize>,
}

impl Field<'_> {
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The fields of a header; ends at the blank line or with the data.
pub fn fields(data: &[u8]) -> Fields<'_> {
    Fields { data, pos: 0 }
}

/// Like [`fields`], looking no further than the limit for one header.
pub(super) fn fields_within_limit(data: &[u8]) -> Fields<'_> {
    fields(&data[..data.len().min(MAX_HEADER)])
}

#[derive(Clone, Debug)]
pub struct Fields<'a> {
    data: &'a [u8],
    pos: usize,
}

impl Fields<'_> {
    /// After the last field: where the blank line starts, or the length of the data.
    pub fn position(&self) -> usize {
        self.pos
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.pos;
        if start >= self.data.len() {
            return None;
        }
        let (first_end, mut next) = line(self.data, start);
        if first_end == start {
            return None;
        }
        let mut end = first_end;
        while matches!(self.data.get(next), Some(b' ' | b'\t')) {
            (end, next) = line(self.data, next);
        }
        self.pos = next;
        let first = &self.data[start..first_end];
        let (name, value_start) = match first.iter().position(|b| *b == b':') {
            Some(colon) => (trim_end(&first[..colon]), start + colon + 1),
            None => (&first[..0], start),
        };
        Some(Field {
            name,
            value: &self.data[value_start..end],
            range: start..next,
            value_range: value_start..end,
        })
    }
}

/// The first field of that name.
pub fn field<'a>(data: &'a [u8], name: &str) -> Option<Field<'a>> {
    fields_within_limit(data).find(|field| field.is(name))
}

/// Length of the header with its blank line; all of the data where there is none.
pub fn header_len(data: &[u8]) -> usize {
    let mut pos = 0;
    while pos < data.len() {
        let (end, next) = line(data, pos);
        if end == pos {
            return next;
        }
        pos = next;
    }
    data.len()
}

/// The value on one line: line breaks and NUL go, outer blanks too (RFC 5322, 2.2.3).
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = trim(value);
    if value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        Cow::Owned(
            value
                .iter()
                .copied()
                .filter(|b| !matches!(b, b'\r' | b'\n' | 0))
                .collect(),
        )
    } else {
        Cow::Borrowed(value)
    }
}
