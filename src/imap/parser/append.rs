//! APPEND and REPLACE, line by line: their messages are streamed and never here (RFC 9051,
//! 6.3.12; RFC 3502; RFC 3516; RFC 4466; RFC 4469; RFC 6855, 4; RFC 8508).
//!
//! Machine: no IO, no clock, no randomness.

use super::cursor::{Cursor, Parsed, bad};
use super::{Options, flag, search, sequence_number, tag};
use crate::imap::bytes::CommandBytes;
use crate::imap::command::{Append, AppendData, AppendPiece, AppendStep, Replaced};

/// What a bad APPEND is told.
pub(crate) const APPEND_FORM: &str =
    "APPEND mailbox, or REPLACE number mailbox, and then [(flags)] [\"date\"] {size}";

/// Where the command is read next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Head,
    /// Before flags, date and data.
    Message,
    /// Behind a message.
    Between,
    /// In the parentheses of CATENATE.
    Parts { first: bool },
    /// Before the parenthesis behind data of UTF8.
    Utf8 { in_parts: bool },
}

/// Reads a command that comes in lines, each but the last of which announces a literal.
#[derive(Debug, Default)]
pub(crate) struct AppendParser {
    place: Place,
    /// What was read of the command's bytes.
    read: usize,
    replaces: bool,
    begin: Option<Append>,
    steps: Vec<AppendStep>,
}

/// What the line so far is.
pub(crate) enum AppendLine {
    Piece(AppendPiece),
    /// The literal is a mailbox's name or a URL.
    Name,
    /// The line is wrong.
    Bad,
}

impl AppendParser {
    /// The next line; all lines and literals that are no messages are in `command`.
    pub(crate) fn line(&mut self, command: &CommandBytes, utf8: bool) -> AppendLine {
        let options = Options { max_depth: 4, utf8 };
        let mut c = Cursor::at(command, options, self.read);
        let data = match self.read_line(&mut c) {
            Ok(Some(data)) => data,
            Ok(None) => return AppendLine::Name,
            Err(_) => return AppendLine::Bad,
        };
        self.read = command.bytes().len();
        AppendLine::Piece(AppendPiece {
            tag: command.tag().unwrap_or_default(),
            begin: self.begin.take(),
            steps: std::mem::take(&mut self.steps),
            data,
        })
    }

    /// None: a literal is missing that is no data. Some(None): the command is over.
    #[allow(clippy::option_option)]
    fn read_line(&mut self, c: &mut Cursor<'_>) -> Parsed<Option<Option<AppendData>>> {
        loop {
            self.read = c.position();
            match self.place {
                Place::Head => {
                    let replaces = head(c)?;
                    if c.announced().is_some_and(|a| !a.binary) {
                        return Ok(None);
                    }
                    let mailbox = c.mailbox()?;
                    c.space()?;
                    self.replaces = replaces.is_some();
                    self.begin = Some(Append { mailbox, replaces });
                    self.place = Place::Message;
                }
                Place::Message => {
                    if let Some(data) = self.message(c)? {
                        return Ok(Some(Some(data)));
                    }
                }
                Place::Between if c.at_end() => return Ok(Some(None)),
                // RFC 8508, 4.7
                Place::Between if self.replaces => return bad("REPLACE takes one message"),
                Place::Between => {
                    c.space()?;
                    self.place = Place::Message;
                }
                Place::Parts { first: false } if c.eat(b')') => self.place = Place::Between,
                Place::Parts { first } => {
                    if !first {
                        c.space()?;
                    }
                    if c.eat_word("URL") {
                        c.space()?;
                        if c.announced().is_some_and(|a| !a.binary) {
                            return Ok(None);
                        }
                        self.steps.push(AppendStep::Url(c.astring_text()?));
                        self.place = Place::Parts { first: false };
                    } else if c.eat_word("TEXT") {
                        c.space()?;
                        self.place = Place::Parts { first: false };
                        return data(c, false).map(|data| Some(Some(data)));
                    } else {
                        self.place = Place::Utf8 { in_parts: true };
                        return utf8_data(c).map(|data| Some(Some(data)));
                    }
                }
                Place::Utf8 { in_parts } => {
                    c.expect(b')')?;
                    self.place = match in_parts {
                        true => Place::Parts { first: false },
                        false => Place::Between,
                    };
                }
            }
        }
    }

    /// Up to the data; None: its parts follow.
    fn message(&mut self, c: &mut Cursor<'_>) -> Parsed<Option<AppendData>> {
        let mut flags = Vec::new();
        if c.peek() == Some(b'(') {
            flags = c.list(flag)?;
            c.space()?;
        }
        let mut date = None;
        if c.peek() == Some(b'"') {
            let text = c.string()?;
            date = Some(search::date_time(&text)?);
            c.space()?;
        }
        let catenated = c.eat_word("CATENATE");
        self.steps.push(AppendStep::Message {
            flags,
            date,
            catenated,
        });
        if catenated {
            c.space()?;
            c.expect(b'(')?;
            self.place = Place::Parts { first: true };
            return Ok(None);
        }
        if c.looks_like("UTF8") {
            self.place = Place::Utf8 { in_parts: false };
            return utf8_data(c).map(Some);
        }
        self.place = Place::Between;
        data(c, false).map(Some)
    }
}

/// Up to the mailbox.
fn head(c: &mut Cursor<'_>) -> Parsed<Option<Replaced>> {
    tag(c)?;
    c.space()?;
    if c.eat_word("APPEND") {
        c.space()?;
        return Ok(None);
    }
    let uid = c.eat_word("UID");
    if uid {
        c.space()?;
    }
    if !c.eat_word("REPLACE") {
        return bad(APPEND_FORM);
    }
    c.space()?;
    let message = sequence_number(c)?;
    c.space()?;
    Ok(Some(Replaced { message, uid }))
}

fn utf8_data(c: &mut Cursor<'_>) -> Parsed<AppendData> {
    if !c.eat_word("UTF8") {
        return bad("URL, TEXT or UTF8 was expected");
    }
    c.space()?;
    c.expect(b'(')?;
    data(c, true)
}

/// The announcement that ends the line.
fn data(c: &mut Cursor<'_>, utf8: bool) -> Parsed<AppendData> {
    match c.announced() {
        Some(announced) if announced.binary || !utf8 => Ok(AppendData {
            size: announced.size,
            binary: announced.binary,
            utf8,
            sync: announced.sync,
        }),
        _ => bad(APPEND_FORM),
    }
}
