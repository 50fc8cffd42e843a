//! getmail, which takes mail from a server and gives it to a program on the own machine.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::common::{IMAP, IMAPS, PASSWORD, have};
use super::trace::{Trace, count, has};
use super::{ALICE, demo, patient, run};

/// What comes by LMTP. getmail's other destinations fork, refuse to as root, and now and then
/// wait for ever for the child that has ended.
fn lmtp() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a client");
            let _ = take(BufReader::new(stream), &sender);
        }
    });
    (port, receiver)
}

fn take(mut client: BufReader<TcpStream>, messages: &Sender<String>) -> std::io::Result<()> {
    client.get_mut().write_all(b"220 sink\r\n")?;
    let mut line = String::new();
    while client.read_line(&mut line)? > 0 {
        let answer = match line.trim().to_ascii_uppercase().as_str() {
            "DATA" => {
                client.get_mut().write_all(b"354 go on\r\n")?;
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") {
                    client.read_line(&mut text)?;
                }
                text.truncate(text.len() - 3);
                let _ = messages.send(text);
                "250 taken\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 fine\r\n",
        };
        client.get_mut().write_all(answer.as_bytes())?;
        line.clear();
    }
    Ok(())
}

#[test]
fn getmail_takes_moves_and_deletes() {
    if !have("getmail") {
        return;
    }
    let (home, server) = demo();
    let mut imap = server.imap(ALICE);
    let mut append = |mailbox: &str, n: u32| {
        let text = format!(
            "From: a@example.net\r\nSubject: {n}\r\n\r\n{}\r\n",
            "x".repeat(70)
        );
        imap.ok(&format!("APPEND {mailbox} {{{}+}}\r\n{text}", text.len()));
    };
    let (sink, messages) = lmtp();
    let trace = Trace::before(server.port(IMAP));
    // Takes mail as these lines say; gives the subjects of what came.
    let get = |kind: &str, port: u16, retriever: &str, options: &str| {
        let text = format!(
            "[retriever]\ntype = {kind}\nserver = 127.0.0.1\nport = {port}\nusername = {ALICE}\n\
             password = {PASSWORD}\n{retriever}\n[destination]\ntype = MDA_lmtp\n\
             host = 127.0.0.1\nport = {sink}\noverride = {ALICE}\n[options]\nverbose = 2\n\
             delivered_to = false\nreceived = false\n{options}\n"
        );
        std::fs::write(home.path().join("rc"), text).expect("write");
        let dir = format!("--getmaildir={}", home.path().display());
        run(patient("getmail").args([&dir, "--rcfile=rc"]));
        let subjects = messages.try_iter().map(|text| {
            assert!(
                text.ends_with(&format!("\r\n\r\n{}\r\n", "x".repeat(70))),
                "{text}"
            );
            let line = text.lines().find_map(|l| l.strip_prefix("Subject: "));
            line.expect("a subject").to_owned()
        });
        subjects.collect::<Vec<String>>()
    };

    // What it has seen it knows by UIDVALIDITY and UID.
    (1..=3).for_each(|n| append("INBOX", n));
    let plain = "SimpleIMAPRetriever";
    let new = "delete = false\nread_all = false";
    let port = trace.port;
    assert_eq!(get(plain, port, "", new), ["1", "2", "3"]);
    has(&trace.take(), " EXAMINE INBOX");
    append("INBOX", 4);
    assert_eq!(get(plain, port, "", new), ["4"]);
    assert_eq!(count(&trace.take(), " UID FETCH "), 1);
    assert_eq!(get(plain, port, "", new), Vec::<String>::new());

    // All mailboxes, what a search finds there.
    append("Archive", 5);
    let all = "mailboxes = ALL\nimap_search = UNSEEN SINCE 1-Jan-2020\nuse_peek = false";
    assert_eq!(get(plain, port, all, new), ["5"]);
    has(&trace.take(), " SEARCH UNSEEN SINCE 1-Jan-2020");

    // Over TLS, and away with it.
    let away = "delete = true\nread_all = true";
    let moved = "mailboxes = (\"INBOX\", \"Archive\")\nmove_on_delete = Trash";
    let tls = "SimpleIMAPSSLRetriever";
    let taken = get(tls, server.port(IMAPS), moved, away);
    assert_eq!(taken, ["1", "2", "3", "4", "5"]);
    assert_eq!(
        get(plain, port, "mailboxes = (\"Trash\",)", away),
        ["1", "2", "3", "4", "5"]
    );
    for mailbox in ["INBOX", "Archive", "Trash"] {
        let lines = imap.ok(&format!("STATUS {mailbox} (MESSAGES)"));
        assert!(lines[0].text.ends_with("(MESSAGES 0)"), "{lines:?}");
    }
}
