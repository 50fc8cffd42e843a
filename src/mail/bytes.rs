//! Looking for bytes and lines, fast enough for bodies.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours.

/// The next `needle` at or after `from`. Blocks of 32 so that the compiler vectorizes.
pub(super) fn find(data: &[u8], needle: u8, from: usize) -> Option<usize> {
    let rest = data.get(from..)?;
    let mut at = from;
    for block in rest.chunks(32) {
        let hit = block
            .iter()
            .fold(0u8, |hit, b| hit | u8::from(*b == needle));
        if hit != 0 {
            return block.iter().position(|b| *b == needle).map(|i| at + i);
        }
        at += block.len();
    }
    None
}

/// The line at `pos`: where its text ends (before CRLF or LF) and where the next one starts.
pub(super) fn line(data: &[u8], pos: usize) -> (usize, usize) {
    match find(data, b'\n', pos) {
        Some(lf) if lf > pos && data[lf - 1] == b'\r' => (lf - 1, lf + 1),
        Some(lf) => (lf, lf + 1),
        None => (data.len(), data.len()),
    }
}

/// Lines of a body; a last one without its line break counts.
pub(super) fn count_lines(body: &[u8]) -> usize {
    let full: usize = body
        .chunks(192)
        .map(|block| usize::from(block.iter().map(|b| u8::from(*b == b'\n')).sum::<u8>()))
        .sum();
    full + usize::from(body.last().is_some_and(|b| *b != b'\n'))
}

pub(super) fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    trim_end(bytes)
}

pub(super) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// At most `max` bytes of `text`, cut between characters.
pub(super) fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}
