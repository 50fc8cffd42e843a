//! The MIME tree of a message (RFC 2045, RFC 2046) as offsets into its bytes.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! `walk.rs` finds it; no recursion, not even in drop: the nodes lie in one vector. Invariants:
//! every range lies in the message, a child's ranges lie in its parent's body. Beyond the limits
//! the rest is one opaque part.

use std::ops::Range;

use super::bytes::count_lines;
use super::content::{ContentType, Disposition};
use super::walk::{MAX_PARTS, Walker};

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
    /// Lines of the body; a last one without its line break counts.
    pub lines: usize,
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
}

/// See the head of the file. Node 0 is the message itself.
#[derive(Clone, Debug)]
pub struct Structure {
    nodes: Vec<Node>,
}

impl Structure {
    pub fn parse(raw: &[u8]) -> Structure {
        let mut reader = StructureReader::new(0);
        reader.feed(raw);
        reader.finish().0
    }

    /// The message itself.
    pub fn root(&self) -> &Node {
        &self.nodes[0]
    }

    /// Parents before children, otherwise in the order of the message.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Forgets what only describes parts: what is left says where they lie, and how encoded.
    pub fn strip(&mut self) {
        for node in &mut self.nodes {
            node.content_type = ContentType::new("", "");
        }
    }

    /// The promises of this file, for tests and fuzzers.
    pub(super) fn check(&self, raw: &[u8]) {
        assert!(self.nodes.len() <= 2 * MAX_PARTS + 2);
        for (index, node) in self.nodes.iter().enumerate() {
            assert!(node.header.start <= node.header.end && node.header.end <= node.body.start);
            assert!(node.body.start <= node.body.end && node.body.end <= raw.len());
            assert!(node.lines == count_lines(&raw[node.body.clone()]));
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

/// Finds the structure of a message that comes in pieces: of all that was fed it keeps the
/// headers at most.
pub struct StructureReader(Walker);

impl StructureReader {
    /// Keeps headers of up to `keep` bytes together.
    pub fn new(keep: usize) -> Self {
        Self(Walker::new(keep))
    }

    pub fn feed(&mut self, piece: &[u8]) {
        self.0.feed(piece);
    }

    /// No more comes. Without headers where they are more than were to be kept.
    pub fn finish(self) -> (Structure, Option<Headers>) {
        let (nodes, headers) = self.0.finish();
        (Structure { nodes }, headers)
    }
}

/// The headers of a message and its parts, each as far as it is looked into.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// Where each begins, in the order of the message.
    all: Vec<(usize, Vec<u8>)>,
    bytes: usize,
}

impl Headers {
    /// Keeps another one; false: there would be more than `most` bytes.
    pub(super) fn push(&mut self, start: usize, header: Vec<u8>, most: usize) -> bool {
        self.bytes += header.len();
        if !header.is_empty() && self.bytes <= most {
            self.all.push((start, header));
        }
        self.bytes <= most
    }

    /// Bytes of the message that lie in one header; fewer where that is not kept so far.
    pub(super) fn get(&self, range: Range<usize>) -> &[u8] {
        let after = self.all.partition_point(|(start, _)| *start <= range.start);
        let Some((start, header)) = after.checked_sub(1).and_then(|at| self.all.get(at)) else {
            return &[];
        };
        let from = (range.start - start).min(header.len());
        let to = range.end.saturating_sub(*start).clamp(from, header.len());
        &header[from..to]
    }
}
