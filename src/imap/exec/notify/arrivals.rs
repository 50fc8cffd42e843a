//! What is told of messages that have just arrived, beside that they are there (RFC 5465, 5.2
//! and 7).

use crate::imap::command::{FetchItem, FetchModifiers, SeqNumber, SequenceSet};
use crate::imap::exec::{Exec, Gone, Out, Refusal};
use crate::types::{MailboxKey, UidSet};

impl Exec {
    /// Those of `new` that this session did not bring itself.
    pub(in crate::imap::exec) fn of_others(
        &self,
        key: MailboxKey,
        new: impl Iterator<Item = u32>,
    ) -> UidSet {
        let own = self.arrived.iter().filter(|(at, _)| *at == key);
        let own: Vec<&UidSet> = own.map(|(_, uids)| uids).collect();
        new.filter(|uid| !own.iter().any(|own| own.contains(*uid)))
            .collect()
    }

    /// Tells what NOTIFY asked for of new messages, or a result that is kept up to date. What was
    /// told of them in this turn is not told again.
    pub(in crate::imap::exec) async fn tell_new(
        &mut self,
        new: UidSet,
        items: &[FetchItem],
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        // What the command that runs came to is told with its answer.
        let limit = self.limit_reached;
        for (uids, items) in self.untold(new, items) {
            self.told_new.push((uids.clone(), items.clone()));
            let number = SeqNumber::Number;
            let ranges = uids
                .ranges()
                .map(|r| (number(*r.start()), number(*r.end())));
            let set = SequenceSet::Ranges(ranges.collect());
            let modifiers = FetchModifiers::default();
            let fetched = Box::pin(self.fetch(&set, true, items, &modifiers, out)).await;
            // A message that is gone or damaged is told of when it is asked for.
            if let Err(Refusal::Gone(gone)) = fetched {
                return Err(gone);
            }
        }
        self.limit_reached = limit;
        Ok(())
    }

    fn untold(&self, new: UidSet, items: &[FetchItem]) -> Vec<(UidSet, Vec<FetchItem>)> {
        let mut groups: Vec<(UidSet, Vec<FetchItem>)> = Vec::new();
        let mut fresh = UidSet::new();
        for uid in new.iter() {
            let told = self.told_new.iter().filter(|(uids, _)| uids.contains(uid));
            let told: Vec<&FetchItem> = told.flat_map(|(_, items)| items).collect();
            if told.is_empty() {
                fresh.insert(uid);
                continue;
            }
            // The UID comes with everything else.
            let rest = items.iter();
            let rest = rest.filter(|item| **item != FetchItem::Uid && !told.contains(item));
            let rest: Vec<FetchItem> = rest.cloned().collect();
            match groups.iter_mut().find(|(_, items)| *items == rest) {
                Some((uids, _)) => uids.insert(uid),
                None => groups.push(([uid].into_iter().collect(), rest)),
            }
        }
        groups.push((fresh, items.to_vec()));
        groups.retain(|(uids, items)| !uids.is_empty() && !items.is_empty());
        groups
    }
}
