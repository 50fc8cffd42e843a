//! One command line in, one command out (RFC 5321, 4.1; RFC 6531, 3.3). Ours, because what
//! strangers send is refused exactly where the grammar says so.
//!
//! Machine: no IO, no clock, no randomness.

use crate::types::{Address, AddressError, Domain, DomainError};

use super::reply::Reply;

/// MAIL's parameters that we understand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    pub size: Option<u64>,
    pub smtp_utf8: bool,
    pub eight_bit: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Ehlo(String),
    Helo(String),
    /// None: the null reverse-path.
    Mail {
        from: Option<Address>,
        parameters: MailParameters,
    },
    Rcpt {
        to: Target,
        /// The path was written with characters beyond ASCII, which SMTPUTF8 must allow.
        utf8: bool,
    },
    Data,
    Bdat {
        size: u64,
        last: bool,
    },
    /// RFC 4468.
    Burl {
        url: String,
        last: bool,
    },
    Rset,
    Noop,
    Quit,
    Vrfy,
    Expn,
    Help,
    StartTls,
    /// The initial response still in base64; `=` is an empty one.
    Auth {
        mechanism: String,
        initial: Option<String>,
    },
}

/// To whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Address(Address),
    /// `<Postmaster>` without a domain (RFC 5321, 4.1.1.3).
    Postmaster,
}

fn syntax(text: &str) -> Reply {
    Reply::new(501, "5.5.4", text)
}

/// Parses a line without its CRLF.
pub fn parse(line: &[u8]) -> Result<Command, Reply> {
    if line.iter().any(|b| *b < b' ' && *b != b'\t' || *b == 0x7f) {
        return Err(Reply::new(500, "5.5.2", "Control character in a command"));
    }
    let line = std::str::from_utf8(line)
        .map_err(|_| Reply::new(500, "5.5.2", "A command is not valid UTF-8"))?;
    let line = line.trim_end_matches([' ', '\t']);
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start_matches(' ');
    let plain = |command: Command| {
        if rest.is_empty() {
            Ok(command)
        } else {
            Err(syntax("No parameters allowed"))
        }
    };
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => client_name(rest).map(Command::Ehlo),
        "HELO" => client_name(rest).map(Command::Helo),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "DATA" => plain(Command::Data),
        "BDAT" => bdat(rest),
        "BURL" => burl(rest),
        "RSET" => plain(Command::Rset),
        "NOOP" => Ok(Command::Noop),
        "QUIT" => plain(Command::Quit),
        "VRFY" => Ok(Command::Vrfy),
        "EXPN" => Ok(Command::Expn),
        "HELP" => Ok(Command::Help),
        "STARTTLS" => plain(Command::StartTls),
        "AUTH" => {
            let mut words = rest.split_ascii_whitespace();
            let mechanism = words
                .next()
                .ok_or_else(|| syntax("AUTH needs a mechanism"))?;
            let initial = words.next().map(str::to_owned);
            if words.next().is_some() {
                return Err(syntax("Too many parameters"));
            }
            Ok(Command::Auth {
                mechanism: mechanism.to_owned(),
                initial,
            })
        }
        _ => Err(Reply::new(500, "5.5.1", "Command not recognized")),
    }
}

/// Any name without blanks: strangers give all sorts, and RFC 5321, 4.1.4 forbids to refuse a
/// name for not being one's own.
fn client_name(rest: &str) -> Result<String, Reply> {
    if rest.is_empty() || rest.len() > 255 || rest.contains([' ', '\t', '(', ')', '<', '>']) {
        return Err(syntax("A domain or address literal is needed"));
    }
    Ok(rest.to_owned())
}

fn bdat(rest: &str) -> Result<Command, Reply> {
    let mut words = rest.split_ascii_whitespace();
    let size = words
        .next()
        .and_then(number)
        .ok_or_else(|| syntax("BDAT needs a size"))?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(syntax("BDAT knows only LAST")),
    };
    if words.next().is_some() {
        return Err(syntax("Too many parameters"));
    }
    Ok(Command::Bdat { size, last })
}

