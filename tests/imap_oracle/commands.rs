//! Commands that both parsers know.

use proptest::prelude::*;
use proptest::sample::select;

use crate::words::*;

fn key() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        3 => words(&[
            "ALL", "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "NEW", "OLD", "RECENT", "SEEN",
            "UNANSWERED", "UNDELETED", "UNDRAFT", "UNFLAGGED", "UNSEEN",
        ]),
        2 => seq![words(&["BCC ", "BODY ", "CC ", "FROM ", "SUBJECT ", "TEXT ", "TO "]), astring()],
        1 => seq![word("HEADER "), astring(), " ", astring()],
        2 => seq![
            words(&["BEFORE ", "ON ", "SINCE ", "SENTBEFORE ", "SENTON ", "SENTSINCE "]),
            date()
        ],
        1 => seq![words(&["KEYWORD ", "UNKEYWORD "]), atom()],
        1 => seq![words(&["LARGER ", "SMALLER ", "OLDER ", "YOUNGER "]), number()],
        1 => set(),
        1 => seq![word("UID "), set()],
        1 => seq![
            word("MODSEQ "),
            one(&["", "\"/flags/\\\\draft\" all ", "\"/FLAGS/$x\" PRIV ", "\"/flags/y\" shared "]),
            number64()
        ],
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let inner = inner.boxed();
        prop_oneof![
            seq![word("NOT "), inner.clone()],
            seq![word("OR "), inner.clone(), " ", inner.clone()],
            seq!["(", several(inner, " "), ")"],
        ]
    })
    .boxed()
}

fn keys() -> BoxedStrategy<String> {
    several(key(), " ")
}

fn charset() -> BoxedStrategy<String> {
    one(&[
        "UTF-8",
        "utf-8",
        "\"UTF-8\"",
        "US-ASCII",
        "KOI8-R",
        "\"x y\"",
    ])
}

fn item() -> BoxedStrategy<String> {
    let part = several(number(), ".");
    let fields = || {
        seq![
            words(&["HEADER.FIELDS (", "HEADER.FIELDS.NOT ("]),
            several(astring(), " "),
            ")"
        ]
    };
    let text = prop_oneof![words(&["HEADER", "TEXT"]), fields()].boxed();
    let in_part = prop_oneof![text.clone(), word("MIME")].boxed();
    let section = prop_oneof![
        one(&[""]),
        part.clone(),
        text,
        seq![part.clone(), ".", in_part],
    ]
    .boxed();
    let partial = || {
        optional(seq![
            "<",
            one(&["0", "7", "4294967295"]),
            ".",
            number(),
            ">"
        ])
    };
    prop_oneof![
        words(&[
            "ENVELOPE",
            "FLAGS",
            "INTERNALDATE",
            "RFC822.SIZE",
            "RFC822",
            "RFC822.HEADER",
            "RFC822.TEXT",
            "BODY",
            "BODYSTRUCTURE",
            "UID",
            "MODSEQ",
            "BODY[]",
            "BINARY[]",
        ]),
        seq![words(&["BODY[", "BODY.PEEK["]), section, "]", partial()],
        seq![
            words(&["BINARY[", "BINARY.PEEK["]),
            part.clone(),
            "]",
            partial()
        ],
        seq![word("BINARY.SIZE["), part, "]"],
    ]
    .boxed()
}

fn fetch() -> BoxedStrategy<String> {
    let items = || {
        prop_oneof![
            words(&["ALL", "FAST", "FULL"]),
            item(),
            seq!["(", several(item(), " "), ")"],
        ]
        .boxed()
    };
    let since = || seq![word("CHANGEDSINCE "), number64()];
    prop_oneof![
        seq![
            word("FETCH "),
            set(),
            " ",
            items(),
            optional(seq![" (", since(), ")"])
        ],
        seq![
            word("UID FETCH "),
            set(),
            " ",
            items(),
            optional(seq![" (", since(), optional(word(" VANISHED")), ")"])
        ],
    ]
    .boxed()
}

fn qresync() -> BoxedStrategy<String> {
    seq![
        word("QRESYNC ("),
        number(),
        " ",
        number64(),
        optional(one(&[" 1", " 41,43:211", " 9:5,7"])),
        optional(one(&[" (1 1)", " (5,7:8 20,30:31)"])),
        ")"
    ]
}

