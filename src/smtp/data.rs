//! The message of DATA, as it comes in pieces (RFC 5321, 4.5.2; 2.3.8).
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Invariant: only CR LF . CR LF ends it, whatever else looks like an end (SMTP smuggling). The
//! state at the start is that after a CR LF, so an empty message ends and a first `..` loses
//! its dot.

/// What was seen in the text that must not be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A CR without LF or a LF without CR.
    pub bare: bool,
    pub nul: bool,
    pub long_line: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of a line, after a true CR LF.
    Start,
    /// After the dot that began a line.
    Dot,
    /// After the CR behind that dot.
    DotCr,
    Text,
    Cr,
}

/// Most CRs in a row of which repair may still make one end of line.
const RUN: usize = 64;

/// Takes the bytes after 354; removes stuffed dots.
#[derive(Debug)]
pub struct DataReader {
    state: State,
    line: usize,
    max_line: usize,
    /// Writes CR LF for a bare CR or LF. Otherwise they are kept, and only reported.
    repair: bool,
    /// CRs that wait for what comes behind them, in `State::Cr`.
    crs: usize,
    faults: Faults,
}

impl DataReader {
    pub fn new(max_line: usize, repair: bool) -> Self {
        Self {
            state: State::Start,
            line: 0,
            max_line,
            repair,
            crs: 0,
            faults: Faults::default(),
        }
    }

    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Appends the message's bytes to `out`. Some(n): it ended, and `n` bytes of `input` were
    /// used; None: all were, and more must come.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        for (at, byte) in input.iter().copied().enumerate() {
            match (self.state, byte) {
                (State::Start, b'.') => self.state = State::Dot,
                (State::Dot, b'\r') => self.state = State::DotCr,
                (State::DotCr, b'\n') => return Some(at + 1),
                // In repair a run of CRs before LF is one end of line: two would end the header.
                (State::DotCr | State::Cr, b'\r') if self.repair => {
                    self.crs = match self.state {
                        State::DotCr => 2,
                        _ => self.crs + 1,
                    };
                    self.state = State::Cr;
                    self.faults.bare = true;
                    if self.crs > RUN {
                        self.bare(b'\r', out);
                        self.crs = RUN;
                    }
                }
                (State::DotCr, _) => {
                    // `.CR` and something else: the dot was stuffed, the CR was bare.
                    self.bare(b'\r', out);
                    self.text(byte, out);
                }
                (State::Cr, b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    self.line = 0;
                    self.state = State::Start;
                }
                (State::Cr, _) => {
                    self.bare_run(out);
                    self.text(byte, out);
                }
                (State::Start | State::Dot | State::Text, _) => self.text(byte, out),
            }
        }
        None
    }

    fn bare(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.faults.bare = true;
        self.line = 0;
        if self.repair {
            out.extend_from_slice(b"\r\n");
        } else {
            out.push(byte);
        }
    }

    /// The CRs that wait had no LF.
    fn bare_run(&mut self, out: &mut Vec<u8>) {
        for _ in 0..self.crs {
            self.bare(b'\r', out);
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.state = State::Text;
        match byte {
            b'\r' => (self.state, self.crs) = (State::Cr, 1),
            b'\n' => self.bare(b'\n', out),
            _ => {
                self.faults.nul |= byte == 0;
                self.line += 1;
                self.faults.long_line |= self.line > self.max_line;
                out.push(byte);
            }
        }
    }
}

/// The same checks for BDAT, whose text is as it is: no dots, no end mark.
#[derive(Debug)]
pub struct ChunkReader {
    reader: DataReader,
}

