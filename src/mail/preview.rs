//! The first words of a message, for lists (RFC 8970): what its author wrote, without markup,
//! quotes and signatures.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.

use super::html::Visible;
use super::structure::{Kind, Node, Structure};
use super::transfer::Decoder;
use super::words::decode_charset;

/// RFC 8970, 3.3: no more than 256, and better 200.
const MOST: usize = 200;
/// Of a part, decoded. HTML mail often begins with long styles.
const LOOKED_AT: usize = 64 * 1024;
/// What is looked at of a message.
pub const PREVIEWED: u64 = 128 * 1024;

/// Of a message, or its beginning. Empty: there is nothing to read in it.
pub fn preview(raw: &[u8]) -> String {
    let structure = Structure::parse(raw);
    let nodes = structure.nodes();
    let mut quoted = String::new();
    for sub in ["plain", "html"] {
        for node in nodes.iter().filter(|node| is_text(raw, node, sub)) {
            let text = decoded(raw, node);
            let own = if sub == "html" {
                short(&visible(&text, true))
            } else {
                short(&written(&text))
            };
            if !own.is_empty() {
                return own;
            }
            if quoted.is_empty() {
                quoted = match sub {
                    "html" => short(&visible(&text, false)),
                    _ => short(&text.replace(['>', '|'], " ")),
                };
            }
        }
    }
    if is_encrypted(&quoted) {
        quoted.clear();
    }
    quoted
}

fn is_text(raw: &[u8], node: &Node, sub: &str) -> bool {
    let attached = || {
        node.disposition(raw)
            .is_some_and(|d| d.kind == "attachment")
    };
    node.kind == Kind::Leaf && !node.opaque && node.content_type.is("text", sub) && !attached()
}

fn decoded(raw: &[u8], node: &Node) -> String {
    let Some(mut decoder) = Decoder::new(node.encoding.as_deref()) else {
        return String::new();
    };
    let body = raw.get(node.body.clone()).unwrap_or_default();
    let mut bytes = Vec::new();
    for piece in body.chunks(4096) {
        decoder.feed(piece, &mut bytes);
        if bytes.len() >= LOOKED_AT {
            break;
        }
    }
    if bytes.len() < LOOKED_AT {
        decoder.finish(&mut bytes);
    }
    // No half of a character at the end, where UTF-8 ends early.
    if let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
    {
        bytes.truncate(error.valid_up_to());
    }
    let charset = node.content_type.param("charset").unwrap_or_default();
    decode_charset(charset, &bytes)
}

fn is_encrypted(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN PGP MESSAGE")
}

/// Of plain text: what its author added.
fn written(text: &str) -> String {
    if is_encrypted(text) {
        return String::new();
    }
    let mut out = String::new();
    // Where the paragraph that may announce a quote began.
    let mut paragraph = 0;
    for line in text.lines() {
        let trimmed = line.trim();
        // RFC 3676, 4.3, also as mailers write it that cut the blank.
        if line.trim_end_matches('\r') == "-- " || trimmed == "--" || begins_original(trimmed) {
            break;
        }
        if trimmed.starts_with('>') {
            // "On Monday, she wrote:" belongs to it.
            if out
                .get(paragraph..)
                .is_some_and(|p| p.trim_end().ends_with(':'))
            {
                out.truncate(paragraph);
            }
            paragraph = out.len();
            continue;
        }
        if trimmed.is_empty() && !out[paragraph..].trim_end().ends_with(':') {
            paragraph = out.len();
            continue;
        }
        out.push_str(trimmed);
        out.push(' ');
        // Enough, even where some of it goes again.
        if paragraph > 8 * MOST {
            break;
        }
    }
    out
}

/// What some mailers put above the message that is answered.
fn begins_original(line: &str) -> bool {
    let dashed = |text: &str| line.starts_with("-----") && line.trim_matches('-').trim() == text;
    dashed("Original Message")
        || dashed("Ursprüngliche Nachricht")
        || (line.len() >= 20 && line.bytes().all(|b| b == b'_'))
}

/// What a reader of HTML sees; without quotes where `own` is true.
fn visible(html: &str, own: bool) -> String {
    let mut out = String::new();
    let mut visible = Visible::default();
    let mut hidden: Option<(&str, usize)> = None;
    let mut rest = html;
    while !rest.is_empty() {
        let end = rest.find('<').unwrap_or(rest.len());
        let (text, tail) = rest.split_at(end);
        if hidden.is_none() {
            visible.feed(text, &mut out);
        }
        if tail.starts_with("<!--") {
            rest = tail.find("-->").map_or("", |at| &tail[at + 3..]);
            continue;
        }
        // To the end of the tag, or of what only looks like one.
        let end = match tail.find('>') {
            Some(end) => end + 1,
            None => tail.len(),
        };
        let (tag, after) = tail.split_at(end);
        rest = after;
        let closing = tag.starts_with("</");
        let name = tag_name(tag);
        let hides = ["head", "title", "style", "script"].contains(&name.as_str())
            || (own && name == "blockquote");
        match &mut hidden {
            None if hides && !closing => {
                let known = ["head", "title", "style", "script", "blockquote"];
                hidden = known.iter().find(|k| **k == name).map(|k| (*k, 1));
                // A blank, as between blocks.
                visible.feed(" ", &mut out);
            }
            None if hides => {}
            None => visible.feed(tag, &mut out),
            Some((of, depth)) if *of == name => {
                *depth = if closing { *depth - 1 } else { *depth + 1 };
                if *depth == 0 {
                    hidden = None;
                }
            }
            // Some forget to close what nobody sees.
            Some((of, _)) if name == "body" && *of != "blockquote" => hidden = None,
            Some(_) => {}
        }
        if out.len() > 16 * MOST {
            break;
        }
    }
    out
}

