//! Responses of an IMAP server (RFC 9051, 9; RFC 3501, 9), as a client reads them.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Bounded: a line, the literals of a response, the depth of its lists. A literal that is longer
//! than it may be is read over, and is there as [`Value::TooLarge`].

/// Longest line, literals aside. A FETCH without texts has some hundred bytes.
const MAX_LINE: usize = 256 * 1024;
/// Literals of one response.
const MAX_LITERALS: usize = 64;
/// Lists within lists.
const MAX_DEPTH: usize = 12;

/// One value of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An atom, a number, a flag; with what it has in brackets: `BODY[]`.
    Atom(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    /// A literal of more bytes than are taken.
    TooLarge(u64),
    Nil,
    List(Vec<Value>),
}

impl Value {
    /// What it says as an atom or a string.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Atom(text) => Some(text.clone()),
            Self::Text(bytes) => String::from_utf8(bytes.clone()).ok(),
            _ => None,
        }
    }

    pub fn number<N: std::str::FromStr>(&self) -> Option<N> {
        match self {
            Self::Atom(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

/// How a command ended, or what a server says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Ok,
    No,
    Bad,
    Bye,
    Preauth,
}

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// `+ text`.
    Continue(String),
    /// The tag, or None: untagged. The code is what stands in brackets.
    State {
        tag: Option<String>,
        condition: Condition,
        code: Option<String>,
        text: String,
    },
    /// `* 7 FETCH (...)`: number, name, the rest.
    Data {
        number: Option<u32>,
        name: String,
        values: Vec<Value>,
    },
}

/// What can't be read as IMAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a line that is too long")]
    Line,
    #[error("too many literals in one response")]
    Literals,
    #[error("lists nested too deeply")]
    Depth,
    #[error("a response that makes no sense")]
    Syntax,
}

/// Takes bytes, gives responses.
pub struct Reader {
    max_literal: u64,
    line: Vec<u8>,
    /// Where in the line a literal stands, and what it is.
    literals: Vec<(usize, Literal)>,
    /// Bytes of the newest literal that are to come.
    left: u64,
}

#[derive(Clone, Debug)]
enum Literal {
    Bytes(Vec<u8>),
    TooLarge(u64),
}

impl Reader {
    pub fn new(max_literal: u64) -> Self {
        Self {
            max_literal,
            line: Vec::new(),
            literals: Vec::new(),
            left: 0,
        }
    }

    /// Takes from the beginning of `bytes`, up to one response; the rest comes again.
    pub fn push(&mut self, bytes: &mut &[u8]) -> Result<Option<Response>, Malformed> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let len = usize::try_from(self.left).unwrap_or(usize::MAX);
                let (piece, rest) = bytes.split_at(bytes.len().min(len));
                self.left -= piece.len() as u64;
                *bytes = rest;
                if let Some((_, Literal::Bytes(literal))) = self.literals.last_mut() {
                    literal.extend_from_slice(piece);
                }
                continue;
            }
            let end = bytes.iter().position(|b| *b == b'\n');
            let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            if self.line.len() + piece.len() > MAX_LINE {
                return Err(Malformed::Line);
            }
            self.line.extend_from_slice(piece);
            *bytes = rest;
            if end.is_none() {
                continue;
            }
            self.line.pop();
            if self.line.last() == Some(&b'\r') {
                self.line.pop();
            }
            if let Some((start, size)) = announced(&self.line) {
                if self.literals.len() >= MAX_LITERALS {
                    return Err(Malformed::Literals);
                }
                self.line.truncate(start);
                // Something that no line has otherwise, so that values don't run together.
                self.line.push(b'\n');
                let literal = match size <= self.max_literal {
                    true => Literal::Bytes(Vec::new()),
                    false => Literal::TooLarge(size),
                };
                self.literals.push((start, literal));
                self.left = size;
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let literals = std::mem::take(&mut self.literals);
            return parse(&line, literals).map(Some);
        }
        Ok(None)
    }
}

/// `{123}`, `{123+}` or `~{123}` at the end of a line: where it begins, and its size.
fn announced(line: &[u8]) -> Option<(usize, u64)> {
    let inner = line.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|b| *b == b'{')?;
    let digits = &inner[open + 1..];
    let digits = digits.strip_suffix(b"+").unwrap_or(digits);
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let size = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let start = match open.checked_sub(1) {
        Some(before) if line[before] == b'~' => before,
        _ => open,
    };
    // Human text may end like that; a literal follows a space or an opening parenthesis.
    let separated = start == 0 || matches!(line[start - 1], b' ' | b'(');
    let state = is_state(line);
    (all && separated && !state).then_some((start, size))
}

/// A line of human text, in which nothing is a literal.
fn is_state(line: &[u8]) -> bool {
    let mut words = line.split(|b| *b == b' ');
    let tag = words.next();
    let word = words.next().unwrap_or_default();
    tag == Some(b"+") || condition(&String::from_utf8_lossy(word)).is_some()
}

