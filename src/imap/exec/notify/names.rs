//! What changed in an account's list of mailboxes, for those who watch it (RFC 5465, 5.4 and 5.5).

use std::collections::{BTreeMap, HashMap};

use super::view::View;
use crate::imap::command::Command;
use crate::imap::notify::{Events, Plan};
use crate::store::MailboxInfo;
use crate::types::{MailboxKey, nfc};

/// One name to tell of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NameChange {
    /// What it was called before.
    pub old: Option<String>,
    named: bool,
    subscribed: bool,
    /// What may be known of it is another than before (RFC 5465, 5.9).
    pub access: bool,
}

/// What a command of this session did to names: its client need not be told of that.
#[derive(Debug)]
pub(super) enum Did {
    Create(String),
    Delete(String),
    Rename(String, String),
    Subscribe(String, bool),
}

fn clean(name: &str) -> String {
    nfc(name.strip_suffix('/').unwrap_or(name)).into_owned()
}

impl Did {
    pub(super) fn of(command: &Command) -> Option<Self> {
        Some(match command {
            Command::Create { mailbox, .. } => Self::Create(clean(mailbox)),
            Command::Delete(mailbox) => Self::Delete(clean(mailbox)),
            Command::Rename { from, to } => Self::Rename(clean(from), clean(to)),
            Command::Subscribe(mailbox) => Self::Subscribe(clean(mailbox), true),
            Command::Unsubscribe(mailbox) => Self::Subscribe(clean(mailbox), false),
            _ => return None,
        })
    }

    /// Is this what it must have come to? Where another session went on from there, the client
    /// has to hear of it.
    pub(super) fn explains(&self, name: &str, change: &NameChange, now: &View) -> bool {
        if change.access {
            return false;
        }
        let there = now.by_name(name).is_some();
        // Its parents too, which may have been made, or have other children now.
        let around = |of: &str| of == name || is_below(of, name);
        match self {
            Self::Create(made) => there && around(made),
            Self::Delete(gone) if gone == name => !there,
            Self::Delete(gone) => is_below(gone, name),
            Self::Rename(from, to) if change.old.is_some() => {
                to == name && change.old.as_ref() == Some(from)
            }
            Self::Rename(from, to) => {
                around(to) && there || around(from) && (change.subscribed || !there)
            }
            Self::Subscribe(of, on) => of == name && now.is_subscribed(name) == *on,
        }
    }
}

