//! Streams cut in all ways give the same commands.

use super::*;
use crate::imap::command::AppendStep;

fn fragmenter() -> Fragmenter {
    Fragmenter::new(Limits {
        max_line: 100,
        max_literal: 20,
        max_non_sync: 20,
        max_literals_total: 30,
        max_append: 50,
    })
}

fn step(step: &AppendStep) -> String {
    match step {
        AppendStep::Message { .. } => " message".into(),
        AppendStep::Url(url) => format!(" url:{url}"),
    }
}

/// All events as text, pieces of messages joined; every question is answered with yes.
fn events(input: &[u8], cut: usize) -> String {
    let mut f = fragmenter();
    let mut out = String::new();
    for piece in input.chunks(cut) {
        f.feed(piece);
        loop {
            match f.next() {
                Event::NeedInput => break,
                Event::AppendData(data) => out.push_str(&String::from_utf8_lossy(&data)),
                Event::Command(c) => {
                    out.push_str(&format!("[{}]", String::from_utf8_lossy(c.bytes())))
                }
                Event::LiteralRequested { size, .. } => {
                    out.push_str(&format!("<+{size}>"));
                    f.continue_literal();
                }
                Event::Append(piece) => {
                    let sync = piece.data.map(|data| data.sync);
                    let steps: String = piece.steps.iter().map(step).collect();
                    out.push_str(&format!("<append {}{steps} {sync:?}>", piece.tag));
                    f.accept_append();
                }
                Event::AppendEnd => out.push_str("<end>"),
                Event::Error {
                    tag, fatal, text, ..
                } => {
                    out.push_str(&format!("<error {tag:?} {fatal} {text}>"));
                }
                Event::Line(line) => out.push_str(&format!("<line {line:?}>")),
            }
        }
    }
    out
}

#[test]
fn any_split_gives_the_same() {
    let long = [
        b"a ".to_vec(),
        b"x".repeat(200),
        b" {3+}\r\nb X\r\nc NOOP\r\n".to_vec(),
    ]
    .concat();
    let big = b"a LOGIN {25+}\r\nb NOOP\r\nxxxxxxxxxxxxxxxxx y\r\nc NOOP\r\n";
    for (input, expected) in [
        (&b"a NOOP\r\nb NOOP\n"[..], "[a NOOP][b NOOP]"),
        (
            b"a LOGIN {3}\r\nu\r\n {2+}\r\npw\r\nb NOOP\r\n",
            "<+3>[a LOGIN {3}u\r\n {2+}pw][b NOOP]",
        ),
        (
            b"a APPEND INBOX (\\Seen) {5+}\r\nh\r\n\r\n\r\nb NOOP\r\n",
            "<append a message Some(false)>h\r\n\r\n<end>[b NOOP]",
        ),
        (
            b"a APPEND INBOX {3}\r\nabc x\r\nb NOOP\r\n",
            "<append a message Some(true)>abc<error Some(\"a\") false {FORM}>[b NOOP]",
        ),
        (
            b"a APPEND b {2+}\r\nxy (\\Seen) ~{1+}\r\nz {1}\r\nw\r\nb NOOP\r\n",
            "<append a message Some(false)>xy<append a message Some(false)>z\
             <append a message Some(true)>w<end>[b NOOP]",
        ),
        (
            b"a APPEND {1+}\r\nb CATENATE (URL /b/;UID=1 TEXT {1+}\r\nx URL {9+}\r\n/b/;UID=2)\r\n\
              b NOOP\r\n",
            "<append a message url:/b/;UID=1 Some(false)>x<append a url:/b/;UID=2 None>[b NOOP]",
        ),
        (
            b"a UID REPLACE 7 b CATENATE (UTF8 (~{1+}\r\nx) URL /b/;UID=2)\r\nb NOOP\r\n",
            "<append a message Some(false)>x<append a url:/b/;UID=2 None>[b NOOP]",
        ),
        (
            b"a REPLACE 7 b UTF8 (~{1+}\r\nx) {1+}\r\ny\r\nb NOOP\r\n",
            "<append a message Some(false)>x<error Some(\"a\") false {FORM}>[b NOOP]",
        ),
        (
            b"a APPEND b CATENATE ()\r\nb NOOP\r\n",
            "<error Some(\"a\") false {FORM}>[b NOOP]",
        ),
        (
            b"a NOOP\0\r\nb NOOP\r\n",
            "<error Some(\"a\") false NUL byte in a command>[b NOOP]",
        ),
        (
            big,
            "<error Some(\"a\") false The literal is too big>[c NOOP]",
        ),
        (
            b"a LOGIN {1000}\r\nb NOOP\r\n",
            "<error Some(\"a\") false The literal is too big>[b NOOP]",
        ),
        (
            b"a LOGIN {1000000000+}\r\nb NOOP\r\n",
            "<error Some(\"a\") true The literal is too big>",
        ),
        (&long, "<error Some(\"a\") false Line too long>[c NOOP]"),
    ] {
        for cut in 1..=input.len() {
            assert_eq!(
                events(input, cut),
                expected.replace("{FORM}", APPEND_FORM),
                "{:?} by {cut}",
                String::from_utf8_lossy(input)
            );
        }
    }
}
