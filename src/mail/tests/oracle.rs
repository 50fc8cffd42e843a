//! Benign messages, made by rule, are read as mail-parser reads them.
//!
//! Only here may its `parse` be called: these messages are ours.

use mail_parser::{MessageParser, MimeHeaders as _, PartType};
use proptest::prelude::*;

use crate::mail::*;

#[derive(Clone, Debug)]
enum Made {
    Text(String),
    Multipart(Vec<Made>),
    Message(Box<Made>),
}

fn made() -> impl Strategy<Value = Made> {
    let text = "[a-z ]{0,20}(\r\n[a-z]{1,20}){0,3}".prop_map(Made::Text);
    text.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Made::Multipart),
            inner.prop_map(|m| Made::Message(Box::new(match m {
                // Theirs loses its way in a message directly in a message.
                Made::Message(_) => Made::Multipart(vec![m]),
                other => other,
            }))),
        ]
    })
}

/// Header fields, blank line and body of a part; boundaries are numbered.
fn write(made: &Made, number: &mut usize, out: &mut String) {
    match made {
        Made::Text(text) => {
            out.push_str("Content-Type: text/plain; charset=utf-8\r\n\r\n");
            out.push_str(text);
        }
        Made::Multipart(parts) => {
            *number += 1;
            let boundary = format!("=_{number}_x");
            out.push_str(&format!(
                "Content-Type: multipart/mixed;\r\n\tboundary=\"{boundary}\"\r\n\r\n"
            ));
            for part in parts {
                out.push_str(&format!("\r\n--{boundary}\r\n"));
                write(part, number, out);
            }
            out.push_str(&format!("\r\n--{boundary}--\r\n"));
        }
        Made::Message(inner) => {
            out.push_str("Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n");
            write(inner, number, out);
        }
    }
}

/// Texts in order, as our walker finds them.
fn ours(raw: &[u8]) -> Vec<String> {
    Structure::parse(raw)
        .nodes()
        .iter()
        .filter(|node| node.kind == Kind::Leaf)
        .map(|node| String::from_utf8_lossy(&raw[node.body.clone()]).into_owned())
        .collect()
}

fn theirs(message: &mail_parser::Message<'_>, out: &mut Vec<String>) {
    let mut todo = vec![0usize];
    while let Some(index) = todo.pop() {
        match &message.parts[index].body {
            PartType::Multipart(children) => {
                todo.extend(children.iter().rev().map(|c| *c as usize))
            }
            PartType::Message(inner) => theirs(inner, out),
            PartType::Text(text) => out.push(text.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn same_tree(made in made()) {
        let mut raw = "From: a@b\r\nSubject: outer\r\n".to_owned();
        write(&made, &mut 0, &mut raw);
        let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
        let mut expected = Vec::new();
        theirs(&message, &mut expected);
        prop_assert_eq!(ours(raw.as_bytes()), expected, "{}", raw);
        super::grammar::check_message(raw.as_bytes());
    }

    #[test]
    fn same_addresses_and_dates(
        name in "[A-Za-z]{1,8}( [A-Za-z]{1,8}){0,2}",
        local in "[a-z]{1,8}(\\.[a-z]{1,4})?",
        domain in "[a-z]{1,8}\\.[a-z]{2,3}",
        quote in any::<bool>(),
        day in 1u8..28, month in 0usize..12, year in 1971u16..2100,
        hour in 0u8..24, minute in 0u8..60, zone in -12i16..=14,
    ) {
        let months = ["Jan","Feb","Mar","Apr","May","Jun","Jul","Aug","Sep","Oct","Nov","Dec"];
        let sign = if zone < 0 { '-' } else { '+' };
        let shown = if quote { format!("\"{name}\"") } else { name.clone() };
        let raw = format!(
            "From: {shown} <{local}@{domain}>\r\n\
            Date: {day} {} {year} {hour:02}:{minute:02}:00 {sign}{:02}00\r\n\
            Content-Type: application/x; name=\"{name}\"\r\n\r\n", months[month], zone.abs());
        let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
        let them = message.from().unwrap().first().unwrap();
        let us = parse_addresses(field(raw.as_bytes(), "From").unwrap().value, 9);
        let us_expected = AddressItem::Mailbox {
            name: them.name().map(|n| n.as_bytes().to_vec()),
            route: None,
            local: local.clone().into_bytes(),
            domain: domain.clone().into_bytes(),
        };
        prop_assert_eq!(them.address().unwrap(), format!("{local}@{domain}"));
        prop_assert_eq!(us, vec![us_expected]);
        let seconds = sent_date(raw.as_bytes()).unwrap().millis / 1000;
        prop_assert_eq!(seconds, message.date().unwrap().to_timestamp());
        let structure = Structure::parse(raw.as_bytes());
        let our_name = structure.root().content_type.param("name").unwrap();
        prop_assert_eq!(our_name, message.content_type().unwrap().attribute("name").unwrap().as_bytes());
    }
}