impl ChunkReader {
    pub fn new(max_line: usize, repair: bool) -> Self {
        let mut reader = DataReader::new(max_line, repair);
        reader.state = State::Text;
        Self { reader }
    }

    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        for byte in input {
            // `Text` has no meaning for dots.
            if self.reader.state == State::Start {
                self.reader.state = State::Text;
            }
            self.reader.feed(std::slice::from_ref(byte), out);
        }
    }

    /// The last chunk has come: a CR at the very end is bare.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Faults {
        if self.reader.state == State::Cr {
            self.reader.bare_run(out);
        }
        self.reader.faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(input: &[u8], repair: bool) -> (Vec<u8>, Option<usize>, Faults) {
        let mut reader = DataReader::new(1000, repair);
        let mut out = Vec::new();
        let end = reader.feed(input, &mut out);
        (out, end, reader.faults())
    }

    #[test]
    fn ends_and_dots() {
        let clean = Faults::default();
        for (input, message) in [
            (&b".\r\n"[..], &b""[..]),
            (b"..x\r\n.\r\n", b".x\r\n"),
            (b"...\r\n.\r\n", b"..\r\n"),
            (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
            (b"a.\r\n.\r\n", b"a.\r\n"),
        ] {
            let text = String::from_utf8_lossy(input);
            assert_eq!(
                read(input, false),
                (message.to_vec(), Some(input.len()), clean),
                "{text:?}"
            );
        }
        assert_eq!(read(b".\r\nQUIT\r\n", false).1, Some(3));
    }

    #[test]
    fn nothing_else_ends_it() {
        for input in [
            "\n.\r\n",
            "x\n.\n",
            "x\r.\r\n",
            "x\r\n.\n",
            "x\r\n.\r",
            "x\r\n.\rx\r\n",
            "\r.\r",
        ] {
            let (_, end, _) = read(input.as_bytes(), false);
            assert_eq!(end, None, "{input:?}");
        }
        let (out, end, faults) = read(b"a\nb\rc\r\r\n.\r\n", true);
        assert_eq!(
            (out.as_slice(), end.is_some(), faults.bare),
            (&b"a\r\nb\r\nc\r\n"[..], true, true)
        );
    }

    #[test]
    fn carriage_returns_before_an_end_of_line_are_part_of_it() {
        for (input, message) in [
            // The header must not end early.
            (
                &b"A: b\r\r\nC: d\r\r\r\n\r\nx\r\n"[..],
                &b"A: b\r\nC: d\r\n\r\nx\r\n"[..],
            ),
            (b".\r\r\nx\r\n", b"\r\nx\r\n"),
            // Without LF each is an end, as in text of old Macs.
            (b"A: b\r\rx\r\n", b"A: b\r\n\r\nx\r\n"),
            (b"\r\r\ra\n", b"\r\n\r\n\r\na\r\n"),
        ] {
            let text = String::from_utf8_lossy(input);
            let (out, _, faults) = read(&[input, b"\r\n.\r\n"].concat(), true);
            assert_eq!(out, [message, b"\r\n"].concat(), "{text:?}");
            assert!(faults.bare, "{text:?}");
            let mut chunks = ChunkReader::new(1000, true);
            let mut out = Vec::new();
            chunks.feed(&[b"-", input].concat(), &mut out);
            chunks.finish(&mut out);
            if !input.starts_with(b".") {
                assert_eq!(out, [b"-", message].concat(), "{text:?}");
            }
        }
        // Nothing is held back without bound, nor lost.
        let (out, _, _) = read(&[b'\r'; 10_000], true);
        assert!(out.len() > 19_000, "{}", out.len());
        let mut chunks = ChunkReader::new(1000, true);
        let mut out = Vec::new();
        chunks.feed(&[b'\r'; 10_000], &mut out);
        chunks.finish(&mut out);
        assert_eq!(out.len(), 20_000);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(input in prop::collection::vec(prop::sample::select(b".\r\na\0".to_vec()), 0..40), cut in 0..40usize, repair: bool) {
            let cut = cut.min(input.len());
            let mut reader = DataReader::new(5, repair);
            let mut out = Vec::new();
            let end = match reader.feed(&input[..cut], &mut out) {
                Some(n) => Some(n),
                None => reader.feed(&input[cut..], &mut out).map(|n| n + cut),
            };
            let mut whole = DataReader::new(5, repair);
            let mut expected = Vec::new();
            let expected_end = whole.feed(&input, &mut expected);
            prop_assert_eq!((out, end, reader.faults()), (expected, expected_end, whole.faults()));
        }
    }
}
