//! The text that a reader of HTML sees, well enough to search in it.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours; mail-parser's table of entities.
//! Invariant: linear and in a stream; what is kept between calls has a fixed size.

use mail_parser::decoders::html::add_html_token;

/// The longest name of an entity with its `&` and `;`.
const MAX_ENTITY: usize = 34;
/// Enough to tell the tags apart that matter here.
const MAX_TAG: usize = 10;

/// Leaves out tags, styles and scripts, undoes entities, makes one blank of many.
#[derive(Default)]
pub(super) struct Visible {
    in_tag: bool,
    /// Its name so far, with the `/` of a closing one.
    tag: String,
    in_name: bool,
    /// In a style or script.
    hidden: bool,
    blank: bool,
}

impl Visible {
    /// Adds what is visible of the next piece.
    pub(super) fn feed(&mut self, html: &str, out: &mut String) {
        let mut rest = html;
        loop {
            rest = &rest[self.run(rest, out)..];
            let Some(c) = rest.chars().next() else {
                return;
            };
            let mut len = c.len_utf8();
            if self.in_tag {
                self.tag_char(c, out);
            } else if c == '<' && opens_tag(&rest[1..]) {
                self.in_tag = true;
                self.in_name = true;
                self.tag.clear();
            } else if self.hidden {
                // Up to the closing tag.
            } else if c.is_whitespace() {
                self.space(out);
            } else {
                self.blank = false;
                match entity(rest) {
                    Some(entity) => {
                        add_html_token(out, entity.as_bytes(), false);
                        len = entity.len();
                    }
                    None => out.push(c),
                }
            }
            rest = &rest[len..];
        }
    }

    /// Takes what leaves all as it is at once: most of any HTML. Gives its length, which is 0 where
    /// the next character is to be looked at.
    fn run(&mut self, rest: &str, out: &mut String) -> usize {
        let up_to =
            |ends: fn(&u8) -> bool| rest.bytes().position(|b| ends(&b)).unwrap_or(rest.len());
        if self.in_tag {
            return match self.in_name {
                true => 0,
                false => up_to(|b| *b == b'>'),
            };
        }
        if self.hidden {
            return up_to(|b| *b == b'<');
        }
        let len = up_to(|b| !b.is_ascii_graphic() || matches!(b, b'<' | b'&'));
        out.push_str(&rest[..len]);
        self.blank &= len == 0;
        len
    }

    fn tag_char(&mut self, c: char, out: &mut String) {
        if c == '>' {
            self.in_tag = false;
            match self.tag.as_str() {
                "style" | "script" => self.hidden = true,
                "/style" | "/script" => self.hidden = false,
                name if !is_inline(name.trim_matches('/')) => self.space(out),
                _ => {}
            }
        } else if self.in_name {
            if c.is_whitespace() {
                self.in_name = false;
            } else if self.tag.len() < MAX_TAG {
                self.tag.push(c.to_ascii_lowercase());
            }
        }
    }

    fn space(&mut self, out: &mut String) {
        if !self.blank && !self.hidden {
            out.push(' ');
        }
        self.blank = true;
    }
}

/// `a < b` is text.
fn opens_tag(rest: &str) -> bool {
    rest.chars()
        .next()
        .is_none_or(|c| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'))
}

/// Tags that do not part words.
fn is_inline(name: &str) -> bool {
    matches!(
        name,
        "a" | "abbr"
            | "b"
            | "big"
            | "code"
            | "em"
            | "font"
            | "i"
            | "mark"
            | "s"
            | "small"
            | "span"
            | "strong"
            | "sub"
            | "sup"
            | "tt"
            | "u"
            | "wbr"
    )
}

/// The entity at the start of the text.
fn entity(text: &str) -> Option<&str> {
    if !text.starts_with('&') {
        return None;
    }
    let end = text.bytes().take(MAX_ENTITY).position(|b| b == b';')?;
    let name = &text[1..end];
    let valid = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'#');
    (valid && !name.is_empty()).then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECES: [&str; 16] = [
        "<b>",
        "</b>",
        "<p class=x>",
        "<style>",
        "</style>",
        "<script src=y>",
        "</script>",
        "a",
        "bc>",
        " ",
        "\r\n",
        "\u{a0}",
        "\u{e9}",
        "\u{65e5}\u{672c}",
        "<!-- x -->",
        "<br/>",
    ];

    proptest! {
        /// What is taken at once is what is found letter by letter.
        #[test]
        fn long_pieces_say_the_same(all in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
            let html = all.concat();
            let (mut whole, mut letters) = (String::new(), String::new());
            Visible::default().feed(&html, &mut whole);
            let mut visible = Visible::default();
            for c in html.chars() {
                visible.feed(c.encode_utf8(&mut [0; 4]), &mut letters);
            }
            prop_assert_eq!(whole, letters);
        }
    }
}
