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
use crate::types::{MailboxKey, Rights};

/// A batch is no smaller.
const LEAST_BATCH: u32 = 500;
/// Messages that the batches asked for may be of.
const MOST_BATCHED: u64 = 100_000;

/// May it mean mailboxes of others that it does not name?
fn names_others(source: &SearchSource) -> bool {
    matches!(
        source,
        SearchSource::Subscribed | SearchSource::Subtree(_) | SearchSource::SubtreeOne(_)
    )
}

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

    /// Each mailbox once. Those that are not there, or that this account may not see and read, are
    /// left out (RFC 7377, 2.2).
    fn sources(&self, sources: &[SearchSource]) -> Result<Vec<MailboxInfo>, Refusal> {
        let list = self.store.mailboxes(self.account.id)?;
        let own = &list.mailboxes;
        let shared = match sources.iter().any(names_others) {
            true => self.others()?,
            false => Vec::new(),
        };
        let all = || own.iter().chain(&shared);
        let mut found: Vec<MailboxInfo> = Vec::new();
        if sources.is_empty() {
            found.extend(self.selected_info()?);
        }
        for source in sources {
            match source {
                SearchSource::Selected => found.extend(self.selected_info()?),
                SearchSource::Inboxes => found.extend(list.find("INBOX").cloned()),
                SearchSource::Personal => found.extend(own.iter().cloned()),
                SearchSource::Subscribed => {
                    let missing = &list.subscribed_missing;
                    let subscribed = all().filter(|m| m.subscribed || missing.contains(&m.name));
                    found.extend(subscribed.cloned());
                }
                SearchSource::Mailboxes(names) => {
                    found.extend(names.iter().filter_map(|name| self.find(name).ok()));
                }
                SearchSource::Subtree(names) | SearchSource::SubtreeOne(names) => {
                    let one = matches!(source, SearchSource::SubtreeOne(_));
                    for name in names {
                        let listed = self.as_listed(name);
                        let name = crate::types::nfc(listed.as_deref().unwrap_or(name));
                        let below = |m: &&MailboxInfo| match m.name.strip_prefix(&*name) {
                            Some("") => true,
                            Some(rest) => rest
                                .strip_prefix('/')
                                .is_some_and(|rest| !one || !rest.contains('/')),
                            None => false,
                        };
                        found.extend(all().filter(below).cloned());
                    }
                }
            }
        }
        let mut known: HashSet<MailboxKey> = HashSet::new();
        found.retain(|info| {
            known.insert(info.key) && self.rights_on(info.key).contains(Rights::READ)
        });
        Ok(found)
    }

    /// None: it was deleted meanwhile.
    fn selected_info(&self) -> Result<Option<MailboxInfo>, Refusal> {
        let key = self.selected()?.key;
        let list = self.store.mailboxes(key.account)?;
        let info = list.mailboxes.iter().find(|info| info.key == key);
        Ok(match key.account == self.account.id {
            true => info.cloned(),
            false => info.and_then(|info| self.others_info(info)),
        })
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
