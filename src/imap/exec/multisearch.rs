//! ESEARCH over several mailboxes (RFC 7377), and UIDBATCHES
//! (draft-ietf-mailmaint-imap-uidbatches).
//!
//! May import: store, types.

use std::collections::HashSet;
use std::io::Write as _;

use super::search::Scene;
use super::{Answer, Exec, Out, Refusal};
use crate::imap::command::{Search, SearchSource};
use crate::store::{MailboxInfo, StoreError};
use crate::types::MailboxKey;

/// A batch is no smaller.
const LEAST_BATCH: u32 = 500;
/// Messages that the batches asked for may be of.
const MOST_BATCHED: u64 = 100_000;

impl Exec {
    pub(super) async fn multi_search(
        &mut self,
        sources: &[SearchSource],
        search: &Search,
        out: &mut Out<'_>,
    ) -> Answer {
        let updates = self.may_update(search)?;
        let mailboxes = self.sources(sources)?;
        if mailboxes.len() > self.max_searched_mailboxes {
            // RFC 7377, 2.4
            let most = self.max_searched_mailboxes;
            let text = format!("[LIMIT] At most {most} mailboxes can be searched together");
            return Err(Refusal::No(text));
        }
        let selected = self.selected.as_ref().map(|selected| selected.key);
        let mut done = String::from("Searched");
        let mut updated = false;
        for info in mailboxes {
            let is_selected = selected == Some(info.key);
            let Some(scene) = self.scene(&info, is_selected)? else {
                continue;
            };
            let found = self.found_in(&scene, search, out).await?;
            if !found.is_empty() {
                self.answer_of(search, &info.name, &scene.current, &found, out);
            }
            if search.saves() {
                self.save(search, &found);
            }
            if updates && is_selected {
                let correlator = self.correlator(Some((&info.name, &scene.current)));
                done = self.keep_updated(search, &scene, &found, Some(correlator), out)?;
                updated = true;
            }
            out.piece().await?;
            tokio::task::yield_now().await;
        }
        if updates && !updated {
            out.line(&format!(
                "* NO [NOUPDATE \"{}\"] The selected mailbox was not searched",
                self.tag
            ));
        }
        Ok(done)
    }

    /// None: it was deleted meanwhile.
    fn scene(&self, info: &MailboxInfo, is_selected: bool) -> Result<Option<Scene>, Refusal> {
        if is_selected {
            return Ok(Some(Scene::of(self.selected()?)));
        }
        match self.store.mailbox(info.key) {
            Ok(mailbox) => Ok(Some(Scene::apart(info.key, mailbox.snapshot()))),
            Err(StoreError::NoMailbox) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Each mailbox once. Those that are not there are left out, as if they could not be seen.
    fn sources(&self, sources: &[SearchSource]) -> Result<Vec<MailboxInfo>, Refusal> {
        let list = self.store.mailboxes(self.account.id)?;
        let selected = |all: &mut Vec<MailboxInfo>| {
            let key = self.selected()?.key;
            let found = list.mailboxes.iter().find(|m| m.key == key);
            all.extend(found.cloned());
            Ok::<(), Refusal>(())
        };
        let mut all = Vec::new();
        if sources.is_empty() {
            selected(&mut all)?;
        }
        for source in sources {
            match source {
                SearchSource::Selected => selected(&mut all)?,
                SearchSource::Inboxes => all.extend(list.find("INBOX").cloned()),
                SearchSource::Personal => all.extend(list.mailboxes.iter().cloned()),
                SearchSource::Subscribed => {
                    let subscribed = list.mailboxes.iter().filter(|m| m.subscribed);
                    all.extend(subscribed.cloned());
                }
                SearchSource::Mailboxes(names) => {
                    all.extend(names.iter().filter_map(|name| self.find(name).ok()));
                }
                SearchSource::Subtree(names) | SearchSource::SubtreeOne(names) => {
                    let one = matches!(source, SearchSource::SubtreeOne(_));
                    for name in names {
                        let name = crate::types::nfc(name);
                        let below = |m: &&MailboxInfo| match m.name.strip_prefix(&*name) {
                            Some("") => true,
                            Some(rest) => rest
                                .strip_prefix('/')
                                .is_some_and(|rest| !one || !rest.contains('/')),
                            None => false,
                        };
                        all.extend(list.mailboxes.iter().filter(below).cloned());
                    }
                }
            }
        }
        let mut known: HashSet<MailboxKey> = HashSet::new();
        all.retain(|info| known.insert(info.key));
        Ok(all)
    }

    /// Ranges of UIDs that hold so many messages each, the newest first, down to UID 1.
    pub(super) fn uid_batches(
        &self,
        size: u32,
        range: Option<(u32, u32)>,
        out: &mut Out<'_>,
    ) -> Answer {
        if size < LEAST_BATCH {
            let text = format!("[TOOFEW] A batch has at least {LEAST_BATCH} messages");
            return Err(Refusal::No(text));
        }
        let numbering = &self.selected()?.numbering;
        let all = numbering.len().div_ceil(size);
        let (first, last) = match range {
            Some((first, last)) if first > last => {
                return Err(Refusal::Bad(
                    "[CLIENTBUG] The first batch comes first".into(),
                ));
            }
            Some((first, last)) => {
                let messages = (u64::from(last - first) + 1) * u64::from(size);
                if messages > MOST_BATCHED.max(size.into()) {
                    let text =
                        format!("[TOOMANY] Ask for batches of {MOST_BATCHED} messages at most");
                    return Err(Refusal::No(text));
                }
                (first, last.min(all))
            }
            None => (1, all),
        };
        let _ = write!(out.buf, "* UIDBATCHES (TAG \"{}\")", self.tag);
        // The newest message of a batch; None behind the last one.
        let newest = |batch: u32| {
            let before = (batch - 1).checked_mul(size)?;
            let seq = numbering.len().checked_sub(before)?;
            numbering.by_seq(seq).map(|message| message.uid.0)
        };
        let mut between = " ";
        for batch in first..=last {
            let Some(high) = newest(batch) else {
                break;
            };
            let low = newest(batch + 1).map_or(1, |next| next + 1);
            let _ = write!(out.buf, "{between}{high}:{low}");
            between = ",";
        }
        out.line("");
        Ok("Batches told".into())
    }
}