fn select_parameters() -> BoxedStrategy<String> {
    let parameter = prop_oneof![word("CONDSTORE"), qresync()].boxed();
    optional(seq![" (", several(parameter, " "), ")"])
}

fn status_items() -> BoxedStrategy<String> {
    several(
        words(&[
            "MESSAGES",
            "RECENT",
            "UIDNEXT",
            "UIDVALIDITY",
            "UNSEEN",
            "DELETED",
            "DELETED-STORAGE",
            "SIZE",
            "HIGHESTMODSEQ",
        ]),
        " ",
    )
}

fn nstring() -> BoxedStrategy<String> {
    prop_oneof![1 => words(&["NIL"]), 3 => string()].boxed()
}

fn entry() -> BoxedStrategy<String> {
    let name = || "/(shared|private|SHARED)(/[a-z.]{1,6}){0,2}".boxed();
    prop_oneof![name(), written(name())].boxed()
}

fn metadata() -> BoxedStrategy<String> {
    let value = prop_oneof![3 => nstring(), 1 => one(&["~{3}\r\na\0b", "~{0+}\r\n"])].boxed();
    let option = prop_oneof![
        seq![word("MAXSIZE "), number()],
        words(&["DEPTH 0", "DEPTH 1", "DEPTH infinity"]),
    ]
    .boxed();
    let options = optional(seq!["(", several(option, " "), ") "]);
    let entries = prop_oneof![entry(), seq!["(", several(entry(), " "), ")"]].boxed();
    prop_oneof![
        seq![
            word("SETMETADATA "),
            mailbox(),
            " (",
            several(seq![entry(), " ", value], " "),
            ")"
        ],
        seq![word("GETMETADATA "), options, mailbox(), " ", entries],
    ]
    .boxed()
}

fn append() -> BoxedStrategy<String> {
    let message = ("[ -~\r\n]{0,40}", 0..4u8).prop_map(|(text, how)| match how {
        0 => literal(&text, true),
        1 => literal(&text, false),
        2 => format!("~{}", literal(&text, true)),
        _ => format!("~{}", literal(&format!("{text}\0"), false)),
    });
    seq![
        word("APPEND "),
        mailbox(),
        " ",
        optional(seq![flags(), " "]),
        optional(seq![date_time(), " "]),
        message.boxed()
    ]
}

fn quota() -> BoxedStrategy<String> {
    let limit = seq![
        prop_oneof![word("STORAGE"), atom()].boxed(),
        " ",
        number64()
    ];
    prop_oneof![
        seq![word("GETQUOTA "), astring()],
        seq![word("GETQUOTAROOT "), mailbox()],
        seq![
            word("SETQUOTA "),
            astring(),
            " (",
            optional(several(limit, " ")),
            ")"
        ],
    ]
    .boxed()
}

fn selected() -> BoxedStrategy<String> {
    let uid = || optional(word("UID "));
    let store = seq![
        uid(),
        word("STORE "),
        set(),
        optional(seq![
            " (",
            word("UNCHANGEDSINCE "),
            one(&["0", "12121230045"]),
            ")"
        ]),
        " ",
        one(&["", "+", "-"]),
        words(&["FLAGS", "FLAGS.SILENT"]),
        " ",
        prop_oneof![flags(), several(flag(), " ")].boxed()
    ];
    let sort_key = seq![
        optional(word("REVERSE ")),
        words(&[
            "ARRIVAL",
            "CC",
            "DATE",
            "FROM",
            "SIZE",
            "SUBJECT",
            "TO",
            "DISPLAYFROM",
            "DISPLAYTO",
        ])
    ];
    prop_oneof![
        seq![
            uid(),
            word("SEARCH "),
            optional(seq![word("CHARSET "), charset(), " "]),
            keys()
        ],
        seq![
            uid(),
            word("SORT ("),
            several(sort_key, " "),
            ") ",
            charset(),
            " ",
            keys()
        ],
        seq![
            uid(),
            word("THREAD "),
            words(&["REFERENCES ", "ORDEREDSUBJECT "]),
            charset(),
            " ",
            keys()
        ],
        fetch(),
        store,
        seq![uid(), words(&["COPY ", "MOVE "]), set(), " ", mailbox()],
        seq![word("UID EXPUNGE "), set()],
    ]
    .boxed()
}

