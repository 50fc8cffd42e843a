//! NOTIFY on the store (RFC 5465): what a session was told of mailboxes that it has not
//! selected, and what it is told next.
//!
//! May import: store, types.
//!
//! One watch over the account, one over each other whose mailboxes are asked for by name and
//! shared with it, and a few numbers for each mailbox. What is told is the difference
//! between them and the state of now, so nothing can be lost that is not told later; the
//! account's journal says where to look, so nothing is read that did not change.

mod arrivals;
mod metadata;
mod names;
mod others;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::names::Did;
use self::view::{Source, View};
use super::list::Turn;
use super::naming::READABLE;
use super::sync::Telling;
use super::{Answer, Exec, Gone, Out, Refusal};
use crate::imap::command::Command;
use crate::imap::encode;
use crate::imap::notify::{Events, Notify, Plan, SUPPORTED, Wrong};
use crate::store::{MailboxInfo, MailboxStatus, Snapshot, StoreError};
use crate::types::{MailboxKey, ModSeq, Uid};

/// What one NOTIFY may cost.
#[derive(Clone, Copy, Debug)]
pub struct NotifyLimits {
    /// Mailboxes whose messages are watched.
    pub mailboxes: usize,
    /// Mailboxes and new messages that are told of in one turn.
    pub events: usize,
}

/// What NOTIFY has set up.
#[derive(Default)]
pub struct Watch {
    plan: Plan,
    others: Option<Others>,
}

struct Others {
    /// This account, then those whose mailboxes it watches too.
    sources: Vec<Source>,
    /// As it was told.
    view: View,
    /// By number.
    told: Vec<Told>,
    /// Those of which it was told that they may not be read (RFC 5465, 5.9).
    denied: BTreeSet<MailboxKey>,
}

/// A mailbox whose messages are watched, as the client was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    modseq: ModSeq,
    mailbox: MailboxKey,
    uid_next: Uid,
    messages: u32,
    unseen: u32,
    events: Events,
}

impl Told {
    fn new(mailbox: MailboxKey, events: Events, status: &MailboxStatus) -> Self {
        Self {
            modseq: status.highest_modseq,
            mailbox,
            uid_next: status.uid_next,
            messages: status.messages,
            unseen: status.unseen,
            events,
        }
    }

    /// One that was just made, before anything came.
    fn empty(mailbox: MailboxKey, events: Events) -> Self {
        Self {
            modseq: ModSeq(1),
            mailbox,
            uid_next: Uid(1),
            messages: 0,
            unseen: 0,
            events,
        }
    }

    fn of_snapshot(self, snapshot: &Snapshot) -> Self {
        Self {
            modseq: snapshot.highest_modseq(),
            uid_next: snapshot.uid_next(),
            messages: snapshot.len(),
            unseen: snapshot.unseen(),
            ..self
        }
    }
}

/// What a command of this session did: its client is not told of it (RFC 5465, 5).
#[derive(Default)]
pub struct Deed {
    name: Option<Did>,
    /// Annotations that it set.
    notes: Vec<(Option<MailboxKey>, String)>,
    /// What was selected before, as the client knew it.
    selected: Option<(MailboxKey, Arc<Snapshot>)>,
    /// It told the numbers of what it expunged, so all must be told.
    expunges: bool,
}

/// It is more than may be told.
struct Overflow;

enum Trouble {
    Overflow,
    Gone(Gone),
}

impl From<Gone> for Trouble {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

impl From<Overflow> for Trouble {
    fn from(_: Overflow) -> Self {
        Self::Overflow
    }
}

/// How much more may be told in this turn.
struct Budget(usize);

impl Budget {
    fn take(&mut self, n: usize) -> Result<(), Overflow> {
        self.0 = self.0.checked_sub(n).ok_or(Overflow)?;
        Ok(())
    }
}

impl Exec {
    pub(super) async fn notify(&mut self, notify: Notify, out: &mut Out<'_>) -> Answer {
        let Notify::Set { status, groups } = notify else {
            self.watch = Some(Box::default());
            return Ok("Nothing will be told".into());
        };
        let plan = Plan::new(self.as_called_here(groups)).map_err(|wrong| match wrong {
            Wrong::Unsupported => {
                Refusal::No(format!("[BADEVENT ({SUPPORTED})] There is no such event"))
            }
            Wrong::Bad(text) => Refusal::Bad(text.into()),
        })?;
        // RFC 5465, 3.1: as NOOP would, whatever was and will be wanted.
        self.hush(false);
        self.sync(Telling::Everything, out).await?;
        let others = if plan.watches_others() {
            Some(self.begin(&plan, status, out).await?)
        } else {
            None
        };
        self.watch = Some(Box::new(Watch { plan, others }));
        Ok("You will be told".into())
    }

