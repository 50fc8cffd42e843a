//! FETCH.

use imap_codec::imap_types::command::FetchModifier;
use imap_codec::imap_types::core::AString;
use imap_codec::imap_types::fetch::{
    Macro, MacroOrMessageDataItemNames as Items, MessageDataItemName as Item, Part,
    Section as TheirSection,
};
use posthorn::imap::command::*;

use super::{EMPTY_LIST, TOO_MANY, Translated, number64, text};

pub fn modifiers(modifiers: &[FetchModifier], uid: bool) -> Translated<FetchModifiers> {
    let mut out = FetchModifiers::default();
    for modifier in modifiers {
        match modifier {
            FetchModifier::ChangedSince(since) if out.changed_since.is_none() => {
                out.changed_since = Some(number64(since.get())?);
            }
            FetchModifier::Vanished if !out.vanished => out.vanished = true,
            _ => return Err("a modifier twice (RFC 4466, 2.4)"),
        }
    }
    if out.vanished && !(uid && out.changed_since.is_some()) {
        return Err("VANISHED without UID or CHANGEDSINCE (RFC 7162, 3.2.6)");
    }
    Ok(out)
}

pub fn items(items: &Items) -> Translated<Vec<FetchItem>> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Rfc822Size};
    match items {
        Items::Macro(Macro::Fast) => Ok(vec![Flags, InternalDate, Rfc822Size]),
        Items::Macro(Macro::All) => Ok(vec![Flags, InternalDate, Rfc822Size, Envelope]),
        Items::Macro(Macro::Full) => Ok(vec![Flags, InternalDate, Rfc822Size, Envelope, Body]),
        Items::Macro(_) => panic!("a macro that we should know"),
        Items::MessageDataItemNames(items) if items.is_empty() => Err(EMPTY_LIST),
        Items::MessageDataItemNames(items) => items.iter().map(item).collect(),
    }
}

fn item(item: &Item) -> Translated<FetchItem> {
    let part = |section: &[std::num::NonZeroU32]| match section.len() {
        ..=100 => Ok(section.iter().map(|n| n.get()).collect::<Vec<_>>()),
        _ => Err(TOO_MANY),
    };
    let whole = |text, label, peek| {
        FetchItem::Section(Section {
            part: vec![],
            text,
            partial: None,
            peek,
            label,
        })
    };
    let range = |partial: &Option<(u32, std::num::NonZeroU32)>| {
        partial.map(|(from, length)| (u64::from(from), u64::from(length.get())))
    };
    Ok(match item {
        Item::Body => FetchItem::Body,
        Item::BodyExt {
            section,
            partial,
            peek,
        } => {
            let (place, text) = match section {
                None => (None, SectionText::Whole),
                Some(section) => section_text(section)?,
            };
            FetchItem::Section(Section {
                part: match place {
                    Some(place) => part(place.0.as_ref())?,
                    None => vec![],
                },
                text,
                partial: range(partial),
                peek: *peek,
                label: SectionLabel::Body,
            })
        }
        Item::BodyStructure => FetchItem::BodyStructure,
        Item::Envelope => FetchItem::Envelope,
        Item::Flags => FetchItem::Flags,
        Item::InternalDate => FetchItem::InternalDate,
        Item::Rfc822 => whole(SectionText::Whole, SectionLabel::Rfc822, false),
        Item::Rfc822Header => whole(SectionText::Header, SectionLabel::Rfc822Header, true),
        Item::Rfc822Size => FetchItem::Rfc822Size,
        Item::Rfc822Text => whole(SectionText::Text, SectionLabel::Rfc822Text, false),
        Item::Uid => FetchItem::Uid,
        Item::Binary {
            section,
            partial,
            peek,
        } => FetchItem::Binary {
            part: part(section)?,
            partial: range(partial),
            peek: *peek,
        },
        Item::BinarySize { section } => FetchItem::BinarySize(part(section)?),
        Item::ModSeq => FetchItem::ModSeq,
    })
}

fn section_text<'a>(section: &'a TheirSection) -> Translated<(Option<&'a Part>, SectionText)> {
    let names = |names: &[AString]| match names.len() {
        ..=200 => names.iter().map(|name| text(name.as_ref())).collect(),
        _ => Err(TOO_MANY),
    };
    Ok(match section {
        TheirSection::Part(part) => (Some(part), SectionText::Whole),
        TheirSection::Header(part) => (part.as_ref(), SectionText::Header),
        TheirSection::HeaderFields(part, fields) => (
            part.as_ref(),
            SectionText::HeaderFields(names(fields.as_ref())?),
        ),
        TheirSection::HeaderFieldsNot(part, fields) => (
            part.as_ref(),
            SectionText::HeaderFieldsNot(names(fields.as_ref())?),
        ),
        TheirSection::Text(part) => (part.as_ref(), SectionText::Text),
        TheirSection::Mime(part) => (Some(part), SectionText::Mime),
    })
}