/// `BURL url [LAST]` (RFC 4468, 4).
fn burl(rest: &str) -> Result<Command, Reply> {
    let mut words = rest.split_ascii_whitespace();
    let url = words.next().ok_or_else(|| syntax("BURL needs a URL"))?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(syntax("BURL knows only LAST")),
    };
    if words.next().is_some() {
        return Err(syntax("Too many parameters"));
    }
    Ok(Command::Burl {
        url: url.to_owned(),
        last,
    })
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn strip_keyword<'a>(rest: &'a str, keyword: &str) -> Result<&'a str, Reply> {
    let wrong = || syntax("Syntax: MAIL FROM:<address> or RCPT TO:<address>");
    let head = rest.get(..keyword.len()).ok_or_else(wrong)?;
    if !head.eq_ignore_ascii_case(keyword) {
        return Err(wrong());
    }
    // Blanks after the colon are not in the grammar, but widely sent.
    Ok(rest[keyword.len()..].trim_start_matches(' '))
}

/// What stands in `<>`.
struct Path<'a> {
    /// Without the source route; empty: the null path.
    address: &'a str,
    utf8: bool,
}

/// Splits `<path> parameters`. Quotes in the path are minded; a source route is dropped
/// (RFC 5321, 4.1.1.3 and appendix C).
fn path(text: &str) -> Result<(Path<'_>, &str), Reply> {
    let inner = text
        .strip_prefix('<')
        .ok_or_else(|| syntax("The address must stand in <>"))?;
    let (mut quoted, mut escaped, mut end) = (false, false, None);
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                end = Some(at);
                break;
            }
            _ => {}
        }
    }
    let end = end.ok_or_else(|| syntax("The address has no closing >"))?;
    let (whole, rest) = (&inner[..end], &inner[end + 1..]);
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(syntax("A blank is needed after the address"));
    }
    let address = if whole.starts_with('@') {
        // A route leads to some mailbox: with none behind it, it is not the null path.
        behind_route(whole)
            .filter(|address| !address.is_empty())
            .ok_or_else(|| syntax("Bad source route"))?
    } else {
        whole
    };
    let utf8 = !whole.is_ascii();
    Ok((Path { address, utf8 }, rest))
}

/// What follows `@domain,@domain:` (RFC 5321, 4.1.2, A-d-l). None: it is no such list.
fn behind_route(text: &str) -> Option<&str> {
    let mut text = text;
    loop {
        let hop = text.strip_prefix('@')?;
        // An address literal may have colons in it.
        let from = if hop.starts_with('[') {
            hop.find(']')?
        } else {
            0
        };
        let end = from + hop[from..].find([',', ':'])?;
        Domain::parse(&hop[..end]).ok()?;
        text = &hop[end + 1..];
        if hop[end..].starts_with(':') {
            return Some(text);
        }
    }
}

fn address_error(error: &AddressError, sender: bool) -> Reply {
    let enhanced = match (error, sender) {
        (AddressError::Domain(DomainError::Invalid | DomainError::Literal), true) => "5.1.8",
        (_, true) => "5.1.7",
        (_, false) => "5.1.3",
    };
    Reply::new(
        if sender { 501 } else { 553 },
        enhanced,
        format!("Bad address: {error}"),
    )
}

/// RFC 6531, 3.5: 550 for MAIL, 553 for RCPT.
pub(super) fn utf8_needed(sender: bool) -> Reply {
    let code = if sender { 550 } else { 553 };
    Reply::new(code, "5.6.7", "Non-ASCII addresses need SMTPUTF8")
}

