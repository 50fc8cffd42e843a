//! One IMAP client with mailboxes of its own, which changes them while others do the same.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chance::{Chance, hash, message};
use crate::client::{Client, Failed, expand, number, set};
use crate::common::Line;
use crate::ledger::Ledger;
use crate::model::{Entry, Flags, Folder, Model};
use crate::site::{Site, address};

/// Actors of each account.
pub const ACTORS: u64 = 2;

pub struct Actor {
    pub name: String,
    pub account: usize,
    number: u64,
    pub model: Model,
    /// The model as it is if the command that was not answered was done.
    pub pending: Option<Model>,
    /// Bodies that were compared, by UIDVALIDITY and UID.
    pub compared: HashSet<(u32, u32)>,
    made: u64,
    pub chance: Chance,
}

pub struct World<'a> {
    pub site: &'a Site,
    pub ledger: &'a Mutex<Ledger>,
    pub stop: &'a AtomicBool,
}

const WORDS: [&str; 6] = ["\\Seen", "\\Flagged", "\\Answered", "$one", "two", "Three"];

impl Actor {
    pub fn new(account: usize, number: u64, seed: u64) -> Self {
        let name = format!("a{account}{number}");
        let mut model = Model::default();
        model.0.insert("INBOX".into(), Folder::default());
        Self {
            chance: Chance::new(seed ^ hash(&name)),
            name,
            account,
            number,
            model,
            pending: None,
            compared: HashSet::new(),
            made: 0,
        }
    }

    /// Mailboxes of its own, by name.
    pub fn owns(&self, name: &str) -> bool {
        name == "INBOX" || name.starts_with(&self.name)
    }

    /// Messages of INBOX that are its own.
    pub fn has(&self, id: &str) -> bool {
        match id.strip_prefix('a') {
            Some(_) => id.starts_with(&self.name),
            None => hash(id) % ACTORS == self.number,
        }
    }