    async fn begin(&self, plan: &Plan, status: bool, out: &mut Out<'_>) -> Result<Others, Refusal> {
        let mut sources = vec![self.source(self.account.id)?];
        let too_many = || Refusal::No("[NOTIFICATIONOVERFLOW] These are too many mailboxes".into());
        let view = self.view(plan, &mut sources)?.map_err(|_| too_many())?;
        let wanted = wanted(plan, &view);
        if wanted.len() > self.notify_limits.mailboxes {
            return Err(too_many());
        }
        let denied = self.tell_denied(plan, &view, out);
        let selected = self.selected.as_ref().map(|selected| selected.key);
        let mut told = Vec::with_capacity(wanted.len());
        let mut turn = Turn::new();
        for (info, events) in wanted {
            turn.take().await;
            let now = match self.store.mailbox_status(info.key) {
                Err(StoreError::NoMailbox) => continue,
                now => now?,
            };
            told.push(Told::new(info.key, events, &now));
            if status && selected != Some(info.key) {
                let modseq = self.enabled.condstore || events.has(Events::FLAGS);
                self.status_line(info, &now, events, Events::MESSAGES, modseq, &mut out.buf);
                out.piece().await?;
            }
        }
        told.sort_unstable_by_key(|told| told.mailbox);
        Ok(Others {
            sources,
            view,
            told,
            denied,
        })
    }

    /// RFC 5465, 3.1: those of which no more than the name may be known.
    fn tell_denied(&self, plan: &Plan, view: &View, out: &mut Out<'_>) -> BTreeSet<MailboxKey> {
        let closed = view.others.iter().filter(|foreign| !foreign.readable);
        let closed = closed.filter(|foreign| {
            let info = &foreign.info;
            view.wanted(plan, &info.name, info.subscribed) != Events::NONE
        });
        closed
            .map(|foreign| {
                self.name_line(&foreign.info.name, None, view, false, out);
                foreign.info.key
            })
            .collect()
    }

    /// `kind`: what happened.
    fn status_line(
        &self,
        info: &MailboxInfo,
        now: &MailboxStatus,
        watched: Events,
        kind: Events,
        modseq: bool,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"* STATUS ");
        encode::mailbox(out, &info.name, self.enabled.utf8());
        out.extend_from_slice(b" (");
        // RFC 5465, 3.1 and 5.1 to 5.3
        if modseq {
            let modseq = format!("HIGHESTMODSEQ {} ", now.highest_modseq);
            out.extend_from_slice(modseq.as_bytes());
        }
        if kind.has(Events::MESSAGES) {
            let counts = format!("MESSAGES {} UIDNEXT {} ", now.messages, now.uid_next);
            out.extend_from_slice(counts.as_bytes());
        }
        out.extend_from_slice(format!("UIDVALIDITY {}", now.uid_validity).as_bytes());
        if watched.has(Events::FLAGS) {
            out.extend_from_slice(format!(" UNSEEN {}", now.unseen).as_bytes());
        }
        out.extend_from_slice(b")\r\n");
    }

