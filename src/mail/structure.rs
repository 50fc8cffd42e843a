//! The MIME tree of a message (RFC 2045, RFC 2046) as offsets into its bytes.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! One pass over the lines with a stack of what is open; no recursion, not even in drop: the
//! nodes lie in one vector. Invariants: every range lies in the message, a child's ranges lie
//! in its parent's body. Beyond the limits the rest is one opaque part.

use std::ops::Range;

use super::bytes::{count_lines, line};
use super::content::{ContentType, Disposition, first_token};
use super::header::fields_within_limit;

/// Multiparts and messages inside each other.
const MAX_DEPTH: usize = 50;
const MAX_PARTS: usize = 5_000;
/// RFC 2046 allows 70; a line holds 998.
const MAX_BOUNDARY: usize = 998;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Leaf,
    /// At least one child.
    Multipart,
    /// message/rfc822 or message/global: exactly one child, the message inside.
    Message,
}

/// A message (the first node, or the child of a `Message`) or a part.
#[derive(Clone, Debug)]
pub struct Node {
    /// With its blank line, where there is one.
    pub header: Range<usize>,
    pub body: Range<usize>,
    pub kind: Kind,
    /// As declared, or the default (RFC 2045, 5.2).
    pub content_type: ContentType,
    /// Where the Content-Type field lies, if there is one.
    pub declared: Option<Range<usize>>,
    /// Lower case, without comments.
    pub encoding: Option<String>,
    /// Where the raw values of other fields lie.
    pub id: Option<Range<usize>>,
    pub description: Option<Range<usize>>,
    pub md5: Option<Range<usize>>,
    pub disposition: Option<Range<usize>>,
    pub language: Option<Range<usize>>,
    pub location: Option<Range<usize>>,
    pub parent: Option<usize>,
    pub children: Vec<usize>,
    /// Too deep, too many, or a message in an encoding: not looked into.
    pub opaque: bool,
}

impl Node {
    pub fn disposition(&self, raw: &[u8]) -> Option<Disposition> {
        Disposition::parse(raw.get(self.disposition.clone()?)?)
    }

    /// Lines of the body.
    pub fn lines(&self, raw: &[u8]) -> usize {
        raw.get(self.body.clone()).map_or(0, count_lines)
    }
}

/// See the head of the file. Node 0 is the message itself.
#[derive(Clone, Debug)]
pub struct Structure {
    nodes: Vec<Node>,
}

impl Structure {
    pub fn parse(raw: &[u8]) -> Structure {
        let mut walker = Walker {
            raw,
            nodes: Vec::new(),
            open: Vec::new(),
            live: 0,
        };
        walker.walk();
        Structure {
            nodes: walker.nodes,
        }
    }

    /// The message itself.
    pub fn root(&self) -> &Node {
        &self.nodes[0]
    }

    /// Parents before children, otherwise in the order of the message.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The promises of this file, for tests and fuzzers.
    pub(super) fn check(&self, raw: &[u8]) {
        assert!(self.nodes.len() <= 2 * MAX_PARTS + 2);
        for (index, node) in self.nodes.iter().enumerate() {
            assert!(node.header.start <= node.header.end && node.header.end <= node.body.start);
            assert!(node.body.start <= node.body.end && node.body.end <= raw.len());
            match node.kind {
                Kind::Leaf => assert!(node.children.is_empty()),
                Kind::Multipart => assert!(!node.children.is_empty()),
                Kind::Message => assert!(node.children.len() == 1),
            }
            if let Some(parent) = node.parent {
                assert!(parent < index && self.nodes[parent].children.contains(&index));
                let body = &self.nodes[parent].body;
                assert!(body.start <= node.header.start && node.body.end <= body.end);
            }
        }
    }
}

struct Open {
    node: usize,
    /// The header is not over yet.
    in_header: bool,
    /// Of a multipart whose closing boundary has not come.
    boundary: Option<Vec<u8>>,
}

struct Walker<'a> {
    raw: &'a [u8],
    nodes: Vec<Node>,
    open: Vec<Open>,
    /// How many of `open` have a boundary.
    live: usize,
}

