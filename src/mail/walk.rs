//! The walk over a message's lines that finds its structure, whatever pieces it comes in.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! One pass with a stack of what is open. Invariant: between two pieces it holds the header that
//! has begun, as far as it is looked into, and the beginning of a line; never a body.

use std::ops::Range;

use super::bytes::{count_lines, find};
use super::content::{ContentType, first_token};
use super::header::{MAX_HEADER, fields_within_limit};
use super::structure::{Headers, Kind, Node};

/// Multiparts and messages inside each other.
const MAX_DEPTH: usize = 50;
pub(super) const MAX_PARTS: usize = 5_000;
/// RFC 2046 allows 70; a line holds 998.
const MAX_BOUNDARY: usize = 998;
/// Of a line, for what may be a delimiter: two hyphens before the boundary and two after it.
const LINE: usize = MAX_BOUNDARY + 4;

struct Open {
    node: usize,
    /// The header is not over yet.
    in_header: bool,
    /// Of a multipart whose closing boundary has not come.
    boundary: Option<Vec<u8>>,
}

/// A line that has begun, or came to its end.
#[derive(Default)]
struct Line {
    len: usize,
    /// Its last byte before the line feed is CR.
    cr: bool,
    /// Behind what is kept of it there is more than blanks.
    long: bool,
}

/// A place where bodies end.
#[derive(Clone, Copy)]
struct End {
    pos: usize,
    /// Line feeds before it.
    breaks: usize,
    /// The byte before it is no line feed.
    partial: bool,
}

pub(super) struct Walker {
    nodes: Vec<Node>,
    open: Vec<Open>,
    /// How many of `open` have a boundary.
    live: usize,
    /// Nothing that follows can be a header or a delimiter.
    over: bool,
    /// Where the line begins, and how many line feeds are before it.
    pos: usize,
    breaks: usize,
    /// Length of the break of the line before, and whether that was nothing else.
    last_break: usize,
    last_empty: bool,
    last_byte: u8,
    line: Line,
    /// Its beginning, where a piece ended in it.
    begun: Vec<u8>,
    /// The header that has begun, and how long it was when the line began.
    header: Vec<u8>,
    header_before: usize,
    /// Headers of up to so many bytes; None: they are more.
    kept: Option<Headers>,
    keep: usize,
}

impl Walker {
    pub(super) fn new(keep: usize) -> Self {
        let mut walker = Self {
            nodes: Vec::new(),
            open: Vec::new(),
            live: 0,
            over: false,
            pos: 0,
            breaks: 0,
            last_break: 0,
            last_empty: true,
            last_byte: b'\n',
            line: Line::default(),
            begun: Vec::new(),
            header: Vec::new(),
            header_before: 0,
            kept: (keep > 0).then(Headers::default),
            keep,
        };
        walker.push(0);
        walker
    }

