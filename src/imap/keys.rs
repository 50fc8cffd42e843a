//! What SEARCH, SORT and THREAD ask of many messages, kept in memory: nothing of it ever changes
//! of a message, so it is found out once for each UID.
//!
//! May import: mail, types. No IO: `exec::keys` reads what is missing.
//!
//! Invariant: all that is kept is no larger than the limit; what does not fit is found out again.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::mail::{self, Envelope, EnvelopeAddress, Fuzzy, References};
use crate::types::{BlobId, MailboxKey};

/// UIDs of one block.
pub const SPAN: u32 = 256;
/// Of one field; a longer one is looked at in the header.
const MAX_FIELD: usize = 4 * 1024;
/// Of one message's ancestors: the first and the last of them.
const MAX_ANCESTORS: usize = 256;

/// What a message's record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// INTERNALDATE: milliseconds since 1970, minutes east.
    pub internal: (i64, i16),
    pub saved: i64,
    pub size: u64,
    pub blob: BlobId,
    /// Of the messages with that body.
    pub variant: u32,
}

/// Fields whose texts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    From,
    To,
    Cc,
    Bcc,
    Subject,
    MessageId,
    InReplyTo,
}

impl Field {
    const ALL: [Self; 7] = [
        Self::From,
        Self::To,
        Self::Cc,
        Self::Bcc,
        Self::Subject,
        Self::MessageId,
        Self::InReplyTo,
    ];

    /// Of a field whose ENVELOPE form is all of it.
    pub fn of_header(name: &str) -> Option<Self> {
        [
            ("Subject", Self::Subject),
            ("Message-ID", Self::MessageId),
            ("In-Reply-To", Self::InReplyTo),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, field)| field)
    }
}

/// The first address of a field: how its text is made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct First {
    name: u32,
    mailbox: u32,
    host: u32,
    group: bool,
}

/// What a message's ENVELOPE says, in the form in which it is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The Date field: milliseconds since 1970, and the day as written since then.
    pub sent: Option<(i64, i32)>,
    present: u8,
    cut: u8,
    ends: [u32; 7],
    /// Addresses of a field are parted by NUL.
    text: Box<str>,
    first: [First; 3],
}

impl Texts {
    pub fn of(envelope: &Envelope<'_>) -> Self {
        Self::read(envelope, &mut String::new())
    }

    /// As `of`, of many: `all` is room to work in.
    pub fn read(envelope: &Envelope<'_>, all: &mut String) -> Self {
        all.clear();
        let mut texts = Self {
            sent: envelope
                .date
                .as_deref()
                .and_then(mail::parse_date)
                .map(|date| (date.millis, date.local_day())),
            ..Self::default()
        };
        for (n, field) in Field::ALL.into_iter().enumerate() {
            let start = all.len();
            let present = match field {
                Field::From => texts.addresses(0, &envelope.from, all),
                Field::To => texts.addresses(1, &envelope.to, all),
                Field::Cc => texts.addresses(2, &envelope.cc, all),
                Field::Bcc => texts.addresses(3, &envelope.bcc, all),
                Field::Subject => text(envelope.subject.as_ref(), all),
                Field::MessageId => text(envelope.message_id.as_ref(), all),
                Field::InReplyTo => text(envelope.in_reply_to.as_ref(), all),
            };
            texts.present |= u8::from(present) << n;
            if all.len() - start > MAX_FIELD {
                let mut end = start + MAX_FIELD;
                while !all.is_char_boundary(end) {
                    end -= 1;
                }
                all.truncate(end);
                texts.cut |= 1 << n;
            }
            texts.ends[n] = u32::try_from(all.len()).unwrap_or(u32::MAX);
        }
        texts.text = all.as_str().into();
        texts
    }