fn condition(word: &str) -> Option<Condition> {
    let all = [
        ("OK", Condition::Ok),
        ("NO", Condition::No),
        ("BAD", Condition::Bad),
        ("BYE", Condition::Bye),
        ("PREAUTH", Condition::Preauth),
    ];
    all.iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name))
        .map(|(_, condition)| *condition)
}

fn parse(line: &[u8], literals: Vec<(usize, Literal)>) -> Result<Response, Malformed> {
    if let Some(text) = line.strip_prefix(b"+") {
        let text = String::from_utf8_lossy(text).trim().to_owned();
        return Ok(Response::Continue(text));
    }
    let space = line.iter().position(|b| *b == b' ');
    let space = space.ok_or(Malformed::Syntax)?;
    let tag = std::str::from_utf8(&line[..space]).map_err(|_| Malformed::Syntax)?;
    let rest = &line[space + 1..];
    let end = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
    let word = String::from_utf8_lossy(&rest[..end]).into_owned();
    if let Some(condition) = condition(&word) {
        let text = String::from_utf8_lossy(&rest[end..]).trim().to_owned();
        let (code, text) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
            Some((code, text)) => (Some(code.to_owned()), text.trim().to_owned()),
            None => (None, text),
        };
        return Ok(Response::State {
            tag: (tag != "*").then(|| tag.to_owned()),
            condition,
            code,
            text,
        });
    }
    if tag != "*" {
        return Err(Malformed::Syntax);
    }
    let mut values = Values {
        line,
        at: space + 1,
        literals: literals.into_iter(),
    };
    let mut values = values.all()?.into_iter();
    let first = values.next().ok_or(Malformed::Syntax)?;
    let number = first.number();
    let name = match number {
        Some(_) => values.next().ok_or(Malformed::Syntax)?,
        None => first,
    };
    let Value::Atom(name) = name else {
        return Err(Malformed::Syntax);
    };
    Ok(Response::Data {
        number,
        name: name.to_ascii_uppercase(),
        values: values.collect(),
    })
}

struct Values<'a> {
    line: &'a [u8],
    at: usize,
    literals: std::vec::IntoIter<(usize, Literal)>,
}

impl Values<'_> {
    /// Everything to the end of the line.
    fn all(&mut self) -> Result<Vec<Value>, Malformed> {
        let mut open: Vec<Vec<Value>> = vec![Vec::new()];
        while let Some(&byte) = self.line.get(self.at) {
            let value = match byte {
                b' ' => {
                    self.at += 1;
                    continue;
                }
                b'(' => {
                    self.at += 1;
                    if open.len() > MAX_DEPTH {
                        return Err(Malformed::Depth);
                    }
                    open.push(Vec::new());
                    continue;
                }
                b')' => {
                    self.at += 1;
                    let list = open.pop().ok_or(Malformed::Syntax)?;
                    if open.is_empty() {
                        return Err(Malformed::Syntax);
                    }
                    Value::List(list)
                }
                b'"' => self.quoted()?,
                b'\n' => {
                    self.at += 1;
                    match self.literals.next() {
                        Some((_, Literal::Bytes(bytes))) => Value::Text(bytes),
                        Some((_, Literal::TooLarge(size))) => Value::TooLarge(size),
                        None => return Err(Malformed::Syntax),
                    }
                }
                _ => self.atom()?,
            };
            open.last_mut().ok_or(Malformed::Syntax)?.push(value);
        }
        let values = open.pop().ok_or(Malformed::Syntax)?;
        match open.is_empty() {
            true => Ok(values),
            false => Err(Malformed::Syntax),
        }
    }

    fn quoted(&mut self) -> Result<Value, Malformed> {
        let mut text = Vec::new();
        self.at += 1;
        loop {
            let byte = *self.line.get(self.at).ok_or(Malformed::Syntax)?;
            self.at += 1;
            match byte {
                b'"' => return Ok(Value::Text(text)),
                b'\\' => {
                    text.push(*self.line.get(self.at).ok_or(Malformed::Syntax)?);
                    self.at += 1;
                }
                b'\n' => return Err(Malformed::Syntax),
                _ => text.push(byte),
            }
        }
    }

    /// What stands in brackets belongs to it, spaces and parentheses too.
    fn atom(&mut self) -> Result<Value, Malformed> {
        let start = self.at;
        let mut inside = false;
        while let Some(&byte) = self.line.get(self.at) {
            match byte {
                b'[' => inside = true,
                b']' => inside = false,
                b'\n' => break,
                b' ' | b'(' | b')' | b'"' if !inside => break,
                _ => {}
            }
            self.at += 1;
        }
        let text = std::str::from_utf8(&self.line[start..self.at]);
        let text = text.map_err(|_| Malformed::Syntax)?;
        Ok(match text.eq_ignore_ascii_case("NIL") {
            true => Value::Nil,
            false => Value::Atom(text.to_owned()),
        })
    }
}