    pub(super) fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(last) = rest.last() {
            if self.line.len == 0 && !self.in_header() && self.live == 0 {
                self.over = true;
            }
            if self.over {
                self.pos += rest.len();
                // A last line without its break is no break.
                self.breaks += count_lines(rest) - usize::from(*last != b'\n');
                self.last_byte = *last;
                return;
            }
            let end = find(rest, b'\n', 0);
            let (text, after) = rest.split_at(end.unwrap_or(rest.len()));
            let ended = end.is_some();
            let whole = &rest[..text.len() + usize::from(ended)];
            if self.in_header() {
                let room = MAX_HEADER - self.header.len();
                self.header
                    .extend_from_slice(&whole[..whole.len().min(room)]);
            }
            self.last_byte = whole.last().copied().unwrap_or_default();
            if let Some(last) = text.last() {
                self.line.cr = *last == b'\r';
            }
            if self.line.len == 0 && ended {
                self.line.len = text.len();
                self.line(text, true);
            } else {
                let room = LINE - self.begun.len();
                let (kept, cut) = text.split_at(text.len().min(room));
                self.begun.extend_from_slice(kept);
                self.line.long |= !cut.trim_ascii().is_empty();
                self.line.len += text.len();
                if ended {
                    let begun = std::mem::take(&mut self.begun);
                    self.line(&begun, true);
                    self.begun = begun;
                    self.begun.clear();
                }
            }
            rest = after.get(1..).unwrap_or_default();
        }
    }

    pub(super) fn finish(mut self) -> (Vec<Node>, Option<Headers>) {
        if self.line.len > 0 {
            let begun = std::mem::take(&mut self.begun);
            self.line(&begun, false);
        }
        let end = End {
            pos: self.pos,
            breaks: self.breaks,
            partial: self.last_byte != b'\n',
        };
        self.close(0, self.pos, end);
        (self.nodes, self.kept)
    }

    fn in_header(&self) -> bool {
        self.open.last().is_some_and(|open| open.in_header)
    }

    /// A line with as much of its text as may be a delimiter, without its line feed.
    fn line(&mut self, text: &[u8], ended: bool) {
        let line = std::mem::take(&mut self.line);
        let next = self.pos + line.len + usize::from(ended);
        let breaks = self.breaks + usize::from(ended);
        let empty = ended && line.len == usize::from(line.cr);
        if self.live > 0
            && !line.long
            && let Some(text) = text.strip_prefix(b"--")
            && let Some((level, closing)) = self.boundary(text)
        {
            self.header.truncate(self.header_before);
            // The line break before a delimiter belongs to it, even if it is a blank line.
            let end = End {
                pos: self.pos - self.last_break,
                breaks: self.breaks - self.last_break.min(1),
                partial: !self.last_empty,
            };
            self.close(level + 1, self.pos, end);
            if closing {
                self.open[level].boundary = None;
                self.live -= 1;
            } else if self.nodes.len() >= MAX_PARTS {
                self.push_opaque(next, breaks);
                self.over = true;
            } else {
                self.push(next);
            }
        } else if empty && self.in_header() {
            self.header.truncate(self.header_before);
            self.end_header(next, breaks);
        }
        (self.pos, self.breaks) = (next, breaks);
        self.last_break = if ended { 1 + usize::from(line.cr) } else { 0 };
        self.last_empty = empty;
        self.header_before = self.header.len();
    }

    /// Opens a part (or message) whose header starts at `pos`.
    fn push(&mut self, pos: usize) {
        let node = add(&mut self.nodes, pos, self.open.last().map(|open| open.node));
        self.header.clear();
        self.open.push(Open {
            node,
            in_header: true,
            boundary: None,
        });
    }

    fn push_opaque(&mut self, pos: usize, breaks: usize) {
        let node = add(&mut self.nodes, pos, self.open.last().map(|open| open.node));
        self.nodes[node].content_type = ContentType::new("application", "octet-stream");
        self.nodes[node].opaque = true;
        self.nodes[node].lines = breaks;
        self.open.push(Open {
            node,
            in_header: false,
            boundary: None,
        });
    }

    /// The header of the innermost part ends before `pos`: what is it, and what follows?
    fn end_header(&mut self, pos: usize, breaks: usize) {
        let depth = self.open.len();
        let full = self.nodes.len() >= MAX_PARTS;
        let Some(open) = self.open.last_mut() else {
            return;
        };
        open.in_header = false;
        let node = &mut self.nodes[open.node];
        node.header.end = pos;
        node.body = pos..pos;
        // Until it is known where the body ends: those before it.
        node.lines = breaks;
        let header = std::mem::take(&mut self.header);
        read_fields(&header, node);
        let kept = self.kept.as_mut();
        if kept.is_some_and(|kept| !kept.push(node.header.start, header, self.keep)) {
            self.kept = None;
        }
        let container = node.content_type.main == "multipart" || is_message(&node.content_type);
        if !container {
            return;
        }
        let identity = matches!(
            node.encoding.as_deref(),
            None | Some("7bit" | "8bit" | "binary")
        );
        if depth > MAX_DEPTH {
            node.opaque = true;
        } else if node.content_type.main == "multipart" {
            // Whatever its encoding claims: only identity is allowed (RFC 2045, 6.4).
            match boundary_of(&node.content_type) {
                Some(boundary) => {
                    node.kind = Kind::Multipart;
                    open.boundary = Some(boundary);
                    self.live += 1;
                }
                // Invalid, so the default (RFC 2045, 5.2): its text stays readable.
                None => node.content_type = ContentType::new("text", "plain"),
            }
        } else if !identity || full {
            node.opaque = true;
        } else {
            node.kind = Kind::Message;
            self.push(pos);
        }
    }

    /// Whose delimiter is this (a line without its first `--`), and is it the last?
    /// Innermost first; nothing but blanks may follow. RFC 2046, 5.1.1 lets a reader take a line
    /// that goes on for a delimiter too; then of two boundaries of which one begins with the
    /// other (`x` and `xy`, which mailers make) the lines of one would end parts of the other.
    fn boundary(&self, line: &[u8]) -> Option<(usize, bool)> {
        let line = line.trim_ascii_end();
        self.open
            .iter()
            .enumerate()
            .rev()
            .find_map(
                |(level, open)| match line.strip_prefix(open.boundary.as_deref()?)? {
                    b"" => Some((level, false)),
                    b"--" => Some((level, true)),
                    _ => None,
                },
            )
    }

    /// Ends all that is open from `level` on, at a delimiter at `pos` (or the end). Bodies end at
    /// `end`.
    fn close(&mut self, level: usize, pos: usize, end: End) {
        // A message without its blank line opens the message inside, hence a loop.
        while self.open.len() > level && self.in_header() {
            self.end_header(pos, self.breaks);
        }
        let mut limit = pos;
        for open in self.open.drain(level.min(self.open.len())..) {
            self.live -= usize::from(open.boundary.is_some());
            let node = &mut self.nodes[open.node];
            node.header = node.header.start.min(limit)..node.header.end.min(limit);
            node.body.start = node.body.start.min(limit);
            node.body.end = node.body.start.max(end.pos.min(limit));
            node.lines = match node.body.is_empty() {
                true => 0,
                false => end.breaks.saturating_sub(node.lines) + usize::from(end.partial),
            };
            limit = node.body.end;
            if node.kind == Kind::Multipart && node.children.is_empty() {
                // The grammar of BODYSTRUCTURE wants one part at least.
                let empty = add(&mut self.nodes, limit, Some(open.node));
                self.nodes[empty].content_type = ContentType::new("text", "plain");
            }
        }
    }
}