impl Walker<'_> {
    fn walk(&mut self) {
        self.push(0);
        let end = self.raw.len();
        let mut pos = 0;
        while pos < end {
            let in_header = self.open.last().is_some_and(|open| open.in_header);
            if !in_header && self.live == 0 {
                break;
            }
            let (line_end, next) = line(self.raw, pos);
            if self.live > 0
                && self.raw[pos..line_end].starts_with(b"--")
                && let Some((level, closing)) = self.boundary(&self.raw[pos + 2..line_end])
            {
                self.close(level + 1, pos, before_break(self.raw, pos));
                if closing {
                    self.open[level].boundary = None;
                    self.live -= 1;
                } else if self.nodes.len() >= MAX_PARTS {
                    self.push_opaque(next);
                    break;
                } else {
                    self.push(next);
                }
            } else if in_header && line_end == pos {
                self.end_header(next);
            }
            pos = next;
        }
        self.close(0, end, end);
    }

    /// Opens a part (or message) whose header starts at `pos`.
    fn push(&mut self, pos: usize) {
        let node = add(&mut self.nodes, pos, self.open.last().map(|open| open.node));
        self.open.push(Open {
            node,
            in_header: true,
            boundary: None,
        });
    }

    fn push_opaque(&mut self, pos: usize) {
        let node = add(&mut self.nodes, pos, self.open.last().map(|open| open.node));
        self.nodes[node].content_type = ContentType::new("application", "octet-stream");
        self.nodes[node].opaque = true;
        self.open.push(Open {
            node,
            in_header: false,
            boundary: None,
        });
    }

    /// The header of the innermost part ends before `pos`: what is it, and what follows?
    fn end_header(&mut self, pos: usize) {
        let depth = self.open.len();
        let full = self.nodes.len() >= MAX_PARTS;
        let Some(open) = self.open.last_mut() else {
            return;
        };
        open.in_header = false;
        let node = &mut self.nodes[open.node];
        node.header.end = pos;
        node.body = pos..pos;
        read_fields(self.raw, node);
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
    /// `end`: the line break before the delimiter belongs to it, even if it is a blank line.
    fn close(&mut self, level: usize, pos: usize, end: usize) {
        // A message without its blank line opens the message inside, hence a loop.
        while self.open.len() > level && self.open.last().is_some_and(|open| open.in_header) {
            self.end_header(pos);
        }
        let mut limit = pos;
        for open in self.open.drain(level.min(self.open.len())..) {
            self.live -= usize::from(open.boundary.is_some());
            let node = &mut self.nodes[open.node];
            node.header = node.header.start.min(limit)..node.header.end.min(limit);
            node.body.start = node.body.start.min(limit);
            node.body.end = node.body.start.max(end.min(limit));
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

fn read_fields(raw: &[u8], node: &mut Node) {
    let start = node.header.start;
    for field in fields_within_limit(&raw[node.header.clone()]) {
        let Some((prefix, name)) = field.name.split_at_checked(8) else {
            continue;
        };
        if !prefix.eq_ignore_ascii_case(b"content-") {
            continue;
        }
        let at = start + field.value_range.start..start + field.value_range.end;
        let slot = match name.to_ascii_lowercase().as_slice() {
            b"type" => {
                if node.declared.is_none() {
                    node.declared = Some(at);
                }
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
    if let Some(at) = node.declared.clone() {
        // Invalid is like absent, but never a digest's default.
        node.content_type =
            ContentType::parse(&raw[at]).unwrap_or_else(|| ContentType::new("text", "plain"));
    }
}

fn is_message(content_type: &ContentType) -> bool {
    content_type.is("message", "rfc822") || content_type.is("message", "global")
}

fn boundary_of(content_type: &ContentType) -> Option<Vec<u8>> {
    let boundary = content_type.param("boundary")?.trim_ascii_end();
    (!boundary.is_empty() && boundary.len() <= MAX_BOUNDARY).then(|| boundary.to_vec())
}

fn before_break(raw: &[u8], pos: usize) -> usize {
    match &raw[..pos] {
        [.., b'\r', b'\n'] => pos - 2,
        [.., b'\n'] => pos - 1,
        _ => pos,
    }
}
