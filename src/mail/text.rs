//! SEARCH in text (RFC 9051, 6.4.4): transfer encodings and charsets undone, case ignored.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! Invariant: memory is bounded by the windows, whatever the size of the message.

use std::borrow::Cow;
use std::ops::Range;

use icu_normalizer::ComposingNormalizerBorrowed;

use super::address::{AddressItem, parse_addresses};
use super::fuzzy::{Fuzzy, FuzzyScore};
use super::header::fields_within_limit;
use super::html::Visible;
use super::structure::{Kind, Node, Structure};
use super::transfer::Decoder;
use super::trigrams::{Slide, trigrams};
use super::words::{decode_charset, decode_words};

/// Decoded bytes looked at together.
const WINDOW: usize = 64 * 1024;
/// Charsets whose text can't be cut at line breaks are read up to here in one piece.
const WHOLE: usize = 4 * 1024 * 1024;
/// Of one field; a header within its limit has few more.
const MAX_ADDRESSES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchScope {
    /// Text and message parts; of messages inside, their headers too.
    Body,
    /// The header as well.
    Text,
}

/// The form in which texts are compared: lower case, and one form of what looks the same, as
/// RFC 5051 means it. Letters keep their accents: `a` is not found in `ä`.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let compatible = ComposingNormalizerBorrowed::new_nfkc();
    let composed = ComposingNormalizerBorrowed::new_nfc();
    let mut out = String::with_capacity(text.len());
    // Nothing is composed across a line break, and most lines are ASCII.
    for line in text.split_inclusive('\n') {
        if line.is_ascii() {
            out.extend(line.bytes().map(|b| char::from(b.to_ascii_lowercase())));
            continue;
        }
        let lower = compatible
            .normalize_iter(line.chars())
            .flat_map(char::to_lowercase)
            .map(usual);
        // What is lower case may have a composed form that upper case has not.
        out.extend(composed.normalize_iter(lower));
    }
    out
}

/// Small letters of which another one has the same title case (RFC 5051, 2): that one.
fn usual(c: char) -> char {
    match c {
        // Its form at the end of words.
        '\u{3c2}' => '\u{3c3}',
        '\u{131}' => 'i',
        // As some prints have them.
        '\u{1c80}' => '\u{432}',
        '\u{1c81}' => '\u{434}',
        '\u{1c82}' => '\u{43e}',
        '\u{1c83}' => '\u{441}',
        '\u{1c84}' | '\u{1c85}' => '\u{442}',
        '\u{1c86}' => '\u{44a}',
        '\u{1c87}' => '\u{463}',
        '\u{1c88}' => '\u{a64b}',
        _ => c,
    }
}

/// As [`fold`], with blanks in a row as one: how fields are compared.
pub fn comparable(text: &str) -> String {
    let folded = fold(text);
    match one_blank(&folded) {
        Cow::Borrowed(_) => folded,
        Cow::Owned(text) => text,
    }
}

/// A text that is looked for.
#[derive(Clone, Debug)]
pub struct Needle {
    scope: SearchScope,
    text: String,
    /// As it is looked for in headers.
    blanked: String,
    /// It is looked for roughly.
    fuzzy: Option<Fuzzy>,
}

impl Needle {
    /// The text must be folded.
    pub fn new(scope: SearchScope, text: String) -> Self {
        Self {
            blanked: one_blank(&text).into_owned(),
            scope,
            text,
            fuzzy: None,
        }
    }

    /// RFC 6203, 3.
    pub fn fuzzy(scope: SearchScope, text: &str) -> Self {
        Self {
            fuzzy: Some(Fuzzy::new(text)),
            ..Self::new(scope, fold(text))
        }
    }

    /// Looks for it in a folded text.
    fn look(&self, text: &str, needle: &str, found: &mut Finding) {
        if found.done {
            return;
        }
        match &self.fuzzy {
            None => found.done = text.contains(needle),
            Some(fuzzy) => {
                fuzzy.look(text, &mut found.score);
                found.done = found.score.is_best();
            }
        }
    }

