//! Commands of the RFCs' examples, and lines that must be refused.

use proptest::prelude::*;

use super::{Options, ParseError, parse};
use crate::imap::command::*;
use crate::imap::fragment::{Event, Fragmenter, Limits};
use crate::types::{Flag, SystemFlags};

fn read(line: &[u8], utf8: bool) -> Result<Command, ParseError> {
    let mut fragmenter = Fragmenter::new(Limits {
        max_line: 100_000,
        max_literal: 1000,
        max_non_sync: 1000,
        max_literals_total: 4000,
        max_append: 1000,
    });
    fragmenter.feed(line);
    fragmenter.feed(b"\r\n");
    loop {
        match fragmenter.next() {
            Event::Command(bytes) => {
                return parse(
                    &bytes,
                    Options {
                        max_depth: 32,
                        utf8,
                    },
                )
                .map(|t| t.command);
            }
            Event::LiteralRequested { .. } => fragmenter.continue_literal(),
            other => panic!("{other:?} of {:?}", String::from_utf8_lossy(line)),
        }
    }
}

fn shown(line: &str) -> String {
    format!(
        "{:?}",
        read(line.as_bytes(), false).unwrap_or_else(|e| panic!("{line}: {}", e.text))
    )
}

fn key(line: &str) -> SearchKey {
    match read(line.as_bytes(), false) {
        Ok(Command::Search(search)) => search.key,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn what_the_rfcs_show_is_understood() {
    for line in [
        "abcd CAPABILITY",
        "a002 NOOP",
        "A023 LOGOUT",
        "a001 STARTTLS",
        "a NAMESPACE",
        "A001 IDLE",
        "FXXZ CHECK",
        "A341 CLOSE",
        "A341 UNSELECT",
        "A202 EXPUNGE",
        "A003 UID EXPUNGE 3000:3002",
        "a023 ID (\"name\" \"sodr\" \"version\" \"19.34\" \"vendor\" NIL)",
        "a042 ID NIL",
        "a001 AUTHENTICATE GSSAPI",
        "C01 AUTHENTICATE PLAIN dGVzdAB0ZXN0AHRlc3Q=",
        "C02 AUTHENTICATE EXTERNAL =",
        "a001 LOGIN SMITH SESAME",
        "A001 LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man",
        "a login \"a b\" \"c\\\"d\"",
        "t2 ENABLE IMAP4rev2 CONDSTORE",
        "A142 SELECT INBOX",
        "A932 EXAMINE blurdybloop",
        "A003 CREATE owatagusiam/",
        "t1 CREATE MySpecial (USE (\\Drafts \\Sent))",
        "A683 DELETE blurdybloop",
        "A682 RENAME blurdybloop sarasoop",
        "A002 SUBSCRIBE #news.comp.mail.mime",
        "A002 UNSUBSCRIBE x",
        "A101 LIST \"\" \"\"",
        "A202 LIST ~/Mail/ %",
        "a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" \"*\" RETURN (CHILDREN)",
        "a LIST (REMOTE) \"\" (INBOX \"Drafts\" \"Sent/%\")",
        "a LIST \"\" % RETURN (STATUS (MESSAGES UNSEEN))",
        "a LIST () \"\" % RETURN ()",
        "t3 LIST (SPECIAL-USE) \"\" \"*\" RETURN (SPECIAL-USE)",
        "a GETMETADATA \"INBOX\" (MAXSIZE 1024 DEPTH infinity) (/shared/comment /private/x)",
        "a GETMETADATA (DEPTH 1) \"\" /shared",
        "a SETMETADATA INBOX (/private/comment {3}\r\nabc /shared/comment NIL)",
        "a LIST \"\" % RETURN (METADATA (\"/shared/vendor/cmu/cyrus-imapd/color\") CHILDREN)",
        "A002 SETACL INBOX/Drafts Chris +cda",
        "A002 SETACL INBOX {5}\r\nChris \"\"",
        "B002 DeleteAcl INBOX Fred",
        "A002 GETACL INBOX",
        "a001 LISTRIGHTS ~/Mail/saved smith",
        "A003 MYRIGHTS INBOX",
        "A01 LIST \"\" % RETURN (MYRIGHTS)",
        "A002 LSUB \"#news.\" \"comp.mail.*\"",
        "A042 STATUS blurdybloop (UIDNEXT MESSAGES SIZE DELETED RECENT)",
        "A654 FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])",
        "a FETCH * FULL",
        "a FETCH 1,3:*,7 ALL",
        "a UID FETCH 1 BODY.PEEK[1.2.HEADER.FIELDS.NOT (X)]<0.2048>",
        "a FETCH 1 (RFC822 RFC822.TEXT BODY[4.1.MIME])",
        "A003 STORE 2:4 +FLAGS (\\Deleted)",
        "a UID STORE 1 -FLAGS.SILENT $Work \\Seen",
        "a STORE 1 FLAGS ()",
        "a NOTIFY NONE",
        "a notify set status (selected (MessageNew (uid body.peek[header.fields (from to)]) \
         MessageExpunge)) (subtree Lists (MessageNew MessageExpunge))",
        "a NOTIFY SET (mailboxes (INBOX {1}\r\nx) (MessageNew MessageExpunge FlagChange)) \
         (personal (SubscriptionChange MailboxName)) (inboxes none)",
        "A003 COPY 2:4 MEETING",
        "a UID MOVE 42:69 foo",
        "a UID COPY $ foo",
        "A282 SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
        "A284 SEARCH CHARSET UTF-8 TEXT {6}\r\nабв",
        "A282 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994",
        "a UID SEARCH RETURN (SAVE) 1:* OR SEEN (DRAFT NEW)",
        "a SEARCH HEADER Message-ID <x@y>",
        "a SEARCH RETURN () YOUNGER 259200 LARGER 5 UNKEYWORD $x",
        "a search uid $",
        "A142 SELECT INBOX (CONDSTORE)",
        "A02 SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211,214:541))",
        "B04 EXAMINE INBOX (QRESYNC (67890007 90060115194045000 1:29997 (5000,7500,9000,9990:9992 \
         15000,22500,27000,29970,29973,29976)))",
        "a SELECT x (CONDSTORE QRESYNC (1 1 (1 1)))",
        "A042 STATUS blurdybloop (UIDNEXT MESSAGES HIGHESTMODSEQ)",
        "a103 UID STORE 6,4,8 (UNCHANGEDSINCE 12121230045) +FLAGS.SILENT (\\Deleted)",
        "a104 STORE * (UNCHANGEDSINCE 0) +FLAGS.SILENT \\Deleted $Processed",
        "s100 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12345)",
        "s100 UID FETCH 300:500 FLAGS (CHANGEDSINCE 12345 VANISHED)",
        "a FETCH 1:3 ALL (CHANGEDSINCE 9223372036854775807)",
        "a FETCH 1:3 (MODSEQ)",
        "a SEARCH MODSEQ \"/flags/\\\\draft\" all 620162338",
        "t SEARCH OR NOT MODSEQ 720162338 LARGER 50000",
        "a SEARCH SENTON \"1-Feb-1994\" OLDER 1 2,4:*",
        "A282 SORT (SUBJECT) UTF-8 SINCE 1-Feb-1994",
        "A283 SORT (SUBJECT REVERSE DATE) \"UTF-8\" ALL",
        "E01 UID SORT RETURN () (REVERSE DATE DISPLAYFROM) UTF-8 UNDELETED UNKEYWORD $Junk",
        "A283 THREAD ORDEREDSUBJECT UTF-8 SINCE 5-MAR-2000",
        "A284 UID THREAD REFERENCES US-ASCII TEXT \"gewp\"",
        "A01 SEARCH RETURN (CONTEXT COUNT) UNDELETED UNKEYWORD $Junk",
        "B01 UID SEARCH RETURN (UPDATE COUNT) DELETED KEYWORD $Junk",
        "B04 CANCELUPDATE \"B01\" \"B02\"",
        "A02 UID SEARCH RETURN (PARTIAL 23500:24000) UNDELETED UNKEYWORD $Junk",
        "A01 UID SEARCH RETURN (PARTIAL -1:-100) UNDELETED",
        "10 UID FETCH 25900:26600 (UID FLAGS) (PARTIAL -1:-3)",
        "101 UID FETCH 25900:26600 (UID FLAGS) (PARTIAL -1:-30 CHANGEDSINCE 98305)",
        "tag1 ESEARCH IN (mailboxes \"folder1\" subtree \"folder2\") unseen",
        "tag2 ESEARCH IN (mailboxes (\"folder1\" x) subtree-one \"folder2\") subject \"chad\"",
        "a ESEARCH IN (selected inboxes personal subscribed) RETURN (COUNT) CHARSET UTF-8 ALL",
        "a ESEARCH ALL",
        "A2 SEARCH FUZZY SUBJECT work FROM user@example.com",
        "B1 SEARCH RETURN (RELEVANCY ALL) FUZZY (TEXT \"Helo\" SEEN)",
        "C2 SORT RETURN (RELEVANCY ALL) (RELEVANCY) UTF-8 OR ALL FUZZY TEXT \"Helo\"",
        "A143 UIDBATCHES 2000",
        "A143 UIDBATCHES 2000 10:20",
        "a SEARCH SAVEDBEFORE 28-Dec-2014 SAVEDON 1-Jan-2015 SAVEDSINCE 1-Jan-2015",
        "a SEARCH NOT SAVEDATESUPPORTED EMAILID M6d99ac3275bb4e THREADID T64b478a75b7ea9",
    ] {
        let command = read(line.as_bytes(), false);
        assert!(command.is_ok(), "{line}: {command:?}");
    }
}

#[test]
fn what_is_understood_is_what_was_said() {
    assert_eq!(
        shown("a SELECT inbox"),
        "Select { mailbox: \"INBOX\", parameters: [], read_only: false }"
    );
    assert_eq!(shown("a DELETE Entw&APw-rfe"), "Delete(\"Entwürfe\")");
    assert_eq!(shown("a DELETE \"Entwürfe\""), "Delete(\"Entwürfe\")");
    assert_eq!(
        shown("a LOGIN u {3}\r\n\"a\""),
        "Login { user: \"u\", password: Secret(…) }"
    );
    assert_eq!(
        format!("{:?}", read(b"a DELETE \"R&-D\"", true).expect("valid")),
        "Delete(\"R&-D\")"
    );
    let seen = SearchKey::Flag(Flag::System(SystemFlags::SEEN));
    assert_eq!(
        key("a SEARCH UNSEEN"),
        SearchKey::Not(Box::new(seen.clone()))
    );
    assert_eq!(
        key("a SEARCH OR SEEN ALL BEFORE 2-Jan-1970"),
        SearchKey::And(vec![
            SearchKey::Or(Box::new(seen), Box::new(SearchKey::All)),
            SearchKey::Before(1)
        ])
    );
    match read(b"a FETCH 1 BODY.PEEK[1.2.TEXT]<5.6>", false) {
        Ok(Command::Fetch { items, .. }) => assert_eq!(
            items,
            [FetchItem::Section(Section {
                part: vec![1, 2],
                text: SectionText::Text,
                partial: Some((5, 6)),
                peek: true,
                label: SectionLabel::Body,
            })]
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn append_heads() {
    let head = |line: &str| {
        let mut fragmenter = Fragmenter::new(Limits {
            max_line: 1000,
            max_literal: 100,
            max_non_sync: 100,
            max_literals_total: 400,
            max_append: 1000,
        });
        fragmenter.feed(line.as_bytes());
        loop {
            match fragmenter.next() {
                Event::Append(piece) => return Some(*piece),
                Event::LiteralRequested { .. } => fragmenter.continue_literal(),
                Event::NeedInput | Event::Command(_) | Event::Error { .. } => return None,
                _ => {}
            }
        }
    };
    let append = |mailbox: &str, flags, date| {
        let tag = match mailbox {
            "saved-messages" => "A003",
            _ => "A",
        };
        Some(AppendPiece {
            tag: tag.into(),
            begin: Some(Append {
                mailbox: mailbox.into(),
                replaces: None,
            }),
            steps: vec![AppendStep::Message {
                flags,
                date,
                catenated: false,
            }],
            data: Some(AppendData {
                size: 310,
                binary: false,
                utf8: false,
                sync: mailbox == "saved-messages" || mailbox == "box",
            }),
        })
    };
    let seen = vec![Flag::System(SystemFlags::SEEN)];
    assert_eq!(
        head("A003 APPEND saved-messages (\\Seen) {310}\r\n"),
        append("saved-messages", seen, None)
    );
    assert_eq!(
        head("A APPEND \"a b\" \" 7-Feb-1994 21:52:25 -0800\" {310+}\r\n"),
        append("a b", vec![], Some((760_686_745_000, -480)))
    );
    // Any zone that hhmm can tell.
    assert_eq!(
        head("A APPEND x \" 1-Jan-1970 00:00:00 -2359\" {310+}\r\n"),
        append("x", vec![], Some((86_340_000, -1439)))
    );
    // A leap second stays on its day.
    assert_eq!(
        head("A APPEND x \"31-Dec-2016 23:59:60 +0000\" {310+}\r\n"),
        append("x", vec![], Some((1_483_228_799_000, 0)))
    );
    assert_eq!(
        head("A APPEND {3+}\r\nbox {310}\r\n"),
        append("box", vec![], None)
    );
    for bad in [
        "a APPEND x (\\Bad) {5}\r\n",
        "a APPEND x \"1-Foo-1994 21:52:25 -0800\" {5}\r\n",
        "a APPEND x \"  1-Feb-1994 21:52:25 -0800\" {5}\r\n",
        "a APPEND x \" 11-Feb-1994 21:52:25 -0800\" {5}\r\n",
        "a APPEND x \"\t1-Feb-1994 21:52:25 -0800\" {5}\r\n",
        "a APPEND x \" 1-Feb-1994 21:52:25 +2400\" {5}\r\n",
        "a APPEND {5}\r\n",
        // The line is over behind an empty name, and what follows is not of it.
        "a APPEND {0}\r\n\r\n {310+}\r\n",
        "a APPEND x CATENATE (URL {0}\r\n\r\n TEXT {310+}\r\n",
    ] {
        assert_eq!(head(bad), None, "{bad}");
    }
}

#[test]
fn the_rest_is_refused_with_a_reason() {
    let deep = format!("a SEARCH {}ALL{}", "(".repeat(40), ")".repeat(40));
    for line in [
        "",
        "a",
        "a ",
        "* NOOP",
        "a+ NOOP",
        "a NOOP ",
        "a XYZZY",
        "a SELECT",
        "a SELECT a b",
        "a LOGIN x",
        "a LOGIN \"x y",
        "a LOGIN \"\\x\" y",
        "a FETCH 0 FLAGS",
        "a FETCH 4294967296 FLAGS",
        "a FETCH 1: FLAGS",
        "a FETCH 1 ()",
        "a FETCH 1 NONSENSE",
        "a FETCH 1 BODY[0]",
        "a FETCH 1 BODY[1.]",
        "a FETCH 1 BODY[MIME]",
        "a FETCH 1 BODY[]<0.0>",
        "a FETCH 1 BODY[]<1>",
        "a FETCH 1 (FLAGS",
        "a FETCH 1 FLAGS UID",
        "a FETCH 1 BODY[HEADER.FIELDS ()]",
        "a STORE 1 FLAGZ (\\Seen)",
        "a STORE 1 +FLAGS (\\Recent)",
        "a STORE 1 FLAGS \\",
        "a UID NOOP",
        "a UID LOGIN x y",
        "a SEARCH",
        "a SEARCH BOGUS",
        "a SEARCH NOT",
        "a SEARCH ()",
        "a SEARCH SINCE 31-Feb-2020",
        "a SEARCH SINCE 1-1-2020",
        "a SEARCH LARGER -1",
        "a SEARCH KEYWORD \\Seen",
        "a SEARCH OLDER 0",
        "a SORT () UTF-8 ALL",
        "a SORT (REVERSE REVERSE DATE) UTF-8 ALL",
        "a SORT (RELEVANCY) UTF-8 ALL",
        "a THREAD BOGUS UTF-8 ALL",
        "a CANCELUPDATE",
        "a CANCELUPDATE x",
        "a SEARCH RETURN (PARTIAL 0:1) ALL",
        "a SEARCH RETURN (PARTIAL 1:-1) ALL",
        "a SEARCH RETURN (PARTIAL 1:* ALL) ALL",
        "a SEARCH RETURN (RELEVANCY) FUZZYX ALL",
        "a ESEARCH IN () ALL",
        "a ESEARCH IN (selected-delayed) ALL",
        "a ESEARCH IN (subtree) ALL",
        "a ESEARCH IN (personal) RETURN (SAVE) ALL",
        "a UIDBATCHES",
        "a UIDBATCHES 0",
        "a UIDBATCHES 500 1",
        "a FETCH 1 FLAGS (PARTIAL 1:2)",
        "a STATUS x ()",
        "a STATUS x (BOGUS)",
        "a LIST (RECURSIVEMATCH) \"\" *",
        "a LIST (BOGUS) \"\" *",
        "a LIST \"\" * RETURN (BOGUS)",
        "a CREATE x (FOO (\\Sent))",
        "a ENABLE",
        "a DELETE a&b",
        "a ID (\"x\")",
        "a FETCH 1 BODY[1HEADER]",
        "a SELECT x ()",
        "a SEARCH MODSEQ \"/flags/a b\" all 5",
        "a SEARCH MODSEQ \"/flags/\" all 5",
        "a SEARCH MODSEQ {8}\r\n/flags/x all 5",
        "a SEARCH SINCE {10}\r\n1-Feb-1994",
        "a GETMETADATA (MAXSIZE 4294967296) INBOX /shared",
        "a LOGIN x {1}\r\n\0",
        "a LOGIN x \"{1}\r\na\"",
        &deep,
    ] {
        let error = read(line.as_bytes(), false).expect_err(line);
        assert!(!error.text.is_empty(), "{line}");
    }
    for (line, saves) in [
        (&b"a7 SEARCH CHARSET KOI8-R TEXT \"\xcb\"\xff"[..], false),
        (b"a7 SEARCH RETURN (SAVE MIN) CHARSET x ALL", true),
    ] {
        let command = read(line, false).expect("charset");
        assert!(matches!(command, Command::SearchInCharset { save, .. } if save == saves));
    }
    let many = format!("a SEARCH {}", "SEEN ".repeat(1001).trim_end());
    assert!(read(many.as_bytes(), false).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        crate::imap::fuzz_parser(&bytes);
        crate::imap::fuzz_session(&bytes);
    }

    #[test]
    fn words_in_any_order_are_answered(words in prop::collection::vec(prop::sample::select(vec![
        "a", "UID", "SEARCH", "FETCH", "(", ")", "BODY[", "]", "1:*", "\"x\"", "{2+}\r\nhi", "NOT", "OR", "\r\n",
        "LIST", "RETURN", "(STATUS (", "$", "APPEND", "\\Seen", "<0.1>", "HEADER.FIELDS",
        "SORT", "THREAD", "ESEARCH", "IN", "(DATE)", "UTF-8", "(PARTIAL", "1:2)", "FUZZY", "REFERENCES",
    ]), 0..30)) {
        crate::imap::fuzz_parser(format!("{}\r\n", words.join(" ")).as_bytes());
    }
}
