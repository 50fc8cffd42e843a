//! Three sessions that change one mailbox and do not wait for answers: each must always know
//! which number is which message (RFC 9051, 5.5, 7.4.1 and 7.5.1).

use super::common::{Imap, Line};
use super::{ALICE, append, server, texts};

/// What a client knows.
#[derive(Clone, Default, Debug)]
struct Known {
    uid: Option<u32>,
    flags: Option<String>,
}

struct Seat {
    imap: Imap,
    messages: Vec<Known>,
    random: u64,
}

const FLAGS: [&str; 4] = ["\\Flagged", "\\Answered", "\\Draft", "Work"];

/// The words between this and the next closing parenthesis.
fn flags_of(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("FLAGS (")?;
    let (flags, _) = rest.split_once(')')?;
    let mut flags: Vec<&str> = flags.split(' ').filter(|f| *f != "\\Recent").collect();
    flags.sort_unstable();
    Some(flags.join(" "))
}

fn uid_of(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("UID ")?;
    rest.split([' ', ')']).next()?.parse().ok()
}

impl Seat {
    fn new(imap: Imap, random: u64) -> Self {
        let mut seat = Self {
            imap,
            messages: Vec::new(),
            random,
        };
        for line in seat.imap.ok("SELECT box") {
            seat.told("SELECT", &line);
        }
        seat
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % n
    }

    fn command(&mut self) -> String {
        let newest = self.messages.iter().filter_map(|m| m.uid).max();
        let a = u64::from(newest.unwrap_or(1)).saturating_sub(self.below(25));
        let (a, b) = (a.max(1), self.below(3));
        let flag = FLAGS[self.below(4) as usize];
        match self.below(25) {
            0 => "FETCH 1:* (UID FLAGS)".into(),
            1 => "FETCH * (UID BODY.PEEK[HEADER] FLAGS)".into(),
            2 => "FETCH 1:2 BODY[]".into(),
            3 => format!("STORE 1:* +FLAGS ({flag})"),
            4 => format!("STORE 2:* -FLAGS ({flag})"),
            5 => format!("SEARCH KEYWORD Work NOT DELETED LARGER {b}"),
            6 => "SEARCH RETURN (ALL COUNT) TEXT subject".into(),
            7 => "UID SEARCH ALL".into(),
            8 => "UID FETCH 1:* FLAGS".into(),
            9 => format!("UID FETCH {a}:{} BODY[]", a + b),
            10 => format!("UID STORE {a}:{} +FLAGS (\\Deleted)", a + b),
            11 => "STORE * +FLAGS (\\Deleted)".into(),
            12 => "EXPUNGE".into(),
            13 => format!("UID EXPUNGE {a}:*"),
            14 => format!("UID MOVE {a}:{} other", a + b),
            15 => "MOVE 1 other".into(),
            16 => "STATUS box (MESSAGES UNSEEN)".into(),
            17 => "IDLE\r\nDONE".into(),
            18 => "NOOP".into(),
            _ => "APPEND box (Work) {14+}\r\nSubject: s\r\n\r\n".into(),
        }
    }

    fn told(&mut self, command: &str, line: &Line) {
        let text = line.text.as_str();
        let count = self.messages.len();
        let mut words = text.split(' ').skip(1);
        let (number, what) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let number: usize = number.parse().unwrap_or(0);
        match what {
            "EXISTS" => {
                assert!(number >= count, "{command}: {text} after {count}");
                self.messages.resize(number, Known::default());
            }
            "EXPUNGE" => {
                let name = command.split(' ').next().unwrap_or("");
                assert!(
                    !["FETCH", "STORE", "SEARCH"].contains(&name),
                    "{command}: {text}"
                );
                assert!(
                    (1..=count).contains(&number),
                    "{command}: {text} of {count}"
                );
                self.messages.remove(number - 1);
            }
            "FETCH" => {
                assert!(
                    (1..=count).contains(&number),
                    "{command}: {text} of {count}"
                );
                let known = &mut self.messages[number - 1];
                if let Some(uid) = uid_of(text) {
                    assert_eq!(*known.uid.get_or_insert(uid), uid, "{command}: {text}");
                }
                if let Some(flags) = flags_of(text) {
                    known.flags = Some(flags);
                }
            }
            _ if text.starts_with("* SEARCH") && !command.starts_with("UID") => {
                let mut hits = text.split(' ').skip(2).map(|n| n.parse::<usize>());
                assert!(
                    hits.all(|n| n.is_ok_and(|n| n <= count)),
                    "{command}: {text} of {count}"
                );
            }
            _ => {}
        }
    }

    fn batch(&mut self, round: usize) {
        let commands: Vec<String> = (0..8).map(|_| self.command()).collect();
        let tag = |n: usize| format!("r{round}c{n}");
        let mut all = String::new();
        for (n, command) in commands.iter().enumerate() {
            all.push_str(&format!("{} {command}\r\n", tag(n)));
        }
        self.imap.send(all.as_bytes());
        for (n, command) in commands.iter().enumerate() {
            let before = self.messages.len();
            let tagged = loop {
                let line = self.imap.line().expect("a line");
                match line.text.strip_prefix(&format!("{} ", tag(n))) {
                    Some(rest) => break rest.to_owned(),
                    None => self.told(command, &line),
                }
            };
            let fits = tagged.starts_with("OK")
                || tagged.starts_with("NO [EXPUNGEISSUED]")
                // It had none of this number left when this command began.
                || tagged.starts_with("BAD No such message") && before < 2;
            assert!(fits, "{command}: {tagged} of {before}");
        }
    }

    /// UIDs with their flags, as far as this client was told.
    fn state(&mut self) -> Vec<(u32, Option<String>)> {
        for command in ["NOOP", "FETCH 1:* UID"] {
            for line in self.imap.ok(command) {
                self.told(command, &line);
            }
        }
        let known = |m: &Known| (m.uid.expect("a UID"), m.flags.clone());
        self.messages.iter().map(known).collect()
    }
}

#[test]
fn numbers_stay_right_for_clients_that_do_not_wait() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    a.ok("CREATE other");
    for _ in 0..30 {
        append(&mut a, "box", "");
    }
    let seats: Vec<Seat> = (1..=3)
        .map(|n| Seat::new(server.imap(ALICE), n * 77_777))
        .collect();
    let threads: Vec<_> = seats
        .into_iter()
        .map(|mut seat| {
            std::thread::spawn(move || {
                (0..60).for_each(|round| seat.batch(round));
                seat
            })
        })
        .collect();
    let seats: Vec<Seat> = threads
        .into_iter()
        .map(|t| t.join().expect("no panic"))
        .collect();
    append(&mut a, "box", "");
    a.ok("SELECT box");
    let lines = a.ok("FETCH 1:* (UID FLAGS)");
    let truth: Vec<(u32, String)> = texts(&lines)
        .into_iter()
        .filter_map(|l| Some((uid_of(l)?, flags_of(l)?)))
        .collect();
    assert!(!truth.is_empty());
    for mut seat in seats {
        let state = seat.state();
        assert_eq!(state.len(), truth.len());
        for ((uid, flags), (true_uid, true_flags)) in state.iter().zip(&truth) {
            assert_eq!(uid, true_uid);
            assert!(
                flags.as_ref().is_none_or(|f| f == true_flags),
                "{uid} {flags:?} {true_flags}"
            );
        }
    }
}