    /// Works until told to stop or the server is gone.
    pub fn work(&mut self, world: &World<'_>) {
        let Ok(mut client) = Client::connect(world.site.base, &address(self.account)) else {
            return;
        };
        while !world.stop.load(Ordering::Relaxed) {
            let done = match self.pending {
                Some(_) => self.look(world, &mut client, false),
                None => self.step(world, &mut client),
            };
            match done {
                Ok(()) => world.ledger.lock().unwrap().changes += 1,
                Err(Failed::Gone) => return,
                // It is being mended: what became of the command is to be seen.
                Err(Failed::Refused(_)) => {
                    self.pending.get_or_insert_with(|| self.model.clone());
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        }
    }

    fn step(&mut self, world: &World<'_>, client: &mut Client) -> Result<(), Failed> {
        let others: Vec<String> = self
            .model
            .0
            .keys()
            .filter(|n| *n != "INBOX")
            .cloned()
            .collect();
        let Some(to) = self.chance.pick(&others).cloned() else {
            return self.create(client);
        };
        let all: Vec<String> = self.model.0.keys().cloned().collect();
        let full = all.iter().find(|n| self.model.0[*n].entries.len() > 60);
        let from = match full {
            Some(full) => full.clone(),
            None => self.chance.pick(&all).cloned().unwrap_or_default(),
        };
        let full = full.is_some();
        match self.chance.below(100) {
            _ if full => self.expunge(client, &from, 40),
            0..28 => self.append(client, &from),
            28..48 => self.store(client, &from),
            48..58 => self.copy(client, &from, &to, false),
            58..76 => self.copy(client, &from, &to, true),
            76..84 => self.expunge(client, &from, 5),
            84..88 => self.rename(client, &to),
            88..91 if others.len() < 5 => self.create(client),
            91..93 => self.delete(client, &to),
            _ => self.look(world, client, false),
        }
    }

    /// A command that changes the model to `after`, if it is done.
    fn change(
        &mut self,
        client: &mut Client,
        command: &[u8],
        after: Model,
    ) -> Result<Vec<Line>, Failed> {
        self.pending = Some(after);
        let lines = client.send(command)?;
        self.model = self.pending.take().unwrap_or_default();
        Ok(lines)
    }

    fn choose(&mut self, from: &str, most: u64) -> Vec<u32> {
        let entries = &self.model.0[from].entries;
        let mut uids: Vec<u32> = entries.iter().filter_map(|e| e.uid).collect();
        let wanted = 1 + self.chance.below(most) as usize;
        while uids.len() > wanted {
            uids.swap_remove(self.chance.below(uids.len() as u64) as usize);
        }
        uids.sort_unstable();
        uids
    }

    fn open(&mut self, client: &mut Client, name: &str) -> Result<(), Failed> {
        match client.selected.as_deref() == Some(name) {
            true => Ok(()),
            false => client.select(name).map(|_| ()),
        }
    }

    fn words(&mut self) -> Flags {
        let some = (0..1 + self.chance.below(2)).filter_map(|_| self.chance.pick(&WORDS));
        some.map(|w| (*w).to_owned()).collect()
    }

    fn create(&mut self, client: &mut Client) -> Result<(), Failed> {
        self.made += 1;
        let name = format!("{}-{}", self.name, self.made);
        let mut after = self.model.clone();
        after.0.insert(name.clone(), Folder::default());
        let mut full = name.clone();
        if self.chance.percent(30) {
            full = format!("{name}/below");
            after.0.insert(full.clone(), Folder::default());
        }
        let command = format!("CREATE \"{full}\"");
        self.change(client, command.as_bytes(), after).map(|_| ())
    }

    fn delete(&mut self, client: &mut Client, name: &str) -> Result<(), Failed> {
        let below = format!("{name}/");
        if self.model.0.len() < 4 || self.model.0.keys().any(|n| n.starts_with(&below)) {
            return Ok(());
        }
        if client.selected.take().is_some() {
            client.command("UNSELECT")?;
        }
        let mut after = self.model.clone();
        after.0.remove(name);
        let command = format!("DELETE \"{name}\"");
        self.change(client, command.as_bytes(), after).map(|_| ())
    }

    fn rename(&mut self, client: &mut Client, from: &str) -> Result<(), Failed> {
        if from.contains('/') {
            return Ok(());
        }
        self.made += 1;
        let to = format!("{}-{}", self.name, self.made);
        let mut after = self.model.clone();
        after.rename(from, &to);
        client.selected = None;
        let command = format!("RENAME \"{from}\" \"{to}\"");
        self.change(client, command.as_bytes(), after).map(|_| ())
    }

    fn append(&mut self, client: &mut Client, to: &str) -> Result<(), Failed> {
        self.made += 1;
        let id = format!("{}-{}", self.name, self.made);
        let flags = self.words();
        let body = message(&id);
        let listed: Vec<_> = flags.iter().cloned().collect();
        let start = format!(
            "APPEND \"{to}\" ({}) {{{}+}}\r\n",
            listed.join(" "),
            body.len()
        );
        let mut after = self.model.clone();
        let uid = None;
        after.folder(to).entries.push(Entry { id, flags, uid });
        let command = [start.as_bytes(), &body].concat();
        let lines = self.change(client, &command, after)?;
        let code = lines.iter().find_map(|l| l.text.split("APPENDUID ").nth(1));
        let code = code.expect("APPENDUID");
        let (validity, uid) = code.split_once(' ').expect("two numbers");
        let folder = self.model.folder(to);
        let validity = validity.parse().ok();
        assert!(folder.validity.is_none() || folder.validity == validity);
        folder.validity = validity;
        let entry = folder.entries.last_mut().expect("an entry");
        entry.uid = Some(expand(uid.split(']').next().expect("a UID"))[0]);
        Ok(())
    }

    fn store(&mut self, client: &mut Client, from: &str) -> Result<(), Failed> {
        let uids = self.choose(from, 12);
        if uids.is_empty() {
            return Ok(());
        }
        self.open(client, from)?;
        let words = self.words();
        let listed: Vec<_> = words.iter().cloned().collect();
        let how = self.chance.below(3);
        let mut after = self.model.clone();
        for entry in after.folder(from).entries.iter_mut() {
            if !entry.uid.is_some_and(|uid| uids.contains(&uid)) {
                continue;
            }
            match how {
                0 => entry.flags.extend(words.iter().cloned()),
                1 => entry.flags.retain(|f| !words.contains(f)),
                _ => entry.flags = words.clone(),
            }
        }
        let sign = ["+", "-", ""][how as usize];
        let (set, words) = (set(&uids), listed.join(" "));
        let command = format!("UID STORE {set} {sign}FLAGS.SILENT ({words})");
        self.change(client, command.as_bytes(), after).map(|_| ())
    }

    fn copy(
        &mut self,
        client: &mut Client,
        from: &str,
        to: &str,
        moved: bool,
    ) -> Result<(), Failed> {
        let uids = self.choose(from, 10);
        if uids.is_empty() || from == to {
            return Ok(());
        }
        self.open(client, from)?;
        let mut after = self.model.clone();
        let is_chosen = |e: &Entry| e.uid.is_some_and(|uid| uids.contains(&uid));
        let mut chosen = after.folder(from).entries.clone();
        chosen.retain(is_chosen);
        chosen.sort_by_key(|e| e.uid);
        if moved {
            after.folder(from).entries.retain(|e| !is_chosen(e));
        }
        let copies = chosen.into_iter().map(|e| Entry { uid: None, ..e });
        after.folder(to).entries.extend(copies);
        let verb = if moved { "MOVE" } else { "COPY" };
        let command = format!("UID {verb} {} \"{to}\"", set(&uids));
        let lines = self.change(client, command.as_bytes(), after)?;
        let code = lines.iter().find_map(|l| l.text.split("COPYUID ").nth(1));
        let code = code.unwrap_or_else(|| panic!("no COPYUID in {lines:?}"));
        let code = code.split(']').next().unwrap_or_default();
        let parts: Vec<_> = code.split(' ').collect();
        assert_eq!(expand(parts[1]), uids, "{code}");
        let given = expand(parts[2]);
        assert_eq!(given.len(), uids.len(), "{code}");
        let folder = self.model.folder(to);
        folder.validity = parts[0].parse().ok();
        let new = folder.entries.iter_mut().filter(|e| e.uid.is_none());
        new.zip(given)
            .for_each(|(entry, uid)| entry.uid = Some(uid));
        Ok(())
    }

    fn expunge(&mut self, client: &mut Client, from: &str, most: u64) -> Result<(), Failed> {
        let uids = self.choose(from, most);
        if uids.is_empty() {
            return Ok(());
        }
        self.open(client, from)?;
        let is_chosen = |e: &Entry| e.uid.is_some_and(|uid| uids.contains(&uid));
        let mut after = self.model.clone();
        let entries = after.folder(from).entries.iter_mut();
        for entry in entries.filter(|e| is_chosen(e)) {
            entry.flags.insert("\\Deleted".into());
        }
        let command = format!("UID STORE {} +FLAGS.SILENT (\\Deleted)", set(&uids));
        self.change(client, command.as_bytes(), after)?;
        let mut after = self.model.clone();
        after.folder(from).entries.retain(|e| !is_chosen(e));
        let command = format!("UID EXPUNGE {}", set(&uids));
        self.change(client, command.as_bytes(), after).map(|_| ())
    }
}

/// UID, flags, size and subject of each FETCH that has all of them.
pub fn fetched(lines: Vec<Line>) -> Vec<(u32, Flags, u64, Vec<u8>)> {
    let one = |mut line: Line| {
        let text = line.text;
        if !text.contains(" FETCH (") || line.literals.len() != 1 {
            return None;
        }
        let uid = u32::try_from(number(&text, "UID ")?).ok()?;
        let flags = text
            .split("FLAGS (")
            .nth(1)
            .and_then(|t| t.split(')').next());
        let flags = flags.unwrap_or_default().split_whitespace();
        let flags = flags
            .filter(|f| *f != "\\Recent")
            .map(str::to_owned)
            .collect();
        let size = number(&text, "RFC822.SIZE ").unwrap_or_default();
        Some((uid, flags, size, line.literals.remove(0)))
    };
    lines.into_iter().filter_map(one).collect()
}