/// For the fuzzer: any bytes, in pieces.
pub fn fuzz(input: &[u8]) {
    let (cut, input) = input.split_first().unwrap_or((&1, &[]));
    let mut reader = Reader::new(1000);
    for mut piece in input.chunks(usize::from(*cut).max(1)) {
        while !piece.is_empty() {
            if reader.push(&mut piece).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: &str, cut: usize) -> Result<Vec<Response>, Malformed> {
        let mut reader = Reader::new(20);
        let mut all = Vec::new();
        for mut piece in wire.as_bytes().chunks(cut) {
            while !piece.is_empty() {
                all.extend(reader.push(&mut piece)?);
            }
        }
        Ok(all)
    }

    fn atom(text: &str) -> Value {
        Value::Atom(text.into())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn data(number: Option<u32>, name: &str, values: Vec<Value>) -> Response {
        Response::Data {
            number,
            name: name.into(),
            values,
        }
    }

    fn state(tag: Option<&str>, condition: Condition, code: Option<&str>, text: &str) -> Response {
        Response::State {
            tag: tag.map(Into::into),
            condition,
            code: code.map(Into::into),
            text: text.into(),
        }
    }

    #[test]
    fn responses_of_servers() {
        let table = [
            (
                "* OK [CAPABILITY IMAP4rev1 SASL-IR] ready {3}\r\n",
                state(
                    None,
                    Condition::Ok,
                    Some("CAPABILITY IMAP4rev1 SASL-IR"),
                    "ready {3}",
                ),
            ),
            (
                "a1 no failed\r\n",
                state(Some("a1"), Condition::No, None, "failed"),
            ),
            ("+ \r\n", Response::Continue(String::new())),
            ("+ idling {3}\r\n", Response::Continue("idling {3}".into())),
            ("* 23 EXISTS\r\n", data(Some(23), "EXISTS", vec![])),
            (
                "* LIST (\\HasNoChildren \\Sent) \".\" \"a \\\"b\\\"\"\n",
                data(
                    None,
                    "LIST",
                    vec![
                        Value::List(vec![atom("\\HasNoChildren"), atom("\\Sent")]),
                        text("."),
                        text("a \"b\""),
                    ],
                ),
            ),
            (
                "* LIST () NIL {5}\r\na\r\nb)\r\n",
                data(
                    None,
                    "LIST",
                    vec![Value::List(vec![]), Value::Nil, text("a\r\nb)")],
                ),
            ),
            (
                "* 2 FETCH (BODY[HEADER.FIELDS (A B)] {3}\r\nx(\n UID 7 FLAGS (\\Seen k) BODY[] \
                 {30}\r\n012345678901234567890123456789)\r\n",
                data(
                    Some(2),
                    "FETCH",
                    vec![Value::List(vec![
                        atom("BODY[HEADER.FIELDS (A B)]"),
                        text("x(\n"),
                        atom("UID"),
                        atom("7"),
                        atom("FLAGS"),
                        Value::List(vec![atom("\\Seen"), atom("k")]),
                        atom("BODY[]"),
                        Value::TooLarge(30),
                    ])],
                ),
            ),
            (
                "* 2 FETCH (BINARY[] ~{2}\r\n\0\n)\r\n",
                data(
                    Some(2),
                    "FETCH",
                    vec![Value::List(vec![atom("BINARY[]"), text("\0\n")])],
                ),
            ),
        ];
        for cut in [1, 3, 1000] {
            for (wire, response) in &table {
                assert_eq!(read(wire, cut), Ok(vec![response.clone()]), "{wire}");
            }
            let all: String = table.iter().map(|(wire, _)| *wire).collect();
            assert_eq!(read(&all, cut).map(|all| all.len()), Ok(table.len()));
        }
    }

    #[test]
    fn what_is_no_imap_is_an_error() {
        let deep = format!("* X {}\r\n", "(".repeat(40));
        let long = "x".repeat(MAX_LINE + 1);
        let literals = format!("* X {}\r\n", "{0}\r\n ".repeat(65));
        for (wire, error) in [
            ("\r\n", Malformed::Syntax),
            ("*\r\n", Malformed::Syntax),
            ("x y z\r\n", Malformed::Syntax),
            ("* 1\r\n", Malformed::Syntax),
            ("* FETCH (\r\n", Malformed::Syntax),
            ("* FETCH )\r\n", Malformed::Syntax),
            ("* \"open\r\n", Malformed::Syntax),
            (&deep, Malformed::Depth),
            (&long, Malformed::Line),
            (&literals, Malformed::Literals),
        ] {
            assert_eq!(read(wire, 100), Err(error), "{wire:.40}");
        }
    }
}