/// A new node, empty and at `pos`.
fn add(nodes: &mut Vec<Node>, pos: usize, parent: Option<usize>) -> usize {
    let index = nodes.len();
    let mut content_type = ContentType::new("text", "plain");
    if let Some(parent) = parent {
        let above = &mut nodes[parent];
        above.children.push(index);
        if above.kind == Kind::Multipart && above.content_type.sub == "digest" {
            // RFC 2046, 5.1.5.
            content_type = ContentType::new("message", "rfc822");
        }
    }
    nodes.push(Node {
        header: pos..pos,
        body: pos..pos,
        lines: 0,
        kind: Kind::Leaf,
        content_type,
        declared: None,
        encoding: None,
        id: None,
        description: None,
        md5: None,
        disposition: None,
        language: None,
        location: None,
        parent,
        children: Vec::new(),
        opaque: false,
    });
    index
}

fn read_fields(header: &[u8], node: &mut Node) {
    let start = node.header.start;
    let mut declared: Option<Range<usize>> = None;
    for field in fields_within_limit(header) {
        let Some((prefix, name)) = field.name.split_at_checked(8) else {
            continue;
        };
        if !prefix.eq_ignore_ascii_case(b"content-") {
            continue;
        }
        let at = start + field.value_range.start..start + field.value_range.end;
        let slot = match name.to_ascii_lowercase().as_slice() {
            b"type" => {
                declared = declared.or(Some(field.value_range));
                continue;
            }
            b"transfer-encoding" => {
                if node.encoding.is_none() {
                    node.encoding = first_token(field.value);
                }
                continue;
            }
            b"id" => &mut node.id,
            b"description" => &mut node.description,
            b"md5" => &mut node.md5,
            b"disposition" => &mut node.disposition,
            b"language" => &mut node.language,
            b"location" => &mut node.location,
            _ => continue,
        };
        if slot.is_none() {
            *slot = Some(at);
        }
    }
    if let Some(at) = declared {
        node.declared = Some(start + at.start..start + at.end);
        // Invalid is like absent, but never a digest's default.
        node.content_type =
            ContentType::parse(&header[at]).unwrap_or_else(|| ContentType::new("text", "plain"));
    }
}

fn is_message(content_type: &ContentType) -> bool {
    content_type.is("message", "rfc822") || content_type.is("message", "global")
}

fn boundary_of(content_type: &ContentType) -> Option<Vec<u8>> {
    let boundary = content_type.param("boundary")?.trim_ascii_end();
    (!boundary.is_empty() && boundary.len() <= MAX_BOUNDARY).then(|| boundary.to_vec())
}
