//! What one actor knows of its mailboxes, and how that compares with what there is.

use std::collections::{BTreeMap, BTreeSet};

pub type Flags = BTreeSet<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub flags: Flags,
    /// None: it got one that nobody has told yet.
    pub uid: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// None: it was made, and nobody has told yet.
    pub validity: Option<u32>,
    pub entries: Vec<Entry>,
}

/// The actor's own mailboxes, and of INBOX the messages that are its own.
#[derive(Clone, Debug, Default)]
pub struct Model(pub BTreeMap<String, Folder>);

/// A mailbox as the server shows it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub validity: u32,
    pub messages: BTreeMap<u32, (String, Flags)>,
}

pub type Actual = BTreeMap<String, Shown>;

/// What a comparison found out: the model with all UIDs, and messages of INBOX that came by SMTP
/// and were not known yet.
pub struct Match {
    pub model: Model,
    pub new: Vec<String>,
}

impl Model {
    pub fn folder(&mut self, name: &str) -> &mut Folder {
        self.0.get_mut(name).expect("a mailbox of the model")
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        for (name, folder) in std::mem::take(&mut self.0) {
            let name = match name == from || name.starts_with(&below) {
                true => format!("{to}{}", &name[from.len()..]),
                false => name,
            };
            self.0.insert(name, folder);
        }
    }

    /// The model, if the server shows just that. `may_come` says which messages may be in INBOX
    /// without having been seen before.
    pub fn compare(
        &self,
        actual: &Actual,
        may_come: &dyn Fn(&str) -> bool,
    ) -> Result<Match, String> {
        if !self.0.keys().eq(actual.keys()) {
            let keys: Vec<_> = self.0.keys().collect();
            let shown: Vec<_> = actual.keys().collect();
            return Err(format!("mailboxes {shown:?} instead of {keys:?}"));
        }
        let mut found = Match {
            model: Self::default(),
            new: Vec::new(),
        };
        for (name, folder) in &self.0 {
            let shown = &actual[name];
            let wrong = |what: String| Err(format!("{name}: {what}"));
            if folder.validity.is_some_and(|v| v != shown.validity) {
                return wrong("another UIDVALIDITY".into());
            }
            let mut left = shown.messages.clone();
            let mut entries = Vec::new();
            for entry in folder.entries.iter().filter(|e| e.uid.is_some()) {
                let uid = entry.uid.unwrap_or_default();
                match left.remove(&uid) {
                    Some((id, flags)) if id == entry.id && flags == entry.flags => {}
                    other => return wrong(format!("{other:?} instead of {entry:?}")),
                }
                entries.push(entry.clone());
            }
            for entry in folder.entries.iter().filter(|e| e.uid.is_none()) {
                let same = |(id, flags): &(String, Flags)| *id == entry.id && *flags == entry.flags;
                let Some(uid) = left.iter().find(|(_, m)| same(m)).map(|(uid, _)| *uid) else {
                    return wrong(format!("{entry:?} is not there; left over: {left:?}"));
                };
                left.remove(&uid);
                entries.push(Entry {
                    uid: Some(uid),
                    ..entry.clone()
                });
            }
            for (uid, (id, flags)) in left {
                if name != "INBOX" || !may_come(&id) || !flags.is_empty() {
                    return wrong(format!(
                        "UID {uid} is {id} with {flags:?}: nobody put it there"
                    ));
                }
                if found.new.contains(&id) {
                    return wrong(format!("{id} is there twice"));
                }
                found.new.push(id.clone());
                let uid = Some(uid);
                entries.push(Entry { id, flags, uid });
            }
            let validity = Some(shown.validity);
            let folder = Folder { validity, entries };
            found.model.0.insert(name.clone(), folder);
        }
        Ok(found)
    }
}
