//! What an actor sees when it looks, and whether that is as it should be.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use crate::actor::{Actor, World, fetched};
use crate::chance::{message, subject};
use crate::client::{Client, Failed, find, number, set};
use crate::common::Line;
use crate::model::{Actual, Shown};
use crate::site::address;

/// So long may an index that was damaged between two runs keep its users waiting.
const MENDED: Duration = Duration::from_secs(30);

impl Actor {
    /// Looks at everything while nobody changes anything. What is wrong is the end; an error is
    /// forgiven for a while. With `all`, bodies that were compared before are compared again.
    pub fn check(&mut self, world: &World<'_>, all: bool) -> u64 {
        if all {
            self.compared.clear();
        }
        let started = Instant::now();
        let mut refusals = 0;
        loop {
            let user = address(self.account);
            let done = Client::connect(world.site.base, &user)
                .and_then(|mut client| self.look(world, &mut client, true));
            match done {
                Ok(()) => return refusals,
                Err(failed) => {
                    refusals += 1;
                    let why = match failed {
                        Failed::Gone => "the server is gone".into(),
                        Failed::Refused(why) => why,
                    };
                    let late = started.elapsed() > MENDED;
                    assert!(!late, "{}: not mended: {why}", self.name);
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    /// Compares all of its mailboxes with the model. `quiet`: nobody else changes anything.
    pub fn look(
        &mut self,
        world: &World<'_>,
        client: &mut Client,
        quiet: bool,
    ) -> Result<(), Failed> {
        // What was acknowledged before it looks has to be seen.
        let owed = world.ledger.lock().unwrap().owed(self.account);
        let mut actual = Actual::new();
        for name in self.names(client)? {
            let shown = self.mailbox(world, client, &name, quiet)?;
            actual.insert(name, shown);
        }
        let ledger = world.ledger.lock().unwrap();
        let may_come = |id: &str| ledger.may_come(self.account, id);
        let as_known = self.model.compare(&actual, &may_come);
        let found = match (as_known, &self.pending) {
            (Err(reason), Some(pending)) => pending
                .compare(&actual, &may_come)
                .map_err(|other| format!("neither: {reason}\nnor: {other}")),
            (found, _) => found,
        };
        drop(ledger);
        let found = found.unwrap_or_else(|reason| panic!("{}: {reason}", self.name));
        let mut ledger = world.ledger.lock().unwrap();
        for id in &found.new {
            ledger.seen(self.account, id);
        }
        for id in owed.iter().filter(|id| self.has(id)) {
            let seen = ledger.mail[id].seen.contains(&self.account);
            assert!(seen, "{id} was acknowledged and is lost");
        }
        drop(ledger);
        self.model = found.model;
        self.pending = None;
        self.bodies(client)
    }

    fn names(&self, client: &mut Client) -> Result<Vec<String>, Failed> {
        let lines = client.command("LIST \"\" \"*\"")?;
        let listed = lines.iter().filter(|l| l.text.starts_with("* LIST"));
        let real = listed.filter(|l| !l.text.contains("NonExistent"));
        let names = real.filter_map(|l| l.text.rsplit("\"/\" ").next());
        let names = names.map(|n| n.trim_matches('"').to_owned());
        Ok(names.filter(|n| self.owns(n)).collect())
    }

    fn mailbox(
        &self,
        world: &World<'_>,
        client: &mut Client,
        name: &str,
        quiet: bool,
    ) -> Result<Shown, Failed> {
        let items = "MESSAGES UNSEEN DELETED SIZE UIDNEXT UIDVALIDITY";
        // Before anything opens the mailbox.
        let status = client.command(&format!("STATUS \"{name}\" ({items})"))?;
        let selected = client.select(name)?;
        let wanted = "UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT)]";
        let mut all = Vec::new();
        if number_of(&selected, " EXISTS") > 0 {
            all = fetched(client.command(&format!("UID FETCH 1:* ({wanted})"))?);
        }
        if quiet {
            let unseen = client.command("UID SEARCH RETURN (COUNT) UNSEEN")?;
            let without = |flag| all.iter().filter(|m| !m.1.contains(flag)).count() as u64;
            let messages = all.len() as u64;
            let told = [
                ("MESSAGES ", messages),
                ("UNSEEN ", without("\\Seen")),
                ("DELETED ", messages - without("\\Deleted")),
                ("SIZE ", all.iter().map(|m| m.2).sum()),
                ("UIDVALIDITY ", find(&selected, "UIDVALIDITY ")),
                ("UIDNEXT ", find(&selected, "UIDNEXT ")),
            ];
            for (item, value) in told {
                let told = find(&status, item);
                assert_eq!(told, value, "{name}: STATUS {item}");
            }
            assert_eq!(number_of(&selected, " EXISTS"), messages, "{name}: EXISTS");
            assert_eq!(find(&unseen, "COUNT "), without("\\Seen"), "{name}: SEARCH");
        }
        let validity = u32::try_from(find(&selected, "UIDVALIDITY ")).expect("UIDVALIDITY");
        let mut messages = BTreeMap::new();
        let mut ledger = world.ledger.lock().unwrap();
        for (uid, flags, _, header) in all {
            let id = subject(&header);
            ledger.uid(self.account, validity, uid, &id);
            if name != "INBOX" || self.has(&id) {
                messages.insert(uid, (id, flags));
            }
        }
        if quiet {
            ledger.next(self.account, validity, find(&status, "UIDNEXT "));
        }
        Ok(Shown { validity, messages })
    }

    /// Those that were not compared yet, byte for byte.
    fn bodies(&mut self, client: &mut Client) -> Result<(), Failed> {
        let mut there = HashSet::new();
        for (name, folder) in &self.model.0 {
            let validity = folder.validity.unwrap_or_default();
            let uids = folder.entries.iter().filter_map(|e| e.uid);
            there.extend(uids.clone().map(|uid| (validity, uid)));
            let new: Vec<u32> = uids
                .filter(|uid| !self.compared.contains(&(validity, *uid)))
                .collect();
            if new.is_empty() {
                continue;
            }
            client.select(name)?;
            for some in new.chunks(20) {
                let lines =
                    client.command(&format!("UID FETCH {} (UID BODY.PEEK[])", set(some)))?;
                let bodies = fetched(lines);
                assert_eq!(bodies.len(), some.len(), "{name}: bodies");
                for (uid, _, _, raw) in bodies {
                    let entry = folder.entries.iter().find(|e| e.uid == Some(uid));
                    let id = &entry.expect("asked for").id;
                    assert!(raw.ends_with(&message(id)), "{name}: {id} was altered");
                    self.compared.insert((validity, uid));
                }
            }
        }
        self.compared.retain(|key| there.contains(key));
        Ok(())
    }
}

/// The number before a word: `* 5 EXISTS`.
fn number_of(lines: &[Line], word: &str) -> u64 {
    let line = lines.iter().find(|l| l.text.ends_with(word));
    let line = line.unwrap_or_else(|| panic!("no {word} in {lines:?}"));
    number(&line.text, "* ").expect("a number")
}
