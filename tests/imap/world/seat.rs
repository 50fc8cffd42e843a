//! One of the sessions: what it does, what it believes, and what it does not put up with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::common::{Imap, Line};
use super::{BOXES, World};

/// In lower case, without \Recent.
pub type Flags = BTreeSet<String>;

const FLAGS: [&str; 6] = [
    "\\Seen",
    "\\Flagged",
    "\\Answered",
    "\\Draft",
    "Work",
    "$Label1",
];

/// How a session wants to be told things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rev1,
    Rev2,
    /// NOTIFY: at once, so it uses no numbers.
    Notify,
    /// NOTIFY with expunges that wait for a command.
    Delayed,
    CondStore,
    QResync,
}

impl Kind {
    pub fn of(n: u64, capability: &str) -> Self {
        let can = |name: &str| capability.split(' ').any(|c| c == name);
        match n % 7 {
            0 if can("NOTIFY") => Self::Notify,
            1 if can("NOTIFY") => Self::Delayed,
            2 if can("CONDSTORE") => Self::CondStore,
            3 | 4 if can("QRESYNC") => Self::QResync,
            5 => Self::Rev2,
            _ => Self::Rev1,
        }
    }
}

/// A message as its session knows it.
#[derive(Clone, Default, Debug)]
pub struct Known {
    pub uid: Option<u32>,
    pub flags: Option<Flags>,
    modseq: u64,
}

/// What a session knew of a mailbox when it selected it, to go on from there (RFC 7162).
struct Kept {
    validity: u32,
    modseq: u64,
    messages: BTreeMap<u32, Flags>,
}

struct Selected {
    mailbox: usize,
    read_only: bool,
    messages: Vec<Known>,
}

pub struct Seat {
    imap: Imap,
    pub kind: Kind,
    random: u64,
    world: World,
    selected: Option<Selected>,
    kept: BTreeMap<usize, Kept>,
    /// UIDNEXT last told, by mailbox.
    uid_next: [u32; BOXES.len()],
    tag: u64,
    pub actions: u64,
    lines: VecDeque<String>,
}

pub fn number_after(text: &str, word: &str) -> Option<u32> {
    let (_, rest) = text.split_once(word)?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn long_after(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.split_once(word)?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

pub fn flags_of(text: &str) -> Option<Flags> {
    let (_, rest) = text.split_once("FLAGS (")?;
    let (flags, _) = rest.split_once(')')?;
    let flags = flags
        .split(' ')
        .filter(|f| !f.is_empty() && *f != "\\Recent");
    Some(flags.map(str::to_ascii_lowercase).collect())
}

pub fn token(header: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(header).ok()?;
    let (_, rest) = text.split_once("X-Token: ")?;
    rest.lines().next()?.trim().parse().ok()
}

/// `1:3,5` in order.
fn set(text: &str) -> Vec<u32> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (a, b) = part.split_once(':').unwrap_or((part, part));
        let number = |n: &str| n.parse::<u32>().expect("a number");
        all.extend(number(a)..=number(b));
    }
    all
}

impl Seat {
    pub fn new(imap: Imap, kind: Kind, random: u64, world: World) -> Self {
        let mut seat = Self {
            imap,
            kind,
            random: random | 1,
            world,
            selected: None,
            kept: BTreeMap::new(),
            uid_next: [1; BOXES.len()],
            tag: 0,
            actions: 0,
            lines: VecDeque::new(),
        };
        let events = "MessageNew (UID FLAGS) MessageExpunge FlagChange";
        let others = "(personal (MessageNew MessageExpunge FlagChange MailboxName))";
        match kind {
            Kind::Rev1 => {}
            Kind::Rev2 => drop(seat.run("ENABLE IMAP4rev2")),
            Kind::CondStore => drop(seat.run("ENABLE CONDSTORE")),
            Kind::QResync => drop(seat.run("ENABLE QRESYNC")),
            Kind::Notify => {
                drop(seat.run(&format!("NOTIFY SET STATUS (selected ({events})) {others}")))
            }
            Kind::Delayed => drop(seat.run(&format!(
                "NOTIFY SET STATUS (selected-delayed ({events})) {others}"
            ))),
        }
        seat
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % n.max(1)
    }

    /// The last lines, for who has to understand what went wrong.
    pub fn story(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        format!("{:?}\n{}", self.kind, lines.join("\n"))
    }

