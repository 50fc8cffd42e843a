//! SEARCH TEXT and BODY give the same with a full-text index and without one, and with it they
//! read few messages.

use std::time::{Duration, Instant};

use super::common::serve::{AUTH, Serving, configuration};
use super::common::{HTTP, IMAP, Imap, PASSWORD, PATIENCE, http_get};
use super::{ALICE, texts};

const MESSAGES: usize = 300;

fn mail(n: usize) -> String {
    let word = [
        "alpha",
        "Gr\u{fc}\u{df}e",
        "\u{65e5}\u{672c}\u{8a9e}",
        "\u{43c}\u{438}\u{440}",
    ][n % 4];
    format!(
        "From: Sender {n} <s{n}@example.net>\r\nSubject: number {n}\r\nX-Mark: mark{n}\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         Some words, {word},\r\nand item{n:04} at the end.\r\n"
    )
}

fn fill(imap: &mut Imap, from: usize, count: usize) {
    for n in from..from + count {
        let mail = mail(n);
        imap.send(format!("x APPEND INBOX {{{}+}}\r\n{mail}\r\n", mail.len()).as_bytes());
        let tagged = imap.until("x").1;
        assert!(tagged.starts_with("OK"), "{tagged}");
    }
}

const QUERIES: [&str; 14] = [
    "TEXT item0042",
    "BODY item0299",
    "BODY \"number 17\"",
    "TEXT \"number 17\"",
    "NOT BODY item0007",
    "OR TEXT item0001 BODY item0002",
    "TEXT alpha UNSEEN",
    "TEXT \"words, alpha\"",
    "HEADER X-Mark mark12",
    "HEADER X-Mark \"\" TEXT item0100",
    "HEADER X-Other \"\"",
    "TEXT ha",
    "TEXT nowhere",
    "NOT TEXT nowhere BODY \"end\"",
];

fn answers(imap: &mut Imap) -> Vec<String> {
    let mut all: Vec<String> = QUERIES
        .iter()
        .map(|query| texts(&imap.ok(&format!("UID SEARCH {query}"))).join(""))
        .collect();
    for word in [
        "GR\u{dc}\u{1e9e}E",
        "gr\u{fc}\u{df}e",
        "\u{65e5}\u{672c}",
        "\u{41c}\u{418}\u{420}",
    ] {
        let command = format!(
            "UID SEARCH CHARSET UTF-8 BODY {{{}+}}\r\n{word}",
            word.len()
        );
        all.push(texts(&imap.ok(&command)).join(""));
    }
    all
}

/// Searches that the index spared some messages.
fn narrowed(server: &Serving) -> u64 {
    let metrics = http_get(server.base + HTTP, "/metrics").expect("metrics");
    let name = "posthorn_store_text_searches_total{how=\"narrowed\"}";
    let line = metrics.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .expect("the metric is there")
}

fn indexed(server: &Serving, imap: &mut Imap) {
    let before = narrowed(server);
    let until = Instant::now() + PATIENCE;
    while narrowed(server) == before {
        assert!(Instant::now() < until, "there is no index");
        imap.ok("UID SEARCH TEXT nowhere");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_index_changes_no_answer() {
    let home = tempfile::tempdir().expect("tempdir");
    let mut expected = Vec::new();
    for on in [false, true] {
        let home = home.path().join(on.to_string());
        std::fs::create_dir(&home).expect("a directory");
        let server = Serving::start_with(&home, |base| {
            let text = configuration(base, "data", AUTH);
            text.replace("[store]\n", &format!("[store]\ntext_index = {on}\n"))
        });
        let mut imap = Imap::connect(server.base + IMAP).expect("IMAP");
        imap.ok(&format!("LOGIN {ALICE} {PASSWORD}"));
        fill(&mut imap, 0, MESSAGES);
        imap.ok("SELECT INBOX");
        let first = answers(&mut imap);
        if !on {
            assert_eq!(narrowed(&server), 0);
            assert!(!home.join("data/fulltext").exists());
            expected = first;
            assert_eq!(expected[0], "* SEARCH 43");
            continue;
        }
        assert_eq!(first, expected);
        indexed(&server, &mut imap);
        let before = narrowed(&server);
        assert_eq!(answers(&mut imap), expected);
        assert!(narrowed(&server) > before);
        // What came since is found at once, and what is gone is not.
        fill(&mut imap, MESSAGES, 3);
        imap.ok("UID STORE 43 +FLAGS.SILENT (\\Deleted)");
        imap.ok("EXPUNGE");
        let found = |imap: &mut Imap, query: &str| texts(&imap.ok(query)).join("");
        assert_eq!(found(&mut imap, "UID SEARCH TEXT item0302"), "* SEARCH 303");
        assert_eq!(found(&mut imap, "UID SEARCH TEXT item0042"), "* SEARCH");
    }
}