    /// Is the client told of things while no command is under way?
    pub fn listens(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| {
            watch.others.is_some() || watch.plan.selected.events != Events::NONE
        })
    }

    /// Waits until there may be something to tell. Cancel-safe.
    pub async fn changed(&mut self) {
        let watch = self.watch.as_mut();
        let of_selected = watch
            .as_ref()
            .is_none_or(|watch| watch.plan.selected.events != Events::NONE);
        let others = watch.and_then(|watch| watch.others.as_mut());
        let selected = self.selected.as_mut().filter(|_| of_selected);
        let selected = async {
            match selected {
                Some(selected) => selected.changed().await,
                None => std::future::pending().await,
            }
        };
        let others = async {
            match others {
                Some(others) => Source::any_changed(&mut others.sources).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = selected => {}
            () = others => {}
        }
    }

    /// Before a command is carried out.
    pub(super) fn deed(&mut self, command: &Command) -> Deed {
        let expunges = matches!(command, Command::Expunge(_) | Command::Move { .. });
        let deed = self.deed_named(Did::of(command), expunges);
        Deed {
            notes: self.notes_of(command),
            ..deed
        }
    }

    /// Before an APPEND is, or a REPLACE, which takes a message away.
    pub(super) fn deed_of_append(&mut self, replaces: bool) -> Deed {
        self.deed_named(None, replaces)
    }

    fn deed_named(&mut self, name: Option<Did>, expunges: bool) -> Deed {
        self.arrived.clear();
        self.told_new.clear();
        let Some(watch) = &self.watch else {
            return Deed::default();
        };
        let events = watch.plan.selected.events;
        let deed = Deed {
            name,
            notes: Vec::new(),
            selected: self
                .selected
                .as_ref()
                .map(|selected| (selected.key, selected.numbering.clone())),
            expunges,
        };
        self.hush(!events.has(Events::FLAGS));
        deed
    }

    fn hush(&mut self, hush: bool) {
        if let Some(selected) = self.selected.as_mut() {
            selected.hush = hush;
        }
    }

    /// This command put messages into a mailbox.
    pub(super) fn note_arrived(&mut self, mailbox: MailboxKey, uids: &[Uid]) {
        let selected = self.selected.as_ref();
        if self.watch.is_some() || selected.is_some_and(|s| !s.contexts.is_empty()) {
            self.arrived
                .push((mailbox, uids.iter().map(|uid| uid.0).collect()));
        }
    }

    /// Tells what is new between commands or in IDLE; gives the newest message announced.
    pub async fn announce(&mut self, idle: bool, out: &mut Out<'_>) -> Result<Option<Uid>, Gone> {
        let delayed = self.watch.as_ref().is_some_and(|w| w.plan.selected.delayed);
        let telling = match delayed && !idle {
            true => Telling::Delayed,
            false => Telling::Everything,
        };
        self.arrived.clear();
        self.told_new.clear();
        let before = out.buf.len();
        let newest = self.tell_all(Some(telling), &Deed::default(), out).await?;
        self.interrupted |= !idle && out.buf.len() != before;
        self.update_contexts(out).await?;
        self.tell_modseq(out);
        Ok(newest)
    }

    /// `telling`: what may be told of the selected mailbox. Gives the newest message announced.
    pub(super) async fn tell_all(
        &mut self,
        telling: Option<Telling>,
        deed: &Deed,
        out: &mut Out<'_>,
    ) -> Result<Option<Uid>, Gone> {
        let Some(mut watch) = self.watch.take() else {
            return match telling {
                Some(telling) => Box::pin(self.sync(telling, out)).await,
                None => Ok(None),
            };
        };
        let mut newest = None;
        let mut budget = Budget(self.notify_limits.events);
        let mut told = match telling {
            Some(telling) => {
                let told = self.tell_selected(&watch.plan, telling, deed, &mut budget, out);
                Box::pin(told).await.map(|uid| newest = uid)
            }
            None => Ok(()),
        };
        if let (Ok(()), Some(others)) = (&told, &mut watch.others) {
            let looked = self.tell_others(&watch.plan, others, deed, &mut budget, out);
            told = Box::pin(looked).await;
        }
        match told {
            Ok(()) => {}
            Err(Trouble::Gone(gone)) => return Err(gone),
            Err(Trouble::Overflow) => {
                // RFC 5465, 5.8: as after NOTIFY NONE.
                *watch = Watch::default();
                out.line("* OK [NOTIFICATIONOVERFLOW] Too much happened, ask again");
            }
        }
        self.watch = Some(watch);
        Ok(newest)
    }

    async fn tell_selected(
        &mut self,
        plan: &Plan,
        telling: Telling,
        deed: &Deed,
        budget: &mut Budget,
        out: &mut Out<'_>,
    ) -> Result<Option<Uid>, Trouble> {
        let of = &plan.selected;
        let Some(selected) = self.selected.as_mut() else {
            return Ok(None);
        };
        if of.events == Events::NONE && !deed.expunges {
            return Ok(None);
        }
        selected.hush = !of.events.has(Events::FLAGS);
        let next = selected.numbering.uid_next();
        let newest = self.sync(telling, out).await?;
        let (Some(selected), false) = (&self.selected, of.items.is_empty()) else {
            return Ok(newest);
        };
        let new = selected.numbering.range(next.0..=u32::MAX);
        let new = self.of_others(selected.key, new.map(|(_, message)| message.uid.0));
        if new.is_empty() {
            return Ok(newest);
        }
        budget.take(usize::try_from(new.len()).unwrap_or(usize::MAX))?;
        self.tell_new(new, &of.items, out).await?;
        Ok(newest)
    }
}

fn position(told: &[Told], mailbox: MailboxKey) -> Option<usize> {
    told.binary_search_by_key(&mailbox, |told| told.mailbox)
        .ok()
}

/// The mailboxes whose messages are watched.
fn wanted<'a>(plan: &Plan, view: &'a View) -> Vec<(&'a MailboxInfo, Events)> {
    view.readable()
        .map(|info| (info, view.wanted(plan, &info.name, info.subscribed)))
        .filter(|(_, events)| events.has(Events::MESSAGES))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_mailbox_costs_at_most_64_bytes() {
        assert!(size_of::<Told>() <= 64, "{}", size_of::<Told>());
    }
}