    fn addresses(&mut self, field: usize, all: &[EnvelopeAddress<'_>], out: &mut String) -> bool {
        let start = out.len();
        for (n, address) in all.iter().enumerate() {
            if out.len() - start > MAX_FIELD {
                break;
            }
            if n > 0 {
                out.push('\0');
            }
            let first = written(address, out);
            if let (0, Some(place)) = (n, self.first.get_mut(field)) {
                *place = first;
            }
        }
        !all.is_empty()
    }

    fn part(&self, field: Field) -> &str {
        let n = field as usize;
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        let range = start as usize..self.ends[n] as usize;
        self.text.get(range).unwrap_or_default()
    }

    /// Whether the field contains what was folded; None: all of it has to be looked at.
    pub fn contains(&self, field: Field, needle: &str) -> Option<bool> {
        if self.present & 1 << field as usize == 0 {
            return Some(false);
        }
        if needle.is_empty() || self.part(field).contains(needle) && !needle.contains('\0') {
            return Some(true);
        }
        (self.cut & 1 << field as usize == 0).then_some(false)
    }

    pub fn subject(&self) -> &str {
        self.part(Field::Subject)
    }

    /// How well words are found in a field (RFC 6203).
    pub fn score(&self, field: Field, words: &Fuzzy) -> u8 {
        let present = self.present & 1 << field as usize != 0;
        if present {
            words.score(self.part(field))
        } else {
            0
        }
    }

    /// addr-mailbox of the first address of From, To or Cc (RFC 5256, 3).
    pub fn mailbox(&self, field: Field) -> &str {
        let (first, item) = self.first(field);
        let name = first.name as usize;
        if first.group {
            return item.get(..name).unwrap_or_default();
        }
        let start = name + if name > 0 { 2 } else { 1 };
        item.get(start..start + first.mailbox as usize)
            .unwrap_or_default()
    }

    /// What DISPLAYFROM and DISPLAYTO sort by (RFC 5957, 3).
    pub fn display(&self, field: Field) -> &str {
        let (first, item) = self.first(field);
        let name = first.name as usize;
        if name > 0 || first.group {
            return item.get(..name).unwrap_or_default();
        }
        let at = if first.host > 0 { 1 } else { 0 };
        let end = 1 + first.mailbox as usize + at + first.host as usize;
        item.get(1..end).unwrap_or_default()
    }

    fn first(&self, field: Field) -> (First, &str) {
        let first = self.first.get(field as usize).copied().unwrap_or_default();
        let text = self.part(field);
        (first, text.split('\0').next().unwrap_or_default())
    }
}

fn text(value: Option<&Cow<'_, [u8]>>, out: &mut String) -> bool {
    if let Some(value) = value {
        match plain(value) {
            Some(plain) => push_folded(plain, out),
            None => out.push_str(&mail::comparable(&mail::decode_words(value))),
        }
    }
    value.is_some()
}

/// A value of which nothing is to be decoded or put in order, so that it only has to be in lower
/// case: most are.
fn plain(value: &[u8]) -> Option<&str> {
    let mut before = b' ';
    for byte in value {
        let ends_plain = match byte {
            b' ' => before == b' ',
            b'?' => before == b'=',
            byte => !byte.is_ascii_graphic(),
        };
        if ends_plain {
            return None;
        }
        before = *byte;
    }
    if before == b' ' && !value.is_empty() {
        return None;
    }
    std::str::from_utf8(value).ok()
}

fn push_folded(plain: &str, out: &mut String) {
    let start = out.len();
    out.push_str(plain);
    if let Some(new) = out.get_mut(start..) {
        new.make_ascii_lowercase();
    }
}

/// As `EnvelopeAddress::written`, folded.
fn written(address: &EnvelopeAddress<'_>, out: &mut String) -> First {
    // Gives its length.
    let folded = |part: &Option<Cow<'_, [u8]>>, out: &mut String| {
        let start = out.len();
        let part = part.as_deref().unwrap_or_default();
        match plain(part) {
            Some(plain) => push_folded(plain, out),
            None => {
                let text = mail::comparable(&mail::decode_words(part));
                out.extend(text.chars().filter(|c| *c != '\0'));
            }
        }
        u32::try_from(out.len() - start).unwrap_or(u32::MAX)
    };
    if address.host.is_none() {
        return First {
            name: folded(&address.mailbox, out),
            group: true,
            ..First::default()
        };
    }
    let name = folded(&address.name, out);
    out.push_str(if name == 0 { "<" } else { " <" });
    let mailbox = folded(&address.mailbox, out);
    out.push('@');
    let host = folded(&address.host, out);
    if host == 0 {
        out.pop();
    }
    out.push('>');
    First {
        name,
        mailbox,
        host,
        group: false,
    }
}

/// Where a message belongs (RFC 5256, 3; RFC 8474, 5.2). IDs are hashes: who makes two of them
/// fall together could as well have written the ID itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    pub id: Option<u64>,
    /// The oldest first.
    pub ancestors: Box<[u64]>,
    pub thread_id: Box<str>,
}

impl Links {
    pub fn of(references: &References, blob: BlobId) -> Self {
        let mut ancestors: Vec<u64> = references.ancestors.iter().map(|id| hash(id)).collect();
        if ancestors.len() > MAX_ANCESTORS {
            ancestors.drain(1..ancestors.len() - MAX_ANCESTORS + 1);
        }
        Self {
            id: references.id.as_deref().map(hash),
            ancestors: ancestors.into(),
            thread_id: super::object_id::thread_id(references, blob).into(),
        }
    }
}