fn mail(rest: &str) -> Result<Command, Reply> {
    let (path, rest) = path(strip_keyword(rest, "FROM:")?)?;
    let mut parameters = MailParameters::default();
    let mut names = Vec::new();
    for parameter in rest.split_ascii_whitespace() {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (parameter, None),
        };
        let name = name.to_ascii_uppercase();
        match (name.as_str(), value) {
            // RFC 1870, 4 and 6: 1*20DIGIT
            ("SIZE", value) => {
                let size = value.and_then(number);
                parameters.size = Some(size.ok_or_else(|| syntax("Bad SIZE"))?);
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => {}
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => {
                parameters.eight_bit = true;
            }
            ("BODY", _) => return Err(syntax("BODY is 7BIT or 8BITMIME")),
            ("SMTPUTF8", None) => parameters.smtp_utf8 = true,
            ("SMTPUTF8", _) => return Err(syntax("SMTPUTF8 has no value")),
            // RFC 4954, 5: who is behind it; a server that does not trust it takes <>.
            ("AUTH", Some(_)) => {}
            ("AUTH", None) => return Err(syntax("AUTH needs a value")),
            _ => return Err(Reply::new(555, "5.5.4", "Parameter not recognized")),
        }
        if names.contains(&name) {
            return Err(syntax("A parameter is given twice"));
        }
        names.push(name);
    }
    if path.address.is_empty() {
        return Ok(Command::Mail {
            from: None,
            parameters,
        });
    }
    if path.utf8 && !parameters.smtp_utf8 {
        return Err(utf8_needed(true));
    }
    let from = Address::parse(path.address).map_err(|error| address_error(&error, true))?;
    Ok(Command::Mail {
        from: Some(from),
        parameters,
    })
}

fn rcpt(rest: &str) -> Result<Command, Reply> {
    let (path, rest) = path(strip_keyword(rest, "TO:")?)?;
    if !rest.trim().is_empty() {
        return Err(Reply::new(555, "5.5.4", "Parameter not recognized"));
    }
    let to = if path.address.eq_ignore_ascii_case("postmaster") {
        Target::Postmaster
    } else {
        let to = Address::parse(path.address).map_err(|error| address_error(&error, false))?;
        Target::Address(to)
    };
    let utf8 = path.utf8;
    Ok(Command::Rcpt { to, utf8 })
}