    fn note(&mut self, line: String) {
        if self.lines.len() >= 80 {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn check(&self, right: bool, what: &str) {
        assert!(right, "{what}\n{}", self.story());
    }

    /// Sends a command and takes in all that it brings; gives the tagged answer.
    fn run(&mut self, command: &str) -> String {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.note(format!("C: {tag} {command}"));
        self.imap.send(format!("{tag} {command}\r\n").as_bytes());
        if command == "IDLE" {
            let wait = self.below(15);
            std::thread::sleep(Duration::from_millis(wait));
            self.imap.send(b"DONE\r\n");
        }
        loop {
            let line = self.imap.line().expect("a line");
            self.note(format!("S: {}", line.text));
            match line.text.strip_prefix(&format!("{tag} ")) {
                Some(rest) => return self.answered(command, rest.to_owned()),
                None => self.told(command, &line),
            }
        }
    }

    fn answered(&mut self, command: &str, tagged: String) -> String {
        let read_only = self.selected.as_ref().is_some_and(|s| s.read_only);
        let fine = tagged.starts_with("OK")
            || tagged.starts_with("NO [EXPUNGEISSUED]")
            || read_only && tagged.starts_with("NO [READ-ONLY]");
        self.check(fine, &format!("{command}: {tagged}"));
        self.code(command, &tagged);
        tagged
    }

    /// COPYUID and APPENDUID: from here on the messages are there.
    fn code(&mut self, command: &str, text: &str) {
        let Some((_, code)) = text.split_once("[COPYUID ") else {
            return;
        };
        let code = code.split(']').next().unwrap_or("");
        let words: Vec<&str> = code.split(' ').collect();
        let (source, target) = (set(words[1]), set(words[2]));
        self.check(source.len() == target.len(), "COPYUID");
        let to = command.rsplit(' ').next().unwrap_or("");
        let to = BOXES.iter().position(|name| *name == to).expect("a box");
        let from = self.selected.as_ref().map_or(0, |s| s.mailbox);
        let mut world = self.world.lock().expect("no panic");
        for (old, new) in source.into_iter().zip(target) {
            if let Some(token) = world.tokens.get(&(from, old)).copied() {
                world.is(to, new, token);
            }
            world.copies.push(((from, old), (to, new)));
        }
    }

    fn told(&mut self, command: &str, line: &Line) {
        let text = line.text.as_str();
        let words: Vec<&str> = text.split(' ').collect();
        let number = words.get(1).and_then(|w| w.parse::<usize>().ok());
        match (number, words.get(2).copied(), words.get(1).copied()) {
            (Some(n), Some("EXISTS"), _) => {
                let count = self.messages().len();
                self.check(n >= count, &format!("EXISTS {n} after {count}"));
                self.messages().resize(n, Known::default());
            }
            (Some(n), Some("EXPUNGE"), _) => {
                let name = command.split(' ').next().unwrap_or("");
                let numbers = ["FETCH", "STORE", "SEARCH"].contains(&name);
                self.check(!numbers, "EXPUNGE in a command by number");
                self.check(self.kind != Kind::QResync, "EXPUNGE with QRESYNC");
                let count = self.messages().len();
                self.check((1..=count).contains(&n), "EXPUNGE of no message");
                let gone = self.messages().remove(n - 1);
                self.may_be_gone(gone.uid);
            }
            (Some(n), Some("FETCH"), _) => self.fetched(n, line),
            (None, _, Some("VANISHED")) => {
                let name = command.split(' ').next().unwrap_or("");
                let earlier = text.contains("(EARLIER)");
                let numbers = ["FETCH", "STORE", "SEARCH"].contains(&name);
                self.check(earlier || !numbers, "VANISHED in a command by number");
                if !earlier {
                    for uid in set(words.last().copied().unwrap_or("")) {
                        self.vanished(uid);
                    }
                }
            }
            (None, _, Some("SEARCH")) if !command.starts_with("UID") => {
                let count = self.messages().len();
                let hits = words.iter().skip(2).map(|w| w.parse::<usize>());
                let fits = hits.take_while(Result::is_ok).flatten().all(|n| n <= count);
                self.check(fits, "SEARCH found no message");
            }
            (None, _, Some("STATUS")) => {
                let at = BOXES.iter().position(|name| words.get(2) == Some(name));
                if let (Some(at), Some(next)) = (at, number_after(text, "UIDNEXT ")) {
                    self.check(next >= self.uid_next[at], "UIDNEXT falls");
                    self.uid_next[at] = next;
                }
            }
            (None, _, Some("OK")) => self.code(command, text),
            (None, _, Some("BYE" | "NO" | "BAD")) => self.check(false, text),
            _ => {}
        }
    }

    fn messages(&mut self) -> &mut Vec<Known> {
        let story = self.story();
        match &mut self.selected {
            Some(selected) => &mut selected.messages,
            None => panic!("nothing is selected\n{story}"),
        }
    }

    fn vanished(&mut self, uid: u32) {
        let messages = self.messages();
        let from = messages
            .iter()
            .rposition(|m| m.uid.is_some_and(|u| u < uid));
        let from = from.map_or(0, |at| at + 1);
        // Of those whose UIDs it was not told yet, any that it can be.
        let here = messages
            .get(from)
            .is_some_and(|m| m.uid.is_none_or(|u| u == uid));
        self.check(here, &format!("VANISHED {uid} of no message"));
        let known = self.messages().iter().position(|m| m.uid == Some(uid));
        self.messages().remove(known.unwrap_or(from));
        self.may_be_gone(Some(uid));
    }

    /// Nothing goes unless somebody wanted it to.
    fn may_be_gone(&mut self, uid: Option<u32>) {
        let (Some(uid), Some(selected)) = (uid, &self.selected) else {
            return;
        };
        let at = (selected.mailbox, uid);
        self.world.lock().expect("no panic").gone.insert(at);
    }

    fn fetched(&mut self, n: usize, line: &Line) {
        let count = self.messages().len();
        self.check((1..=count).contains(&n), &format!("FETCH {n} of {count}"));
        if let Some(uid) = number_after(&line.text, "UID ") {
            let known = self.messages()[n - 1].uid;
            self.check(
                known.is_none_or(|known| known == uid),
                &format!("{n} was {known:?} and is {uid}"),
            );
            let before = self.messages()[..n - 1].iter().rev().find_map(|m| m.uid);
            let after = self.messages()[n..].iter().find_map(|m| m.uid);
            let rises = before.is_none_or(|b| b < uid) && after.is_none_or(|a| a > uid);
            self.check(rises, &format!("{before:?} {uid} {after:?} do not rise"));
            self.messages()[n - 1].uid = Some(uid);
            if let (Some(token), Some(selected)) =
                (line.literals.first().and_then(|l| token(l)), &self.selected)
            {
                let mailbox = selected.mailbox;
                self.world.lock().expect("no panic").is(mailbox, uid, token);
            }
        }
        if let Some(modseq) = long_after(&line.text, "MODSEQ (") {
            let before = self.messages()[n - 1].modseq;
            self.check(modseq >= before, "MODSEQ falls");
            self.messages()[n - 1].modseq = modseq;
        }
        if let Some(flags) = flags_of(&line.text) {
            self.messages()[n - 1].flags = Some(flags);
        }
    }

    fn open(&mut self, mailbox: usize, read_only: bool) {
        let verb = if read_only { "EXAMINE" } else { "SELECT" };
        let kept = self.kept.remove(&mailbox);
        let mut command = format!("{verb} {}", BOXES[mailbox]);
        if let Some(kept) = &kept {
            command += &format!(" (QRESYNC ({} {}))", kept.validity, kept.modseq);
        }
        // Answers to what was selected before may come first, with CLOSED behind them.
        self.selected = Some(Selected {
            mailbox,
            read_only,
            messages: Vec::new(),
        });
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.note(format!("C: {tag} {command}"));
        self.imap.send(format!("{tag} {command}\r\n").as_bytes());
        let (lines, tagged) = self.imap.until(&tag);
        self.check(tagged.starts_with("OK"), &tagged);
        let closed = lines
            .iter()
            .rposition(|l| l.text.starts_with("* OK [CLOSED]"));
        let mut vanished = Vec::new();
        let (mut validity, mut modseq) = (0, None);
        let mut changed = BTreeMap::new();
        for line in &lines[closed.map_or(0, |at| at + 1)..] {
            self.note(format!("S: {}", line.text));
            validity = number_after(&line.text, "[UIDVALIDITY ").unwrap_or(validity);
            modseq = long_after(&line.text, "[HIGHESTMODSEQ ").or(modseq);
            if let Some(next) = number_after(&line.text, "[UIDNEXT ") {
                self.check(next >= self.uid_next[mailbox], "UIDNEXT falls");
                self.uid_next[mailbox] = next;
            }
            match line.text.strip_prefix("* VANISHED (EARLIER) ") {
                Some(uids) => vanished.extend(set(uids)),
                None => self.told(&command, line),
            }
            if let (true, Some(uid), Some(flags)) = (
                line.text.contains(" FETCH ("),
                number_after(&line.text, "UID "),
                flags_of(&line.text),
            ) {
                changed.insert(uid, flags);
            }
        }
        let whole = self.below(3) == 0 && kept.is_none();
        if whole && !self.messages().is_empty() {
            let fetched = self.run("UID FETCH 1:* (UID FLAGS)");
            self.check(fetched.starts_with("OK"), &fetched);
        }
        if let Some(mut kept) = kept {
            // RFC 7162, 3.2.5: what was kept and what was told make up the state of now.
            for uid in vanished {
                kept.messages.remove(&uid);
            }
            kept.messages.extend(changed);
            let (had, now) = (kept.messages.len(), self.messages().len());
            self.check(had == now, &format!("{had} messages make up {now}"));
            for (at, (uid, flags)) in kept.messages.into_iter().enumerate() {
                let known = &mut self.messages()[at];
                let fits = known.uid.is_none_or(|known| known == uid);
                (known.uid, known.flags) = (Some(uid), Some(flags));
                self.check(fits, &format!("UID {uid} is not number {}", at + 1));
            }
        }
        if let (Kind::QResync, Some(modseq), true) = (self.kind, modseq, whole) {
            let all = self.messages().iter();
            let messages = all
                .filter_map(|m| Some((m.uid?, m.flags.clone()?)))
                .collect();
            let kept = Kept {
                validity,
                modseq,
                messages,
            };
            self.kept.insert(mailbox, kept);
        }
    }

    /// Some messages that it knows the UIDs of, with their numbers.
    fn some(&mut self) -> Vec<(usize, u32)> {
        let count = self.messages().len() as u64;
        let (from, n) = (self.below(count), 1 + self.below(6));
        let all = self.messages().iter().enumerate();
        all.skip(from as usize)
            .take(n as usize)
            .filter_map(|(at, m)| Some((at + 1, m.uid?)))
            .collect()
    }

    /// A word for messages: their numbers, or UID and their UIDs.
    fn named(&mut self, some: &[(usize, u32)]) -> (&'static str, String) {
        let uid = self.kind == Kind::Notify || self.below(2) == 0;
        let number = |(n, u): &(usize, u32)| if uid { *u } else { *n as u32 };
        let all: Vec<String> = some.iter().map(|m| number(m).to_string()).collect();
        (if uid { "UID " } else { "" }, all.join(","))
    }

    fn store(&mut self, delete: bool) {
        let some = self.some();
        let mailbox = self.selected.as_ref().map_or(0, |s| s.mailbox);
        if some.is_empty() {
            return;
        }
        let flag = FLAGS[self.below(FLAGS.len() as u64) as usize];
        let (action, flag) = match (delete, self.below(5)) {
            (true, _) => ("+", "\\Deleted"),
            (false, 0) => ("", flag),
            (false, 1 | 2) => ("-", flag),
            (false, _) => ("+", flag),
        };
        if delete {
            let mut world = self.world.lock().expect("no panic");
            world
                .deleted
                .extend(some.iter().map(|(_, uid)| (mailbox, *uid)));
        }
        let silent = self.below(2) == 0;
        let mut before = Vec::new();
        if silent {
            // It takes for granted what it asked for, until it is told otherwise.
            let flag = flag.to_ascii_lowercase();
            for (n, uid) in &some {
                let known = &mut self.messages()[n - 1].flags;
                before.push((*uid, known.clone()));
                match action {
                    "" => *known = Some(Flags::from([flag.clone()])),
                    "+" => drop(known.as_mut().map(|f| f.insert(flag.clone()))),
                    _ => drop(known.as_mut().map(|f| f.remove(&flag))),
                }
            }
        }
        let (uid, messages) = self.named(&some);
        let quiet = if silent { ".SILENT" } else { "" };
        let tagged = self.run(&format!(
            "{uid}STORE {messages} {action}FLAGS{quiet} ({flag})"
        ));
        if tagged.starts_with("NO [READ-ONLY]") {
            for (uid, flags) in before {
                if let Some(known) = self.messages().iter_mut().find(|m| m.uid == Some(uid)) {
                    known.flags = flags.and(None);
                }
            }
        }
    }

    fn append(&mut self) {
        let to = self.below(BOXES.len() as u64) as usize;
        let token = {
            let mut world = self.world.lock().expect("no panic");
            world.next_token += 1;
            world.next_token
        };
        let flags = ["", "(\\Seen) ", "(Work \\Flagged) "][self.below(3) as usize];
        let text = format!("Subject: s{token}\r\nX-Token: {token}\r\n\r\nsome text\r\n");
        let command = format!("APPEND {} {flags}{{{}+}}\r\n{text}", BOXES[to], text.len());
        let tagged = self.run(&command);
        let code = tagged.split_once("[APPENDUID ").map(|(_, rest)| rest);
        let uid = code
            .and_then(|code| number_after(code, " "))
            .expect("APPENDUID");
        self.world.lock().expect("no panic").is(to, uid, token);
    }

    fn carry(&mut self, verb: &str) {
        let some = self.some();
        let mailbox = self.selected.as_ref().map_or(0, |s| s.mailbox);
        let to = BOXES[self.below(BOXES.len() as u64) as usize];
        if some.is_empty() {
            return;
        }
        if verb == "MOVE" {
            let mut world = self.world.lock().expect("no panic");
            world
                .moved
                .extend(some.iter().map(|(_, uid)| (mailbox, *uid)));
        }
        let (uid, messages) = self.named(&some);
        self.run(&format!("{uid}{verb} {messages} {to}"));
    }

    /// One thing at random.
    pub fn act(&mut self) {
        self.actions += 1;
        let action = self.below(40);
        if self.selected.is_none() || action < 2 {
            if action == 0 && self.selected.is_some() {
                let verb = ["CLOSE", "UNSELECT"][self.below(2) as usize];
                // Nothing of the mailbox is told with it.
                self.run(verb);
                self.selected = None;
            }
            let mailbox = self.below(BOXES.len() as u64) as usize;
            let read_only = self.below(6) == 0;
            return self.open(mailbox, read_only);
        }
        let count = self.messages().len();
        let numbers = self.kind != Kind::Notify && count > 0;
        match action {
            2..=9 => return self.append(),
            10 => return drop(self.run("NOOP")),
            11 => return drop(self.run("CHECK")),
            12 | 13 => return drop(self.run("IDLE")),
            14 | 15 => {
                let name = BOXES[self.below(BOXES.len() as u64) as usize];
                self.run(&format!("STATUS {name} (MESSAGES UIDNEXT UNSEEN)"));
                return;
            }
            _ if count == 0 => return,
            _ => {}
        }
        match action {
            16..=18 if numbers => {
                let from = 1 + self.below(count as u64);
                self.run(&format!("FETCH {from}:* (UID FLAGS)"));
            }
            16..=18 => drop(self.run("UID FETCH 1:* FLAGS")),
            19 if numbers => {
                let n = 1 + self.below(count as u64);
                self.run(&format!("FETCH {n} (UID BODY[])"));
            }
            19..=21 => {
                let some = self.some();
                if some.is_empty() {
                    return;
                }
                let (uid, messages) = self.named(&some);
                let items = "(UID BODY.PEEK[HEADER.FIELDS (X-TOKEN)])";
                self.run(&format!("{uid}FETCH {messages} {items}"));
            }
            22..=26 => self.store(false),
            27 | 28 => self.store(true),
            29 => drop(self.run("EXPUNGE")),
            30 => {
                let some = self.some();
                let uids: Vec<String> = some.iter().map(|(_, uid)| uid.to_string()).collect();
                if !uids.is_empty() {
                    self.run(&format!("UID EXPUNGE {}", uids.join(",")));
                }
            }
            31 | 32 => self.carry("COPY"),
            33 => self.carry("MOVE"),
            34 if numbers => drop(self.run("SEARCH UNSEEN KEYWORD Work")),
            35 if numbers => drop(self.run("SEARCH RETURN (SAVE COUNT) FLAGGED")),
            36 => drop(self.run("UID SEARCH NOT SEEN")),
            37 => drop(self.run("UID FETCH $ (UID FLAGS)")),
            _ if count > 150 => {
                self.store(true);
                drop(self.run("EXPUNGE"));
            }
            _ => self.store(false),
        }
    }

    /// Hears the rest.
    pub fn settle(&mut self) {
        if self.selected.is_some() {
            self.run("NOOP");
        }
    }

    pub fn known(&self) -> Option<(usize, &[Known])> {
        let selected = self.selected.as_ref()?;
        Some((selected.mailbox, &selected.messages))
    }

    pub fn status(&mut self, mailbox: usize, messages: usize, unseen: usize) {
        let command = format!("STATUS {} (MESSAGES UNSEEN)", BOXES[mailbox]);
        let lines = self.imap.ok(&command);
        let want = format!(
            "* STATUS {} (MESSAGES {messages} UNSEEN {unseen})",
            BOXES[mailbox]
        );
        self.check(lines.iter().any(|l| l.text == want), &want);
    }
}