fn hash(id: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(id);
    hasher.finish()
}

/// What is known of the messages with UIDs of one span.
#[derive(Clone, Debug)]
pub struct Block<T> {
    uids: Vec<u32>,
    keys: Vec<T>,
    bytes: usize,
}

impl<T: Kind> Block<T> {
    /// By rising UIDs.
    pub fn new(known: Vec<(u32, T)>) -> Self {
        let each = size_of::<u32>() + size_of::<T>();
        let bytes = known.iter().map(|(_, keys)| each + keys.heap()).sum();
        let (uids, keys) = known.into_iter().unzip();
        Self { uids, keys, bytes }
    }

    pub fn get(&self, uid: u32) -> Option<&T> {
        let at = self.uids.binary_search(&uid).ok()?;
        self.keys.get(at)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.uids.iter().copied().zip(&self.keys)
    }
}

type Level<T> = HashMap<u32, Arc<Block<T>>>;

#[derive(Default)]
pub struct Shelf {
    used: u64,
    bytes: usize,
    facts: Level<Facts>,
    texts: Level<Texts>,
    links: Level<Links>,
}

/// A kind of keys, each with blocks of its own.
pub trait Kind: Clone {
    fn level(shelf: &mut Shelf) -> &mut Level<Self>;
    /// Bytes beside its own.
    fn heap(&self) -> usize;
}

impl Kind for Facts {
    fn level(shelf: &mut Shelf) -> &mut Level<Self> {
        &mut shelf.facts
    }
    fn heap(&self) -> usize {
        0
    }
}

impl Kind for Texts {
    fn level(shelf: &mut Shelf) -> &mut Level<Self> {
        &mut shelf.texts
    }
    fn heap(&self) -> usize {
        self.text.len()
    }
}

impl Kind for Links {
    fn level(shelf: &mut Shelf) -> &mut Level<Self> {
        &mut shelf.links
    }
    fn heap(&self) -> usize {
        size_of_val(&*self.ancestors) + self.thread_id.len()
    }
}

/// All that is kept, of all mailboxes.
#[derive(Default)]
pub struct KeyCache {
    shelves: Mutex<Shelves>,
    /// Somebody reads what nobody has asked for.
    preparing: AtomicBool,
}

#[derive(Default)]
struct Shelves {
    mailboxes: HashMap<MailboxKey, Shelf>,
    bytes: usize,
    clock: u64,
}

impl KeyCache {
    /// Whether half of it is free.
    pub fn has_room(&self, limit: usize) -> bool {
        self.shelves.lock().bytes < limit / 2
    }

    /// False: another one has begun. Who begins ends it.
    pub fn begin_preparing(&self) -> bool {
        !self.preparing.swap(true, Ordering::Relaxed)
    }

    pub fn end_preparing(&self) {
        self.preparing.store(false, Ordering::Relaxed);
    }

    pub fn get<T: Kind>(&self, mailbox: MailboxKey, base: u32) -> Option<Arc<Block<T>>> {
        let mut shelves = self.shelves.lock();
        shelves.clock += 1;
        let now = shelves.clock;
        let shelf = shelves.mailboxes.get_mut(&mailbox)?;
        shelf.used = now;
        T::level(shelf).get(&base).cloned()
    }

    /// Keeps a block, at the cost of the mailbox that was not asked for the longest; not at its
    /// own mailbox's cost, of which each block is as useful as the others.
    pub fn put<T: Kind>(&self, limit: usize, mailbox: MailboxKey, base: u32, block: Arc<Block<T>>) {
        let mut shelves = self.shelves.lock();
        shelves.clock += 1;
        let now = shelves.clock;
        shelves.remove::<T>(mailbox, base);
        while shelves.bytes + block.bytes > limit {
            let others = shelves.mailboxes.iter().filter(|(key, _)| **key != mailbox);
            let Some(oldest) = others.min_by_key(|(_, s)| s.used).map(|(key, _)| *key) else {
                return;
            };
            if let Some(gone) = shelves.mailboxes.remove(&oldest) {
                shelves.bytes -= gone.bytes;
            }
        }
        shelves.bytes += block.bytes;
        let shelf = shelves.mailboxes.entry(mailbox).or_default();
        shelf.used = now;
        shelf.bytes += block.bytes;
        T::level(shelf).insert(base, block);
    }
}