fn of_session() -> BoxedStrategy<String> {
    let fields = several(seq![string(), " ", nstring()], " ");
    prop_oneof![
        words(&[
            "CAPABILITY",
            "NOOP",
            "LOGOUT",
            "STARTTLS",
            "NAMESPACE",
            "IDLE",
            "CHECK",
            "CLOSE",
            "UNSELECT",
            "EXPUNGE",
            "ID NIL",
            "ID ()",
            "COMPRESS DEFLATE",
        ]),
        seq![word("ID ("), fields, ")"],
        seq![word("LOGIN "), astring(), " ", astring()],
        seq![
            word("AUTHENTICATE "),
            words(&["PLAIN", "GSSAPI", "SCRAM-SHA-256"]),
            one(&["", " =", " AGEAYg==", " dGVzdAB0ZXN0AHRlc3Q="])
        ],
        seq![
            word("ENABLE "),
            several(words(&["CONDSTORE", "IMAP4rev2", "UTF8=ACCEPT", "x"]), " ")
        ],
    ]
    .boxed()
}

/// Of mailboxes.
fn on_mailboxes() -> BoxedStrategy<String> {
    prop_oneof![
        seq![
            words(&["SELECT ", "EXAMINE "]),
            mailbox(),
            select_parameters()
        ],
        seq![
            words(&["CREATE ", "DELETE ", "SUBSCRIBE ", "UNSUBSCRIBE "]),
            mailbox()
        ],
        seq![word("RENAME "), mailbox(), " ", mailbox()],
        seq![
            words(&["LIST ", "LSUB "]),
            prop_oneof![one(&["\"\""]), mailbox()].boxed(),
            " ",
            pattern()
        ],
        seq![word("STATUS "), mailbox(), " (", status_items(), ")"],
    ]
    .boxed()
}

/// A command that both know.
pub fn known() -> BoxedStrategy<String> {
    let command = prop_oneof![
        2 => of_session(), 2 => on_mailboxes(), 4 => selected(), 1 => quota(), 1 => metadata(),
        1 => append(),
    ];
    seq![
        "[a-zA-Z0-9.\\]-]{1,8}".boxed(),
        " ",
        command.boxed(),
        "\r\n"
    ]
}

/// Something is taken away, put in or repeated.
pub fn mutated() -> BoxedStrategy<Vec<u8>> {
    let pieces = select(
        &[
            " ",
            "  ",
            "(",
            ")",
            "\"",
            "\\",
            "{3}\r\nabc",
            "{3+}\r\nabc",
            "{1-}\r\nx",
            "~",
            "$",
            "*",
            "NIL",
            "()",
            "\r",
            "\n",
            "\r\n",
            "\0",
            "ä",
            "\u{ff}",
            "[",
            "]",
            "<0.1>",
            ".",
            ",",
            ":",
            "0",
            "1",
            "99999999999",
            "18446744073709551616",
            "UID ",
            "NOT ",
            " RETURN (ALL) ",
            "CHARSET ",
            "UTF-8 ",
            "&",
            "%",
            "-",
            "\\Recent ",
            "\\Seen ",
            "a",
            "\x7f",
            "}",
            "{",
        ][..],
    );
    let change = (any::<prop::sample::Index>(), 0..4u8, pieces, 1..6usize);
    (known(), prop::collection::vec(change, 1..3))
        .prop_map(|(command, changes)| {
            let mut bytes = command.into_bytes();
            for (at, how, piece, count) in changes {
                let at = at.index(bytes.len() + 1);
                let end = (at + count).min(bytes.len());
                match how {
                    0 => drop(bytes.drain(at..end)),
                    1 => drop(bytes.splice(at..at, piece.bytes())),
                    2 => drop(bytes.splice(at..end, piece.bytes())),
                    _ => {
                        let again = bytes[at..end].to_vec();
                        drop(bytes.splice(at..at, again));
                    }
                }
            }
            bytes.extend_from_slice(b"\r\n");
            bytes
        })
        .boxed()
}