fn is_below(name: &str, top: &str) -> bool {
    name.strip_prefix(top)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn by_key(view: &View) -> HashMap<MailboxKey, &MailboxInfo> {
    view.all().map(|info| (info.key, info)).collect()
}

/// Names to tell of, of those that `plan` wants to hear of. `from_inbox`: those that INBOX was
/// renamed to.
pub(super) fn changes(
    before: &View,
    now: &View,
    plan: &Plan,
    from_inbox: &dyn Fn(MailboxKey) -> bool,
) -> BTreeMap<String, NameChange> {
    let (was, is) = (by_key(before), by_key(now));
    let (old, new) = (before.subscribed(), now.subscribed());
    let wants = |name: &str, event: Events| {
        let subscribed = old.contains(name) || new.contains(name);
        now.wanted(plan, name, subscribed).has(event)
            || before.wanted(plan, name, subscribed).has(event)
    };
    let mut changes: BTreeMap<String, NameChange> = BTreeMap::new();
    let mut affected = |name: &str| {
        if wants(name, Events::NAME) {
            changes.entry(name.to_owned()).or_default().named = true;
        }
    };
    let gone = was.iter().filter(|(key, _)| !is.contains_key(key));
    let made = is.iter().filter(|(key, _)| !was.contains_key(key));
    for (_, info) in gone.chain(made) {
        affected(&info.name);
        // RFC 5465, 5.4: the direct parent too, whether there is one or not.
        if let Some((parent, _)) = info.name.rsplit_once('/') {
            affected(parent);
        }
    }
    let made = is.iter().filter(|(key, _)| !was.contains_key(key));
    for (key, info) in made.filter(|(key, _)| from_inbox(**key)) {
        // RFC 5465, 5.4: it is a rename of INBOX, but of INBOX itself nothing is told.
        if let (Some(change), Some(inbox)) = (changes.get_mut(&info.name), before.inbox(*key)) {
            change.old = Some(inbox.to_owned());
        }
    }
    let renamed: HashMap<&str, &str> = was
        .iter()
        .filter_map(|(key, old)| Some((&*old.name, &*is.get(key)?.name)))
        .filter(|(old, new)| old != new)
        .collect();
    for (old, new) in &renamed {
        // A child goes with its parent, of which the client is told.
        let implied = old.match_indices('/').any(|(at, _)| {
            let (top, rest) = old.split_at(at);
            let now = renamed.get(top);
            now.is_some_and(|now| new.strip_prefix(now) == Some(rest))
        });
        if !implied && (wants(old, Events::NAME) || wants(new, Events::NAME)) {
            let change = changes.entry((*new).to_owned()).or_default();
            change.named = true;
            change.old = Some((*old).to_owned());
        }
    }
    for name in old.symmetric_difference(&new) {
        if wants(name, Events::SUBSCRIPTION) {
            changes.entry((*name).to_owned()).or_default().subscribed = true;
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::notify::{Event, Filter, Group};
    use crate::store::MailboxList;
    use crate::types::{AccountId, MailboxId, UidValidity};

    fn list(names: &[(u32, &str)], subscribed: &[&str]) -> MailboxList {
        let info = |(id, name): &(u32, &str)| MailboxInfo {
            key: MailboxKey {
                account: AccountId(1),
                mailbox: MailboxId(*id),
            },
            name: (*name).to_owned(),
            uid_validity: UidValidity(1),
            special_use: None,
            subscribed: subscribed.contains(name),
        };
        let missing = subscribed
            .iter()
            .filter(|s| !names.iter().any(|(_, n)| n == *s));
        MailboxList {
            mailboxes: names.iter().map(info).collect(),
            subscribed_missing: missing.map(|&s| s.to_owned()).collect(),
        }
    }

    fn told(before: &MailboxList, now: &MailboxList, filter: Filter) -> Vec<String> {
        let events = vec![Event::MailboxName, Event::SubscriptionChange];
        let plan = Plan::new(vec![Group { filter, events }]).unwrap();
        let shown = |(name, change): (String, NameChange)| match change.old {
            Some(old) => format!("{old}>{name}"),
            None => name,
        };
        let from_inbox = |key: MailboxKey| key.mailbox == MailboxId(9);
        let (before, now) = (View::of(before.clone()), View::of(now.clone()));
        changes(&before, &now, &plan, &from_inbox)
            .into_iter()
            .map(shown)
            .collect()
    }

    #[test]
    fn each_change_is_told_once() {
        let before = list(&[(1, "INBOX"), (2, "a"), (3, "a/b"), (4, "c")], &["a", "x"]);
        let all = |now: &MailboxList| told(&before, now, Filter::Personal);
        assert_eq!(all(&before), [""; 0]);
        let now = list(
            &[(1, "INBOX"), (2, "a"), (3, "a/b"), (4, "c"), (5, "n/m")],
            &["a", "x"],
        );
        assert_eq!(all(&now), ["n", "n/m"], "made, and its parent");
        let now = list(&[(1, "INBOX"), (2, "a"), (4, "c")], &["a", "x"]);
        assert_eq!(all(&now), ["a", "a/b"], "gone, and its parent");
        let now = list(&[(1, "INBOX"), (2, "z"), (3, "z/b"), (4, "c")], &["z", "x"]);
        assert_eq!(all(&now), ["a", "a>z"], "its child goes with it");
        let now = list(&[(1, "INBOX"), (2, "a"), (3, "d"), (4, "c")], &["a", "x"]);
        assert_eq!(all(&now), ["a/b>d"]);
        let now = list(&[(1, "INBOX"), (2, "a"), (3, "a/b"), (4, "c")], &["c", "x"]);
        assert_eq!(all(&now), ["a", "c"], "subscriptions");
        let only = |now: &MailboxList| told(&before, now, Filter::Subscribed);
        assert_eq!(only(&now), ["a", "c"]);
        let now = list(&[(1, "INBOX"), (2, "a")], &["a", "x"]);
        assert_eq!(only(&now), ["a"], "as the parent");
        let now = list(
            &[(1, "INBOX"), (2, "a"), (3, "a/b"), (4, "c"), (9, "a/old")],
            &["a", "x"],
        );
        assert_eq!(all(&now), ["a", "INBOX>a/old"], "INBOX stays");
    }
}
