//! What all know together: mail that was sent, UIDs that were seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// 250.
    Acked,
    /// The answer did not come, or was a temporary error.
    Unsure,
    /// It was looked for and is not there: it must not come any more.
    Never,
}

pub struct Mail {
    pub to: BTreeSet<usize>,
    pub sent: Sent,
    /// Accounts in whose INBOX it was seen.
    pub seen: BTreeSet<usize>,
}

#[derive(Default)]
pub struct Ledger {
    pub mail: HashMap<String, Mail>,
    /// (account, UIDVALIDITY) → UID → message, for ever.
    uids: HashMap<(usize, u32), BTreeMap<u32, String>>,
    next: HashMap<(usize, u32), u64>,
    pub acked: u64,
    pub changes: u64,
}

impl Ledger {
    /// Acknowledged, and not seen in the account's INBOX yet.
    pub fn owed(&self, account: usize) -> Vec<String> {
        let owed = |m: &Mail| {
            m.sent == Sent::Acked && m.to.contains(&account) && !m.seen.contains(&account)
        };
        let all = self.mail.iter().filter(|(_, m)| owed(m));
        all.map(|(id, _)| id.clone()).collect()
    }

    pub fn may_come(&self, account: usize, id: &str) -> bool {
        self.mail.get(id).is_some_and(|m| {
            m.sent != Sent::Never && m.to.contains(&account) && !m.seen.contains(&account)
        })
    }

    pub fn seen(&mut self, account: usize, id: &str) {
        let mail = self.mail.get_mut(id).expect("mail that was sent");
        assert!(mail.seen.insert(account), "{id} came twice");
    }

    /// A UID means one message for ever.
    pub fn uid(&mut self, account: usize, validity: u32, uid: u32, id: &str) {
        let known = self.uids.entry((account, validity)).or_default();
        let before = known.entry(uid).or_insert_with(|| id.to_owned());
        assert_eq!(before, id, "UID {uid} of {validity} was given again");
    }

    /// UIDNEXT: never lower than any that was told, and above all UIDs.
    pub fn next(&mut self, account: usize, validity: u32, next: u64) {
        let floor = self.next.entry((account, validity)).or_default();
        assert!(next >= *floor, "UIDNEXT went back: {next} after {floor}");
        *floor = next;
        let known = self.uids.get(&(account, validity));
        let last = known.and_then(|uids| uids.last_key_value());
        let above = last.is_none_or(|(uid, _)| u64::from(*uid) < next);
        assert!(above, "UIDNEXT {next} is not above {last:?}");
    }

    /// Everybody has looked, and nothing is under way: a message is with all or with none.
    pub fn settle(&mut self) {
        for (id, mail) in &mut self.mail {
            match mail.sent {
                Sent::Acked => assert_eq!(mail.seen, mail.to, "{id} was acknowledged"),
                Sent::Unsure if mail.seen.is_empty() => mail.sent = Sent::Never,
                Sent::Unsure => {
                    assert_eq!(
                        mail.seen, mail.to,
                        "{id} came to some of its recipients only"
                    );
                    mail.sent = Sent::Acked;
                }
                Sent::Never => assert!(mail.seen.is_empty(), "{id} came late"),
            }
        }
    }
}
