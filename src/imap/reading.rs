//! What one command means, for the comparison with another parser.
//!
//! Machine: no IO, no clock, no randomness.

use super::command::{AppendPiece, Tagged};
use super::fragment::{Event, Fragmenter, Limits};
use super::parser::{self, Options};

/// Of each literal and of each line.
const MOST: usize = 1 << 20;

/// The first command of some bytes.
#[derive(Debug)]
pub enum Reading {
    /// It goes on.
    Unfinished,
    /// Why it was not understood.
    Refused(String),
    Command(Tagged),
    /// APPEND or REPLACE, and its messages one behind the other.
    Append(Vec<AppendPiece>, Vec<u8>),
}

/// Also tells how many bytes were behind the command. `utf8`: names are not in UTF-7.
pub fn read_first(data: &[u8], utf8: bool) -> (Reading, usize) {
    let mut fragmenter = Fragmenter::new(Limits {
        max_line: MOST,
        max_literal: MOST,
        max_non_sync: MOST,
        max_literals_total: MOST,
        max_append: MOST as u64,
    });
    fragmenter.set_utf8(utf8);
    fragmenter.feed(data);
    let (mut pieces, mut messages) = (Vec::new(), Vec::new());
    let reading = loop {
        match fragmenter.next() {
            Event::NeedInput | Event::Line(_) => break Reading::Unfinished,
            Event::LiteralRequested { .. } => fragmenter.continue_literal(),
            Event::Error { text, .. } => break Reading::Refused(text.into()),
            Event::Command(bytes) => {
                let options = Options {
                    max_depth: 32,
                    utf8,
                };
                break match parser::parse(&bytes, options) {
                    Ok(command) => Reading::Command(command),
                    Err(error) => Reading::Refused(error.text),
                };
            }
            Event::Append(piece) => {
                let over = piece.data.is_none();
                pieces.push(*piece);
                fragmenter.accept_append();
                if over {
                    break Reading::Append(pieces, messages);
                }
            }
            Event::AppendData(data) => messages.extend_from_slice(&data),
            Event::AppendEnd => break Reading::Append(pieces, messages),
        }
    };
    (reading, fragmenter.take_rest().len())
}
