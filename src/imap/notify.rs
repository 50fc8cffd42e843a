//! What a client wants to be told of, and of which mailboxes (RFC 5465).
//!
//! Machine: no IO, no clock, no randomness.

use std::collections::HashSet;

use super::command::{FetchItem, MailboxName};
use crate::types::nfc;

/// NOTIFY's argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    None,
    Set { status: bool, groups: Vec<Group> },
}

/// `event-group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub filter: Filter,
    /// Empty: NONE.
    pub events: Vec<Event>,
}

/// `filter-mailboxes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    Selected { delayed: bool },
    Inboxes,
    Personal,
    Subscribed,
    Subtree(Vec<MailboxName>),
    Mailboxes(Vec<MailboxName>),
}

/// `event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    MessageNew(Vec<FetchItem>),
    MessageExpunge,
    FlagChange,
    MailboxName,
    SubscriptionChange,
    MailboxMetadataChange,
    ServerMetadataChange,
    /// Any that there is no support for.
    Other(String),
}

/// Names of all events that are supported, as `BADEVENT` gives them.
pub const SUPPORTED: &str = "MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange \
    MailboxMetadataChange ServerMetadataChange";

/// A set of events. MessageNew and MessageExpunge always come together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u8);

impl Events {
    pub const NONE: Self = Self(0);
    pub const MESSAGES: Self = Self(1);
    pub const FLAGS: Self = Self(2);
    pub const NAME: Self = Self(4);
    pub const SUBSCRIPTION: Self = Self(8);
    pub const METADATA: Self = Self(16);
    pub const SERVER: Self = Self(32);

    /// Of messages.
    fn is_of_messages(self) -> bool {
        self.0 & !(Self::MESSAGES.0 | Self::FLAGS.0) == 0
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn has(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }
}

/// Why a plan can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// An event that is not supported.
    Unsupported,
    Bad(&'static str),
}

/// What is wanted of the selected mailbox.
#[derive(Debug, Default)]
pub struct OfSelected {
    pub events: Events,
    /// EXPUNGE waits for a command that allows it.
    pub delayed: bool,
    /// What is told of new messages beside that they are there.
    pub items: Vec<FetchItem>,
}

#[derive(Debug)]
enum Names {
    Inbox,
    All,
    Subscribed,
    Below(HashSet<String>),
    These(HashSet<String>),
}

impl Names {
    fn new(filter: &Filter) -> Option<Self> {
        let set = |names: &[MailboxName]| {
            let clean = |name: &MailboxName| nfc(name.strip_suffix('/').unwrap_or(name)).into();
            names.iter().map(clean).collect()
        };
        Some(match filter {
            Filter::Selected { .. } => return None,
            // RFC 5465, 6.3: mail is delivered nowhere else.
            Filter::Inboxes => Self::Inbox,
            Filter::Personal => Self::All,
            Filter::Subscribed => Self::Subscribed,
            Filter::Subtree(names) => Self::Below(set(names)),
            Filter::Mailboxes(names) => Self::These(set(names)),
        })
    }

    fn covers(&self, name: &str, subscribed: bool, own: bool) -> bool {
        match self {
            Self::Inbox => name == "INBOX",
            // RFC 5465, 6.2
            Self::All => own,
            Self::Subscribed => subscribed,
            Self::Below(tops) => {
                let mut parents = name.match_indices('/').map(|(at, _)| &name[..at]);
                tops.contains(name) || parents.any(|parent| tops.contains(parent))
            }
            Self::These(names) => names.contains(name),
        }
    }

    /// May it cover anything whose name begins so? `below` ends in a slash.
    fn may_be_below(&self, below: &str, subscribed: &[String]) -> bool {
        match self {
            Self::Inbox | Self::All => false,
            Self::Subscribed => subscribed.iter().any(|name| name.starts_with(below)),
            Self::These(names) => names.iter().any(|name| name.starts_with(below)),
            Self::Below(tops) => tops.iter().any(|top| {
                let rest = below.strip_prefix(&**top);
                top.starts_with(below) || rest.is_some_and(|rest| rest.starts_with('/'))
            }),
        }
    }