    fn is_of(&self, scope: SearchScope) -> bool {
        scope == SearchScope::Body || self.scope == SearchScope::Text
    }

    /// What a message that contains it has among its own ([`super::Trigrams`]). Nothing where it
    /// is looked for roughly.
    pub fn trigrams(&self) -> Vec<u32> {
        match self.fuzzy {
            Some(_) => Vec::new(),
            None => trigrams(&self.text),
        }
    }

    /// What has to be kept of a piece, for words that lie across its end.
    fn overlap(&self) -> usize {
        self.text
            .len()
            .max(if self.fuzzy.is_some() { 128 } else { 0 })
    }
}

/// What is known of one needle.
struct Finding {
    /// Nothing better can come.
    done: bool,
    score: FuzzyScore,
}

/// What is told the text of a message, folded, in the order in which it stands there.
pub(super) trait Look {
    /// False where what such a header says changes nothing any more.
    fn wants(&self, scope: SearchScope) -> bool;
    /// A field as `name: value`, its blanks as one; of a header that those of `scope` look into.
    fn field(&mut self, scope: SearchScope, text: &str);
    /// The next piece of a part.
    fn piece(&mut self, tail: &mut Tail, text: &str);
}

/// The walk over a message that finds everything that TEXT and BODY are about.
pub(super) struct Walk(At);

enum At {
    Header,
    Structure,
    Node(Structure, usize),
    Part(Structure, usize, Box<Part>),
    End,
}

impl Walk {
    pub(super) fn new() -> Self {
        Self(At::Header)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.0, At::End)
    }

    /// Looks at the next piece of the message, which is the same each time.
    pub(super) fn step(&mut self, raw: &[u8], look: &mut impl Look) {
        self.0 = match std::mem::replace(&mut self.0, At::End) {
            At::Header => {
                header(raw, SearchScope::Text, look);
                At::Structure
            }
            At::Structure => At::Node(Structure::parse(raw), 0),
            At::Node(structure, n) => node(raw, structure, n, look),
            At::Part(structure, n, mut part) => {
                if part.step(raw, look) {
                    At::Node(structure, n + 1)
                } else {
                    At::Part(structure, n, part)
                }
            }
            At::End => At::End,
        };
    }
}

fn node(raw: &[u8], structure: Structure, n: usize, look: &mut impl Look) -> At {
    let Some(node) = structure.nodes().get(n) else {
        return At::End;
    };
    // MIME headers are header too: the names of attachments stand there.
    header(&raw[node.header.clone()], SearchScope::Text, look);
    match node.kind {
        Kind::Message => header(&raw[node.body.clone()], SearchScope::Body, look),
        // RFC 9051, 6.4.4: reports, and messages that were not looked into, are text too.
        Kind::Leaf if matches!(&*node.content_type.main, "text" | "message") => {
            if let Some(part) = Part::new(node) {
                return At::Part(structure, n, Box::new(part));
            }
        }
        _ => {}
    }
    At::Node(structure, n + 1)
}

/// A header that those of `scope` are looked for in; one of BODY counts for TEXT as well.
fn header(raw: &[u8], scope: SearchScope, look: &mut impl Look) {
    if !look.wants(scope) {
        return;
    }
    for field in fields_within_limit(raw) {
        let mut text = String::from_utf8_lossy(field.name).into_owned();
        text.push_str(": ");
        text.push_str(&decode_words(field.value));
        look.field(scope, &one_blank(&fold(&text)));
    }
}

/// Looks for some texts in one message, window by window, and decodes it once for all of them.
pub struct TextSearch<'a> {
    walk: Walk,
    sought: Sought<'a>,
}

struct Sought<'a> {
    needles: &'a [Needle],
    found: Vec<Finding>,
}