/// A name as it may stand in a Received line (RFC 5321, 4.4): a domain, also one with an
/// underscore, or an address literal.
pub(super) fn safe_name(name: &str) -> Option<String> {
    if let Ok(domain) = Domain::parse(name) {
        return Some(domain.as_str().to_owned());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| !label.is_empty() && label.chars().all(fine);
    name.split('.').all(label).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rcpt(to: Target, utf8: bool) -> Command {
        Command::Rcpt { to, utf8 }
    }

    fn target(text: &str) -> Command {
        rcpt(Target::Address(Address::parse(text).expect(text)), false)
    }

    #[test]
    fn accepts() {
        let from = |text: &str| Some(Address::parse(text).expect(text));
        let none = MailParameters::default;
        for (line, command) in [
            ("ehlo x.test", Command::Ehlo("x.test".into())),
            ("EHLO [192.0.2.1]  ", Command::Ehlo("[192.0.2.1]".into())),
            (
                "MAIL FROM:<>",
                Command::Mail {
                    from: None,
                    parameters: none(),
                },
            ),
            (
                "mail from: <a@x.test>",
                Command::Mail {
                    from: from("a@x.test"),
                    parameters: none(),
                },
            ),
            ("RCPT TO:<Postmaster>", rcpt(Target::Postmaster, false)),
            (
                "RCPT TO:<a@bücher.test>",
                rcpt(
                    Target::Address(Address::parse("a@xn--bcher-kva.test").expect("valid")),
                    true,
                ),
            ),
            ("RCPT TO:<a@[192.0.2.1]>", target("a@[192.0.2.1]")),
            ("RCPT TO:<\"a b>\"@x.test>", target("\"a b>\"@x.test")),
            ("RCPT TO:<@a.test,@b.test:c@x.test>", target("c@x.test")),
            (
                "MAIL FROM:<@[IPv6:2001:db8::1],@[192.0.2.1]:c@x.test>",
                Command::Mail {
                    from: from("c@x.test"),
                    parameters: none(),
                },
            ),
            (
                "RCPT TO:<@[IPv6:::1]:Postmaster>",
                rcpt(Target::Postmaster, false),
            ),
            (
                "BDAT 5 last",
                Command::Bdat {
                    size: 5,
                    last: true,
                },
            ),
            (
                "BDAT 0",
                Command::Bdat {
                    size: 0,
                    last: false,
                },
            ),
            ("NOOP whatever", Command::Noop),
            (
                "AUTH PLAIN =",
                Command::Auth {
                    mechanism: "PLAIN".into(),
                    initial: Some("=".into()),
                },
            ),
            (
                "MAIL FROM:<é@x.test> SIZE=7 BODY=8BITMIME SMTPUTF8 AUTH=<>",
                Command::Mail {
                    from: from("é@x.test"),
                    parameters: MailParameters {
                        size: Some(7),
                        smtp_utf8: true,
                        eight_bit: true,
                    },
                },
            ),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn refuses() {
        for (line, code) in [
            (&b"XYZZY"[..], 500),
            (b"", 500),
            (b"DATA now", 501),
            (b"EHLO", 501),
            (b"EHLO a b", 501),
            (b"MAIL FROM:a@x.test", 501),
            (b"MAIL FROM:<a@x.test", 501),
            (b"MAIL TO:<a@x.test>", 501),
            (b"MAIL FROM:<a@x.test>SIZE=1", 501),
            (b"MAIL FROM:<a@x.test> SIZE=x", 501),
            (b"MAIL FROM:<a@x.test> SIZE=", 501),
            (b"MAIL FROM:<a@x.test> SIZE", 501),
            (b"MAIL FROM:<a@x.test> SIZE=-1", 501),
            (b"MAIL FROM:<a@x.test> SIZE=123456789012345678901", 501),
            (b"MAIL FROM:<a@x.test> SIZE=1 size=1", 501),
            (b"MAIL FROM:<a@x.test> BODY=7BIT BODY=8BITMIME", 501),
            (b"MAIL FROM:<a@x.test> SMTPUTF8 SMTPUTF8", 501),
            (b"MAIL FROM:<a@x.test> SMTPUTF8=1", 501),
            (b"MAIL FROM:<a@x.test> AUTH=<> AUTH=<>", 501),
            (b"MAIL FROM:<a@x.test> AUTH", 501),
            (b"MAIL FROM:<@a.test:>", 501),
            (b"MAIL FROM:<@a.test>", 501),
            (b"MAIL FROM:<@:c@x.test>", 501),
            (b"MAIL FROM:<@a.test,b.test:c@x.test>", 501),
            (b"MAIL FROM:<@a.test,:c@x.test>", 501),
            (b"MAIL FROM:<@[IPv6:::1:c@x.test>", 501),
            (b"MAIL FROM:<@[IPv6:::1]c@x.test>", 501),
            (b"RCPT TO:<@a.test:>", 501),
            (b"MAIL FROM:<a@x.test> BODY=9BIT", 501),
            (b"MAIL FROM:<a@x.test> RET=HDRS", 555),
            (b"MAIL FROM:<\xc3\xa9@x.test>", 550),
            (b"MAIL FROM:<a@\xc3\xa9.test>", 550),
            (b"MAIL FROM:<@\xc3\xa9.test:a@x.test>", 550),
            (b"MAIL FROM:<\xff@x.test>", 500),
            (b"RCPT TO:<>", 553),
            (b"RCPT TO:<a>", 553),
            (b"RCPT TO:<a@x.test> NOTIFY=NEVER", 555),
            (b"RCPT TO:<a b@x.test>", 553),
            (b"NOOP\nQUIT", 500),
            (b"NOOP\0", 500),
            (b"BDAT", 501),
            (b"BDAT -1", 501),
            (b"BDAT 1 FIRST", 501),
        ] {
            let reply = parse(line).expect_err("refused");
            assert_eq!(
                reply.code,
                code,
                "{:?}: {reply:?}",
                String::from_utf8_lossy(line)
            );
        }
    }
}