impl Shelves {
    fn remove<T: Kind>(&mut self, mailbox: MailboxKey, base: u32) {
        let Some(shelf) = self.mailboxes.get_mut(&mailbox) else {
            return;
        };
        if let Some(old) = T::level(shelf).remove(&base) {
            shelf.bytes -= old.bytes;
            self.bytes -= old.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{AccountId, MailboxId};

    fn texts(header: &str) -> Texts {
        let wire = mail::envelope_wire(header.as_bytes());
        Texts::of(&Envelope::read(&wire).unwrap())
    }

    #[test]
    fn texts_of_an_envelope() {
        let t = texts(
            "From: \"Doe, Jane\" <Jane@X.test>, other@y.test\r\nTo: Team: a@b, c@d;\r\n\
             Cc: bare@z.test\r\nSubject: =?utf-8?q?=C3=84pfel?=  und\tmehr\r\n\
             Message-ID: <ID@x>\r\n\r\n",
        );
        let found = |field, needle| t.contains(field, needle);
        assert_eq!(found(Field::From, "doe, jane <jane@x.test>"), Some(true));
        assert_eq!(found(Field::From, "<other@y"), Some(true));
        assert_eq!(found(Field::To, "jane"), Some(false));
        assert_eq!(found(Field::To, "c@d"), Some(true));
        assert_eq!(found(Field::Bcc, ""), Some(false));
        assert_eq!(found(Field::Subject, "äpfel und mehr"), Some(true));
        assert_eq!(found(Field::MessageId, "id@x"), Some(true));
        assert_eq!(t.mailbox(Field::From), "jane");
        assert_eq!(t.display(Field::From), "doe, jane");
        assert_eq!(
            (t.mailbox(Field::To), t.display(Field::To)),
            ("team", "team")
        );
        assert_eq!(t.mailbox(Field::Cc), "bare");
        assert_eq!(t.display(Field::Cc), "bare@z.test");
        assert_eq!(
            (t.mailbox(Field::Cc), texts("").mailbox(Field::Cc)),
            ("bare", "")
        );
    }

    #[test]
    fn what_is_plain_is_folded_as_all_else() {
        let values = [
            "",
            " ",
            "a",
            "Hello World",
            " a",
            "a ",
            "a  b",
            "a\tb",
            "a\r\n b",
            "\0",
            "a\0b",
            "=?utf-8?q?=C3=84?=",
            "=?",
            "a = ?b",
            "\u{c4}B",
            "\x7f",
            "Re: [List] A?=b ~!@#",
        ];
        for value in values {
            let value = Cow::Borrowed(value.as_bytes());
            let slow = mail::comparable(&mail::decode_words(&value));
            let mut fast = String::new();
            assert!(text(Some(&value), &mut fast));
            assert_eq!(fast, slow, "{value:?}");
            let address = EnvelopeAddress {
                name: Some(value.clone()),
                mailbox: Some(value.clone()),
                host: Some(value.clone()),
            };
            let mut fast = String::new();
            let first = written(&address, &mut fast);
            let slow = slow.replace('\0', "");
            let (blank, at) = match slow.is_empty() {
                true => ("", ""),
                false => (" ", "@"),
            };
            assert_eq!(
                fast,
                format!("{slow}{blank}<{slow}{at}{slow}>"),
                "{value:?}"
            );
            let len = slow.len() as u32;
            assert_eq!((first.name, first.mailbox, first.host), (len, len, len));
        }
    }

    #[test]
    fn what_is_cut_is_not_denied() {
        let t = texts(&format!(
            "To: {}end@x\r\n\r\n",
            "someone@x.test, ".repeat(1000)
        ));
        assert_eq!(t.contains(Field::To, "someone"), Some(true));
        assert_eq!(t.contains(Field::To, "end@x"), None);
        assert_eq!(t.contains(Field::From, "end@x"), Some(false));
    }

    #[test]
    fn no_more_is_kept_than_the_limit_allows() {
        let key = |n| MailboxKey {
            account: AccountId(1),
            mailbox: MailboxId(n),
        };
        let facts = Facts {
            internal: (0, 0),
            saved: 0,
            size: 1,
            blob: BlobId([0; 16]),
            variant: 0,
        };
        let block = |n: u32| Arc::new(Block::new((0..n).map(|uid| (uid, facts)).collect()));
        let limit = block(100).bytes;
        let cache = KeyCache::default();
        let has = |n, base| cache.get::<Facts>(key(n), base).is_some();
        cache.put(limit, key(1), 0, block(60));
        assert!(has(1, 0));
        // Its own mailbox's blocks stay, another's go.
        cache.put(limit, key(1), 1, block(60));
        assert!(has(1, 0) && !has(1, 1));
        cache.put(limit, key(2), 0, block(60));
        assert!(!has(1, 0) && has(2, 0));
        cache.put(limit, key(2), 0, block(90));
        assert_eq!(cache.shelves.lock().bytes, block(90).bytes);
    }
}