impl<'a> TextSearch<'a> {
    /// The empty text is everywhere.
    pub fn new(needles: &'a [Needle]) -> Self {
        let begin = |n: &Needle| Finding {
            done: n.text.is_empty(),
            score: n
                .fuzzy
                .as_ref()
                .map_or_else(FuzzyScore::default, Fuzzy::begin),
        };
        let found = needles.iter().map(begin).collect();
        Self {
            walk: Walk::new(),
            sought: Sought { needles, found },
        }
    }

    /// Whether the message contains the text, as soon as that is known.
    pub fn answer(&self, needle: usize) -> Option<bool> {
        let found = self.sought.found.get(needle)?;
        match self.sought.needles.get(needle)?.fuzzy {
            _ if found.done => Some(true),
            // It may be found better yet: that is not waited for.
            Some(_) if found.score.total() > 0 => Some(true),
            _ => self.walk.is_over().then_some(false),
        }
    }

    /// How well it was found, as far as the message was looked at: 1 to 100.
    pub fn score(&self, needle: usize) -> u8 {
        let found = self.sought.found.get(needle);
        found.map_or(0, |found| match found.score.total() {
            0 => 1,
            score => score,
        })
    }

    /// Looks at the next piece of the message, which is the same each time.
    pub fn step(&mut self, raw: &[u8]) {
        self.walk.step(raw, &mut self.sought);
    }
}

impl Look for Sought<'_> {
    fn wants(&self, scope: SearchScope) -> bool {
        let open = |(needle, found): (&Needle, &Finding)| !found.done && needle.is_of(scope);
        self.needles.iter().zip(&self.found).any(open)
    }

    fn field(&mut self, scope: SearchScope, text: &str) {
        for (needle, found) in self.needles.iter().zip(&mut self.found) {
            if needle.is_of(scope) {
                needle.look(text, &needle.blanked, found);
            }
        }
    }

    /// A text may lie across the cut: the end of what was looked at is kept.
    fn piece(&mut self, tail: &mut Tail, text: &str) {
        let tail = &mut tail.text;
        tail.push_str(text);
        let mut longest = 0;
        for (needle, found) in self.needles.iter().zip(&mut self.found) {
            needle.look(tail, &needle.text, found);
            if !found.done {
                longest = longest.max(needle.overlap());
            }
        }
        let mut keep = tail.len() - tail.len().min(longest);
        while !tail.is_char_boundary(keep) {
            keep -= 1;
        }
        tail.drain(..keep);
    }
}

/// Does the message contain the (folded) text? The empty text is everywhere.
pub fn search_text(raw: &[u8], scope: SearchScope, needle: &str) -> bool {
    let needles = [Needle::new(scope, needle.to_owned())];
    let mut search = TextSearch::new(&needles);
    loop {
        if let Some(answer) = search.answer(0) {
            return answer;
        }
        search.step(raw);
    }
}

/// Is there a field of that name whose decoded value contains the (folded) text?
pub fn header_contains(raw: &[u8], name: &str, needle: &str) -> bool {
    let needle = one_blank(needle);
    fields_within_limit(raw)
        .filter(|field| field.is(name))
        .any(|field| {
            needle.is_empty() || one_blank(&fold(&decode_words(field.value))).contains(&*needle)
        })
}

/// Like [`header_contains`], of a field of addresses: also as the envelope has them, without
/// comments, quotes and blanks, written `name <local@domain>` (RFC 9051, 6.4.4).
pub fn address_contains(raw: &[u8], name: &str, needle: &str) -> bool {
    if header_contains(raw, name, needle) {
        return true;
    }
    let needle = one_blank(needle);
    fields_within_limit(raw)
        .filter(|field| field.is(name))
        .flat_map(|field| parse_addresses(field.value, MAX_ADDRESSES))
        .any(|item| one_blank(&fold(&written(&item))).contains(&*needle))
}