fn tag_name(tag: &str) -> String {
    let name = tag.trim_start_matches(['<', '/']);
    let name = name.chars().take_while(char::is_ascii_alphanumeric);
    name.take(16).map(|c| c.to_ascii_lowercase()).collect()
}

/// Nothing to see: mailers fill previews with it.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// On one line, and not longer than allowed.
fn short(text: &str) -> String {
    let mut out = String::new();
    let mut count = 0;
    for c in text.chars() {
        let blank = c.is_whitespace();
        // Joiners are part of what they join.
        let joins = c == '\u{200d}' && count > 0 && !out.ends_with(' ');
        if (is_invisible(c) && !blank && !joins) || (blank && (count == 0 || out.ends_with(' '))) {
            continue;
        }
        out.push(if blank { ' ' } else { c });
        count += 1;
        if count == MOST {
            break;
        }
    }
    out.truncate(out.trim_end_matches([' ', '\u{200d}']).len());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> String {
        preview(format!("Subject: s\r\n\r\n{text}").as_bytes())
    }

    fn html(text: &str) -> String {
        preview(format!("Content-Type: text/html; charset=utf-8\r\n\r\n{text}").as_bytes())
    }

    #[test]
    fn what_the_author_wrote() {
        for (text, shown) in [
            ("Hello\r\n  there,\r\n\r\nyou\r\n", "Hello there, you"),
            (
                "On Monday, Bob\r\n<b@x> wrote:\r\n> Lunch?\r\n\r\nYes.\r\n-- \r\nAlice\r\n",
                "Yes.",
            ),
            ("On Monday, Bob wrote:\r\n\r\n> Lunch?\r\nYes.\r\n", "Yes."),
            (
                "No.\r\n\r\n-----Original Message-----\r\nFrom: x\r\n",
                "No.",
            ),
            ("> only\r\n> quoted\r\n", "only quoted"),
            ("Shopping:\r\n\r\nmilk\r\n", "Shopping: milk"),
            ("", ""),
            ("-----BEGIN PGP MESSAGE-----\r\n\r\nabc\r\n", ""),
            ("\u{feff}a\u{200b}\u{ad}b \u{a0} c\u{7}\r\n", "ab c"),
        ] {
            assert_eq!(plain(text), shown, "{text}");
        }
        for (text, shown) in [
            (
                "<html><head><title>T</title><style>p{}</style></head><body><p>Hi&nbsp;<b>y</b>ou &amp; \
                 me<blockquote>old <blockquote>older</blockquote></blockquote>new<!-- x > y --></body>",
                "Hi you & me new",
            ),
            ("<blockquote>only this</blockquote>", "only this"),
            ("a < b <br>c", "a < b c"),
            ("<style>never closed", ""),
            ("<head><meta x><body>seen", "seen"),
        ] {
            assert_eq!(html(text), shown, "{text}");
        }
        assert_eq!(plain(&"ä".repeat(300)).chars().count(), MOST);
    }

    #[test]
    fn the_part_that_is_read() {
        let message = |first: &str, second: &str| {
            format!(
                "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{first}\r\n--b\r\n\
                 {second}\r\n--b--\r\n"
            )
        };
        for (first, second, shown) in [
            (
                "Content-Type: text/html\r\n\r\n<p>rich",
                "\r\nplain",
                "plain",
            ),
            (
                "Content-Disposition: attachment\r\n\r\nlog",
                "Content-Type: text/html\r\n\r\n<p>rich",
                "rich",
            ),
            (
                "\r\n \r\n",
                "Content-Type: text/html\r\n\r\n<p>rich",
                "rich",
            ),
            (
                "Content-Type: image/png\r\n\r\nx",
                "Content-Type: x/y\r\n\r\nz",
                "",
            ),
            (
                "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ninner",
                "Content-Type: image/png\r\n\r\nx",
                "inner",
            ),
            (
                "Content-Type: text/plain; charset=iso-8859-1\r\n\
                 Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=FC=DFe",
                "\r\nno",
                "grüße",
            ),
        ] {
            assert_eq!(preview(message(first, second).as_bytes()), shown, "{first}");
        }
    }

    proptest! {
        #[test]
        fn never_too_long_and_never_invisible(
            text in "(<[a-z/]{1,10}>|[a-zäß<>&;: \n\u{200b}-]|--|On x wrote:\n>){0,300}",
            as_html: bool,
        ) {
            let shown = if as_html { html(&text) } else { plain(&text) };
            prop_assert!(shown.chars().count() <= MOST);
            let hidden = shown.contains(|c: char| c.is_control() || c == '\u{200b}');
            prop_assert!(!hidden);
            prop_assert_eq!(shown.trim(), &shown);
        }
    }
}
