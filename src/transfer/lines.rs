//! Line ends: in a file mostly LF, in IMAP always CRLF (RFC 9051, 2.2; RFC 5322, 2.1).
//!
//! Machine: no IO, no clock, no randomness.
//!
//! A file of a Maildir or mbox becomes a message by putting a CR before each LF that has none.
//! For files whose lines end in LF only, and that is nearly all, taking the CRs away gives the
//! file back. Of all others it is written down which of their lines ended how ([`Scan::ends`]),
//! so that the file can be made again byte for byte.

/// Longest note about line ends, bytes.
const MAX_NOTE: usize = 3000;

/// What becomes of a file when it becomes a message.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Bytes of the message.
    pub size: u64,
    /// It holds a NUL, which IMAP has no way for (RFC 9051, 4.3.1).
    pub nul: bool,
    last: u8,
    /// Numbers of lines that ended in LF, in CRLF, in LF and so on.
    runs: Vec<u8>,
    run: u64,
    crlf: bool,
    any_crlf: bool,
    too_many: bool,
}

impl Scan {
    pub fn push(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        for &byte in bytes {
            if byte == b'\n' {
                let crlf = self.last == b'\r';
                self.size += u64::from(!crlf);
                self.any_crlf |= crlf;
                if crlf == self.crlf {
                    self.run += 1;
                } else {
                    self.note();
                    (self.crlf, self.run) = (crlf, 1);
                }
            }
            self.nul |= byte == 0;
            self.last = byte;
        }
    }

    fn note(&mut self) {
        if self.runs.len() >= MAX_NOTE {
            self.too_many = true;
            return;
        }
        let mut rest = self.run;
        while rest >= 0x80 {
            self.runs.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.runs.push(rest as u8);
    }

    /// What has to be known to make the file again. Empty: all its lines end in LF. None: there
    /// are too many changes to keep them.
    pub fn ends(mut self) -> Option<Vec<u8>> {
        if !self.any_crlf {
            return Some(Vec::new());
        }
        self.note();
        (!self.too_many).then_some(self.runs)
    }
}

/// A file becomes a message: CR before each LF that has none.
#[derive(Clone, Debug, Default)]
pub struct ToCrlf {
    last: u8,
}

impl ToCrlf {
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.reserve(bytes.len() + bytes.len() / 32);
        for &byte in bytes {
            if byte == b'\n' && self.last != b'\r' {
                out.push(b'\r');
            }
            out.push(byte);
            self.last = byte;
        }
    }
}

/// Can the message be made again from the file that [`ToFile::plain`] makes of it?
#[derive(Clone, Debug)]
pub struct Exact {
    last: [u8; 2],
    exact: bool,
}

impl Default for Exact {
    fn default() -> Self {
        Self {
            last: [0; 2],
            exact: true,
        }
    }
}

impl Exact {
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                // A bare LF would come back as CRLF, CR CR LF as CRLF.
                self.exact &= self.last[1] == b'\r' && self.last[0] != b'\r';
            }
            self.last = [self.last[1], byte];
        }
    }

    pub fn is_exact(&self) -> bool {
        self.exact
    }

    pub fn of(message: &[u8]) -> bool {
        let mut exact = Self::default();
        exact.push(message);
        exact.exact
    }
}

enum Mode {
    /// The file is the message.
    Verbatim,
    /// Every line ends in LF.
    Plain,
    /// As [`Scan::ends`] noted.
    Noted { notes: Vec<u8>, at: usize },
}

/// A message becomes a file.
pub struct ToFile {
    mode: Mode,
    /// Lines that still end like this.
    run: u64,
    crlf: bool,
    /// A CR that may be part of a line's end.
    held: bool,
}