    /// The client wrote down the name, or one above it.
    fn is_by_name(&self) -> bool {
        matches!(self, Self::Below(_) | Self::These(_))
    }
}

/// Everything that a client asked for.
#[derive(Debug, Default)]
pub struct Plan {
    pub selected: OfSelected,
    others: Vec<(Names, Events)>,
}

impl Plan {
    pub fn new(groups: Vec<Group>) -> Result<Self, Wrong> {
        let mut all = groups.iter().flat_map(|group| &group.events);
        if all.any(|event| matches!(event, Event::Other(_))) {
            return Err(Wrong::Unsupported);
        }
        let mut plan = Self::default();
        let mut selected = false;
        for Group { filter, events } in groups {
            let (events, items) = sum(events)?;
            if let Filter::Selected { delayed } = filter {
                if std::mem::replace(&mut selected, true) {
                    return Err(Wrong::Bad("SELECTED can be given once"));
                }
                if !events.is_of_messages() {
                    return Err(Wrong::Bad("SELECTED is for events of messages only"));
                }
                plan.selected = OfSelected {
                    events,
                    delayed,
                    items,
                };
            } else if !items.is_empty() {
                return Err(Wrong::Bad("Only SELECTED tells more of new messages"));
            }
            plan.others
                .extend(Names::new(&filter).map(|names| (names, events)));
        }
        Ok(plan)
    }

    /// Is anything but the selected mailbox watched?
    pub fn watches_others(&self) -> bool {
        self.others
            .iter()
            .any(|(_, events)| *events != Events::NONE)
    }

    /// Is this event watched anywhere?
    pub fn watches(&self, event: Events) -> bool {
        self.others.iter().any(|(_, events)| events.has(event))
    }

    /// May mailboxes of others be among them? PERSONAL and INBOXES name one's own alone.
    pub fn may_name_others(&self) -> bool {
        let mut all = self.others.iter();
        all.any(|(names, events)| {
            *events != Events::NONE && !matches!(names, Names::Inbox | Names::All)
        })
    }

    /// The same of all whose names begin so; `below` ends in a slash.
    pub fn may_name_below(&self, below: &str, subscribed: &[String]) -> bool {
        self.others
            .iter()
            .any(|(names, events)| *events != Events::NONE && names.may_be_below(below, subscribed))
    }