fn written(item: &AddressItem) -> String {
    match item {
        AddressItem::Mailbox {
            name,
            local,
            domain,
            ..
        } => {
            let mut text = name.as_deref().map(decode_words).unwrap_or_default();
            text.push_str(if text.is_empty() { "<" } else { " <" });
            text.push_str(&decode_words(local));
            if !domain.is_empty() {
                text.push('@');
                text.push_str(&decode_words(domain));
            }
            text.push('>');
            text
        }
        AddressItem::GroupStart(name) => decode_words(name),
        AddressItem::GroupEnd => String::new(),
    }
}

/// Blanks and tabs in a row as one blank: where a field was folded is of no meaning.
fn one_blank(text: &str) -> Cow<'_, str> {
    if !text.contains('\t') && !text.contains("  ") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' ' | '\t' if out.ends_with(' ') => {}
            '\t' => out.push(' '),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A part whose text is looked at.
struct Part {
    body: Range<usize>,
    decoder: Decoder,
    charset: Vec<u8>,
    window: usize,
    in_pieces: bool,
    /// Decoded from the transfer encoding, not yet looked at.
    bytes: Vec<u8>,
    text: Tail,
    /// HTML is searched as it is and as a reader sees it.
    visible: Option<(Visible, Tail)>,
}

impl Part {
    fn new(node: &Node) -> Option<Self> {
        let charset = node.content_type.param("charset").unwrap_or_default();
        let lower = charset.to_ascii_lowercase();
        let in_pieces = !lower.starts_with(b"utf-16") && !lower.starts_with(b"utf-7");
        Some(Self {
            body: node.body.clone(),
            // What nobody knows how to decode is searched as it is.
            decoder: Decoder::new(node.encoding.as_deref()).or_else(|| Decoder::new(None))?,
            charset: charset.to_vec(),
            window: if in_pieces { WINDOW } else { WHOLE },
            in_pieces,
            bytes: Vec::new(),
            text: Tail::default(),
            visible: (node.content_type.sub == "html").then(Default::default),
        })
    }

    /// True at its end.
    fn step(&mut self, raw: &[u8], look: &mut impl Look) -> bool {
        let end = self.body.end.min(self.body.start + WINDOW);
        let chunk = &raw[self.body.start..end];
        self.body.start = end;
        if chunk.is_empty() {
            self.decoder.finish(&mut self.bytes);
            self.look(look);
            return true;
        }
        self.decoder.feed(chunk, &mut self.bytes);
        self.full(look);
        false
    }

    /// Looks at the bytes if there are enough of them, up to their last line break.
    fn full(&mut self, look: &mut impl Look) {
        if self.bytes.len() < self.window {
            return;
        }
        if !self.in_pieces {
            // Only the beginning of such a part is searched.
            self.bytes.truncate(WHOLE);
            return;
        }
        let cut = match self.bytes.iter().rposition(|b| *b == b'\n') {
            Some(lf) => lf + 1,
            None => char_boundary(&self.bytes),
        };
        let rest = self.bytes.split_off(cut);
        self.look(look);
        self.bytes = rest;
    }

    fn look(&mut self, look: &mut impl Look) {
        let text = decode_charset(&self.charset, &self.bytes);
        self.bytes.clear();
        if let Some((visible, tail)) = &mut self.visible {
            let mut seen = String::with_capacity(text.len());
            visible.feed(&text, &mut seen);
            look.piece(tail, &fold(&seen));
        }
        look.piece(&mut self.text, &fold(&text));
    }
}

/// The end of what was told of a part, as whoever looks wants it.
#[derive(Default)]
pub(super) struct Tail {
    text: String,
    pub(super) slide: Slide,
}

/// Without an unfinished UTF-8 character at the end.
fn char_boundary(bytes: &[u8]) -> usize {
    let mut cut = bytes.len();
    while cut > 1 && bytes.len() - cut < 3 && bytes[cut - 1] & 0xc0 == 0x80 {
        cut -= 1;
    }
    if bytes[cut - 1] >= 0xc0 {
        cut - 1
    } else {
        bytes.len()
    }
}
