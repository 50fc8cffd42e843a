//! An IMAP client to which the server may be lost at any moment.

use std::io::Write;

use crate::common::{IMAP, Imap, Line, PASSWORD};

/// Why a command did not go well.
#[derive(Debug)]
pub enum Failed {
    /// Nobody knows what became of it.
    Gone,
    /// NO.
    Refused(String),
}

impl From<std::io::Error> for Failed {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

pub struct Client {
    imap: Imap,
    tag: u64,
    pub selected: Option<String>,
}

/// Untagged lines, and the tagged one last.
pub type Answer = Result<Vec<Line>, Failed>;

impl Client {
    pub fn connect(base: u16, user: &str) -> Result<Self, Failed> {
        let mut client = Self {
            imap: Imap::connect(base + IMAP)?,
            tag: 0,
            selected: None,
        };
        client.command(&format!("LOGIN {user} {PASSWORD}"))?;
        client.command("ENABLE IMAP4rev2")?;
        Ok(client)
    }

    pub fn command(&mut self, command: &str) -> Answer {
        self.send(command.as_bytes())
    }

    pub fn send(&mut self, command: &[u8]) -> Answer {
        self.tag += 1;
        let tag = format!("k{} ", self.tag);
        let whole = [tag.as_bytes(), command, b"\r\n"].concat();
        self.imap.stream.get_mut().write_all(&whole)?;
        let mut lines = Vec::new();
        loop {
            let line = self.imap.line()?;
            if line.text.starts_with("* BYE") {
                return Err(Failed::Gone);
            }
            let Some(tagged) = line.text.strip_prefix(&tag) else {
                lines.push(line);
                continue;
            };
            if tagged.starts_with("NO") {
                // Nobody is told that what is his is not there.
                let wrong = ["AUTHENTICATIONFAILED", "NONEXISTENT", "TRYCREATE", "EXISTS"];
                assert!(!wrong.iter().any(|code| tagged.contains(code)), "{tagged}");
                return Err(Failed::Refused(tagged.to_owned()));
            }
            let shown = String::from_utf8_lossy(&command[..command.len().min(200)]);
            assert!(tagged.starts_with("OK"), "{shown}: {tagged}");
            lines.push(line);
            return Ok(lines);
        }
    }

    pub fn select(&mut self, name: &str) -> Answer {
        self.selected = None;
        let lines = self.command(&format!("SELECT \"{name}\""))?;
        self.selected = Some(name.to_owned());
        Ok(lines)
    }
}

/// The number behind a word.
pub fn number(text: &str, word: &str) -> Option<u64> {
    let rest = text.split(word).nth(1)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The number behind a word in any of the lines.
pub fn find(lines: &[Line], word: &str) -> u64 {
    let mut found = lines.iter().filter_map(|l| number(&l.text, word));
    found
        .next()
        .unwrap_or_else(|| panic!("no {word} in {lines:?}"))
}

pub fn set(uids: &[u32]) -> String {
    let all: Vec<_> = uids.iter().map(u32::to_string).collect();
    all.join(",")
}

/// The UIDs of a set, as a response code has it.
pub fn expand(set: &str) -> Vec<u32> {
    let number = |text: &str| text.parse::<u32>().expect("a UID");
    set.split(',')
        .flat_map(|part| match part.split_once(':') {
            Some((from, to)) => number(from)..=number(to),
            None => number(part)..=number(part),
        })
        .collect()
}
