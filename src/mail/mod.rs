//! Messages as data: MIME structure, IMAP forms of envelope and structure, trace headers.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: types. Only this layer names mail-parser, and of it only the tables of
//! charsets and entities: its `parse` is never called on a stranger's mail (it recurses without limit).
//! All of it is pure, iterative, and bounded in depth, parts and header size.

mod address;
mod bytes;
mod collate;
mod content;
mod date;
mod downgrade;
mod envelope;
mod fuzzy;
mod header;
mod html;
mod imap_url;
mod message_id;
pub mod notice;
mod preview;
mod section;
mod structure;
mod subject;
mod summary;
mod text;
pub mod trace;
mod transfer;
mod trigrams;
mod walk;
mod watch;
mod wire;
mod words;

pub use address::{AddressItem, parse_addresses};
pub use collate::casemap;
pub use content::{ContentType, Disposition, Param};
pub use date::{MailDate, parse_date, sent_date};
pub use envelope::{Envelope, EnvelopeAddress};
pub use fuzzy::{Fuzzy, FuzzyScore};
pub use header::{Field, Fields, field, fields, header_len, unfold};
pub use imap_url::{Access, ImapUrl, Server, UrlAuth, parse_imap_url};
pub use message_id::{References, message_ids};
pub use preview::{PREVIEWED, preview};
pub use section::{SectionRef, header_section, pick_fields};
pub use structure::{Headers, Kind, Node, Structure, StructureReader};
pub use subject::{BaseSubject, base_subject};
pub use summary::{Summary, Traits, summarize, summarize_headers};
pub use text::{
    Needle, SearchScope, TextSearch, address_contains, comparable, fold, header_contains,
    search_text,
};
pub use transfer::Decoder;
pub use trigrams::{Trigrams, trigrams};
pub use watch::{HeaderSeen, HeaderWatch};
pub use wire::{
    body_structure_wire, body_structure_wire_ascii, body_wire, envelope_wire, envelope_wire_ascii,
    structure_wire_of,
};
pub use words::decode_words;

/// Everything that a stranger's bytes can reach, for the fuzzer; panics on a broken promise.
#[doc(hidden)]
pub fn fuzz_walk(data: &[u8]) {
    let structure = Structure::parse(data);
    structure.check(data);
    let kept = summarize(data);
    for size in [1, 7, 1000] {
        let mut reader = StructureReader::new(usize::MAX);
        data.chunks(size).for_each(|piece| reader.feed(piece));
        let (pieces, headers) = reader.finish();
        assert_eq!(format!("{pieces:?}"), format!("{structure:?}"));
        let headers = headers.unwrap_or_default();
        assert!(summarize_headers(&pieces, &headers) == kept);
    }
    let _ = body_wire(data);
    let _ = sent_date(data);
    let _ = preview(data);
    let _ = envelope_wire_ascii(data);
    let _ = body_structure_wire_ascii(data, true);
    for part in [&[][..], &[1], &[1, 1], &[2], &[1, 2, 1]] {
        for text in [
            SectionRef::Whole,
            SectionRef::Header,
            SectionRef::Text,
            SectionRef::Mime,
            SectionRef::HeaderFields(vec!["Subject".to_owned()]),
            SectionRef::HeaderFieldsNot(vec!["Subject".to_owned()]),
        ] {
            let _ = structure.section(data, part, &text);
        }
    }
    let _ = search_text(data, SearchScope::Text, "needle");
    let _ = header_contains(data, "From", "x");
    let _ = address_contains(data, "From", "x");
    let field = &data[..data.len().min(64 * 1024)];
    let _ = message_ids(field);
    let _ = base_subject(&decode_words(field));
    assert!(
        Envelope::read(&envelope_wire(data)).is_some(),
        "an envelope can be read again"
    );
}

#[cfg(test)]
mod tests;