    /// Several groups add up (RFC 5465, 6). NONE for a mailbox by its name, or one above it,
    /// takes out what PERSONAL and the like have said of it.
    pub fn of(&self, name: &str, subscribed: bool, own: bool) -> Events {
        let covering = self
            .others
            .iter()
            .filter(|(names, _)| names.covers(name, subscribed, own));
        let (mut wide, mut by_name, mut out) = (Events::NONE, Events::NONE, false);
        for (names, events) in covering {
            if names.is_by_name() {
                by_name = by_name.with(*events);
                out |= *events == Events::NONE;
            } else {
                wide = wide.with(*events);
            }
        }
        if out { by_name } else { wide.with(by_name) }
    }
}

fn sum(events: Vec<Event>) -> Result<(Events, Vec<FetchItem>), Wrong> {
    let (mut sum, mut items) = (Events::NONE, Vec::new());
    let (mut new, mut expunge) = (false, false);
    for event in events {
        match event {
            Event::MessageNew(more) => {
                new = true;
                items.extend(more);
            }
            Event::MessageExpunge => expunge = true,
            Event::FlagChange => sum = sum.with(Events::FLAGS),
            Event::MailboxName => sum = sum.with(Events::NAME),
            Event::SubscriptionChange => sum = sum.with(Events::SUBSCRIPTION),
            Event::MailboxMetadataChange => sum = sum.with(Events::METADATA),
            Event::ServerMetadataChange => sum = sum.with(Events::SERVER),
            Event::Other(_) => return Err(Wrong::Unsupported),
        }
    }
    // RFC 5465, 5
    if new != expunge {
        return Err(Wrong::Bad("MessageNew and MessageExpunge go together"));
    }
    if sum.has(Events::FLAGS) && !new {
        return Err(Wrong::Bad("FlagChange needs MessageNew and MessageExpunge"));
    }
    if new {
        sum = sum.with(Events::MESSAGES);
    }
    Ok((sum, items))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Event> {
        vec![Event::MessageNew(vec![]), Event::MessageExpunge]
    }

    fn plan(groups: Vec<(Filter, Vec<Event>)>) -> Result<Plan, Wrong> {
        let group = |(filter, events)| Group { filter, events };
        Plan::new(groups.into_iter().map(group).collect())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn filters_cover_what_they_say() {
        let both = Events::MESSAGES;
        let subtree = plan(vec![(Filter::Subtree(names(&["Lists/"])), messages())]).unwrap();
        for (name, want) in [
            ("Lists", both),
            ("Lists/im", both),
            ("Lists/im/2000", both),
            ("Listserv", Events::NONE),
            ("Old/Lists", Events::NONE),
        ] {
            assert_eq!(subtree.of(name, true, true), want, "{name}");
        }
        // No wildcards (RFC 5465, 6.6).
        let these = plan(vec![(Filter::Mailboxes(names(&["a*", "b"])), messages())]).unwrap();
        for (name, want) in [
            ("a*", both),
            ("ab", Events::NONE),
            ("b", both),
            ("b/c", Events::NONE),
        ] {
            assert_eq!(these.of(name, false, true), want, "{name}");
        }
        let subscribed = plan(vec![(Filter::Subscribed, messages())]).unwrap();
        assert_eq!(subscribed.of("x", true, true), both);
        assert_eq!(subscribed.of("x", false, true), Events::NONE);
        let inboxes = plan(vec![(Filter::Inboxes, messages())]).unwrap();
        assert_eq!(inboxes.of("INBOX", false, true), both);
        assert_eq!(inboxes.of("INBOX/x", true, true), Events::NONE);
    }

    #[test]
    fn mailboxes_of_others_are_named_and_not_personal() {
        let of_alice = "Other Users/alice@a.test/";
        let may = |filter| {
            let plan = plan(vec![(filter, messages())]).unwrap();
            assert_eq!(plan.of("Other Users/x", false, false), Events::NONE);
            plan.may_name_below(of_alice, &names(&["Other Users/alice@a.test/b", "c"]))
        };
        assert!(!may(Filter::Personal));
        assert!(!may(Filter::Inboxes));
        assert!(may(Filter::Subscribed));
        for (name, below, these) in [
            ("Other Users/alice@a.test", true, false),
            ("Other Users/alice@a.test/b/c", true, true),
            ("Other Users/alice@a.tes", false, false),
            ("Other Users/bob@a.test/b", false, false),
            ("Other", false, false),
        ] {
            assert_eq!(may(Filter::Subtree(names(&[name]))), below, "{name}");
            assert_eq!(may(Filter::Mailboxes(names(&[name]))), these, "{name}");
        }
        assert!(
            plan(vec![(Filter::Subtree(names(&["Other Users"])), messages())])
                .unwrap()
                .may_name_below(of_alice, &[])
        );
    }

    #[test]
    fn groups_add_up() {
        // RFC 5465, 6
        let plan = plan(vec![
            (Filter::Mailboxes(names(&["INBOX"])), messages()),
            (Filter::Personal, vec![Event::SubscriptionChange]),
            (Filter::Subtree(names(&["Junk"])), vec![]),
        ])
        .unwrap();
        let inbox = Events::MESSAGES.with(Events::SUBSCRIPTION);
        assert_eq!(plan.of("INBOX", true, true), inbox);
        assert_eq!(plan.of("Sent", true, true), Events::SUBSCRIPTION);
        assert_eq!(plan.of("Junk/old", true, true), Events::NONE);
        assert!(plan.watches_others());
        assert_eq!(plan.selected.events, Events::NONE);
    }

    #[test]
    fn what_does_not_go_together() {
        let selected = || Filter::Selected { delayed: false };
        let with = |more: Event| [messages(), vec![more]].concat();
        for events in [
            vec![Event::MessageNew(vec![])],
            vec![Event::MessageExpunge],
            vec![Event::FlagChange],
            vec![Event::FlagChange, Event::MessageExpunge],
        ] {
            let wrong = plan(vec![(Filter::Personal, events.clone())]);
            assert!(matches!(wrong, Err(Wrong::Bad(_))), "{events:?}");
        }
        for groups in [
            vec![(selected(), messages()), (selected(), messages())],
            vec![(selected(), with(Event::MailboxName))],
            vec![(selected(), vec![Event::SubscriptionChange])],
            vec![(
                Filter::Personal,
                vec![
                    Event::MessageNew(vec![FetchItem::Uid]),
                    Event::MessageExpunge,
                ],
            )],
        ] {
            let wrong = plan(groups.clone());
            assert!(matches!(wrong, Err(Wrong::Bad(_))), "{groups:?}");
        }
        let other = plan(vec![(
            Filter::Personal,
            vec![Event::Other("AnnotationChange".into())],
        )]);
        assert!(matches!(other, Err(Wrong::Unsupported)));
    }
}