impl ToFile {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            run: 0,
            // The first run is of LF.
            crlf: true,
            held: false,
        }
    }

    pub fn verbatim() -> Self {
        Self::new(Mode::Verbatim)
    }

    pub fn plain() -> Self {
        Self::new(Mode::Plain)
    }

    pub fn noted(notes: Vec<u8>) -> Self {
        Self::new(Mode::Noted { notes, at: 0 })
    }

    fn keeps_cr(&mut self) -> bool {
        let Mode::Noted { notes, at } = &mut self.mode else {
            return false;
        };
        while self.run == 0 && *at < notes.len() {
            let mut shift = 0;
            while let Some(byte) = notes.get(*at) {
                *at += 1;
                self.run |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            self.crlf = !self.crlf;
        }
        self.run = self.run.saturating_sub(1);
        self.crlf
    }

    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if matches!(self.mode, Mode::Verbatim) {
            out.extend_from_slice(bytes);
            return;
        }
        for &byte in bytes {
            if self.held {
                self.held = false;
                if byte != b'\n' || self.keeps_cr() {
                    out.push(b'\r');
                }
            }
            if byte == b'\r' {
                self.held = true;
            } else {
                out.push(byte);
            }
        }
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.held) {
            out.push(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(file: &[u8], cut: usize) -> (Vec<u8>, Scan) {
        let (mut scan, mut crlf, mut out) = (Scan::default(), ToCrlf::default(), Vec::new());
        for piece in file.chunks(cut.max(1)) {
            scan.push(piece);
            crlf.push(piece, &mut out);
        }
        assert_eq!(scan.size, out.len() as u64);
        (out, scan)
    }

    fn made(message: &[u8], mut to: ToFile, cut: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in message.chunks(cut.max(1)) {
            to.push(piece, &mut out);
        }
        to.finish(&mut out);
        out
    }

    #[test]
    fn line_ends_as_imap_needs_them() {
        for (file, message, ends) in [
            ("", "", &[][..]),
            ("a\nb", "a\r\nb", &[]),
            ("a\rb\n", "a\rb\r\n", &[]),
            ("a\r\nb\r\n", "a\r\nb\r\n", &[0, 2]),
            ("a\nb\r\nc\n\n", "a\r\nb\r\nc\r\n\r\n", &[1, 1, 2]),
            ("a\r\r\n\r", "a\r\r\n\r", &[0, 1]),
        ] {
            let (got, scan) = taken(file.as_bytes(), 2);
            assert_eq!(got, message.as_bytes(), "{file:?}");
            assert_eq!(scan.ends().as_deref(), Some(ends), "{file:?}");
        }
        assert!(taken(b"a\0b", 1).1.nul);
    }

    #[test]
    fn what_plain_lf_can_hold() {
        for (message, exact) in [
            ("a\r\nb\r\n", true),
            ("a", true),
            ("a\rb\r\n", true),
            ("a\nb\r\n", false),
            ("a\r\r\n", false),
            ("\n", false),
        ] {
            assert_eq!(Exact::of(message.as_bytes()), exact, "{message:?}");
        }
    }

    #[test]
    fn a_file_that_changes_too_often_is_not_noted() {
        let (_, scan) = taken(&b"a\nb\r\n".repeat(MAX_NOTE), 100);
        assert_eq!(scan.ends(), None);
    }

    proptest! {
        #[test]
        fn every_file_comes_back(
            file in "[\r\nab]{0,40}", cut in 1usize..5, again in 1usize..5
        ) {
            let (message, scan) = taken(file.as_bytes(), cut);
            let ends = scan.ends().expect("short");
            let to = if ends.is_empty() { ToFile::plain() } else { ToFile::noted(ends) };
            prop_assert_eq!(made(&message, to, again), file.as_bytes());
        }

        #[test]
        fn every_exact_message_comes_back(message in "[\r\nab]{0,40}", cut in 1usize..5) {
            let file = made(message.as_bytes(), ToFile::plain(), cut);
            let same = taken(&file, cut).0 == message.as_bytes();
            prop_assert_eq!(same, Exact::of(message.as_bytes()));
        }
    }
}
