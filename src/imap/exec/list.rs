//! LIST and LSUB (RFC 9051, 6.3.9; RFC 5258; RFC 5819; RFC 6154; RFC 3501, 6.3.9).

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::naming::OTHERS;
use super::{Answer, Exec, Out, Refusal};
use crate::imap::command::List;
use crate::imap::encode;
use crate::imap::list::{MAX_PATTERN, MAX_PATTERNS, Pattern};
use crate::store::{MailboxInfo, StoreError};
use crate::types::Rights;

const HAS_CHILDREN: &str = "\\HasChildren";
const HAS_NO_CHILDREN: &str = "\\HasNoChildren";

/// A name in the hierarchy: a mailbox, a subscribed name without one, or only a parent.
#[derive(Default)]
struct Name {
    info: Option<MailboxInfo>,
    subscribed: bool,
    children: bool,
    /// Something below it is subscribed.
    subscribed_below: bool,
}

fn bounded(patterns: &[Pattern]) -> Result<(), Refusal> {
    if patterns.len() > MAX_PATTERNS || patterns.iter().any(|p| p.as_str().len() > MAX_PATTERN) {
        return Err(Refusal::No("[LIMIT] The pattern is too long".into()));
    }
    Ok(())
}

/// Lets others run every few milliseconds.
pub(super) struct Turn(Instant);

impl Turn {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) async fn take(&mut self) {
        if self.0.elapsed() > Duration::from_millis(3) {
            tokio::task::yield_now().await;
            self.0 = Instant::now();
        }
    }
}

impl Exec {
    /// Of a mailbox that is there, as LIST without options gives them.
    pub(super) fn attributes(&self, info: &MailboxInfo) -> Result<Vec<&'static str>, StoreError> {
        let below = format!("{}/", info.name);
        let children = if info.key.account == self.account.id {
            let list = self.store.mailboxes(self.account.id)?;
            list.mailboxes.iter().any(|m| m.name.starts_with(&below))
        } else {
            self.others()?.iter().any(|m| m.name.starts_with(&below))
        };
        let children = [HAS_NO_CHILDREN, HAS_CHILDREN][usize::from(children)];
        let special = info.special_use.map(|special| special.attribute());
        Ok(std::iter::once(children).chain(special).collect())
    }

    /// One name; `old`: how the client spelled it (RFC 9051, 6.3.9.7).
    pub(super) fn list_line(
        &self,
        attributes: &[&str],
        name: &str,
        old: Option<&str>,
        out: &mut Out<'_>,
    ) {
        let buf = &mut out.buf;
        buf.extend_from_slice(format!("* LIST ({}) \"/\" ", attributes.join(" ")).as_bytes());
        encode::mailbox(buf, name, self.enabled.utf8());
        if let Some(old) = old {
            buf.extend_from_slice(b" (\"OLDNAME\" (");
            encode::mailbox(buf, old, self.enabled.utf8());
            buf.extend_from_slice(b"))");
        }
        buf.extend_from_slice(b"\r\n");
    }

    /// INBOX first, the rest by name; those of others where `patterns` ask for them.
    fn names(&self, patterns: &[Pattern]) -> Result<BTreeMap<(bool, String), Name>, StoreError> {
        let list = self.store.mailboxes(self.account.id)?;
        let key = |name: &str| (name != "INBOX", name.to_owned());
        let mut names: BTreeMap<(bool, String), Name> = BTreeMap::new();
        for info in &list.mailboxes {
            let name = names.entry(key(&info.name)).or_default();
            name.subscribed = info.subscribed;
            name.info = Some(info.clone());
        }
        for missing in &list.subscribed_missing {
            names.entry(key(missing)).or_default().subscribed = true;
        }
        if patterns.iter().any(|p| p.may_be_below(OTHERS)) {
            for info in self.others()? {
                let name = names.entry(key(&info.name)).or_default();
                if name.info.is_none() {
                    name.info = Some(info);
                }
            }
        }
        let all: Vec<(String, bool, bool)> = names
            .iter()
            .map(|((_, n), v)| (n.clone(), v.info.is_some(), v.subscribed))
            .collect();
        for (name, exists, subscribed) in all {
            for (at, _) in name.match_indices('/') {
                let parent = names.entry(key(&name[..at])).or_default();
                parent.children |= exists;
                parent.subscribed_below |= subscribed;
            }
        }
        Ok(names)
    }

    pub(super) async fn list(&mut self, list: &List, out: &mut Out<'_>) -> Answer {
        if !list.extended && list.patterns.iter().all(|p| p.as_str().is_empty()) {
            // Only the delimiter is asked for.
            out.line("* LIST (\\Noselect) \"/\" \"\"");
            return Ok("Listed".into());
        }
        let all = list.patterns.iter();
        let patterns: Vec<Pattern> = all.map(|p| p.after(&list.reference)).collect();
        bounded(&patterns)?;
        super::metadata::bounded(&list.return_metadata)?;
        let mut turn = Turn::new();
        let names = self.names(&patterns)?;
        // Parents of subscribed names which the patterns leave out.
        let mut hiding = HashSet::new();
        if list.select_recursive_match {
            for ((_, name), _) in names.iter().filter(|(_, entry)| entry.subscribed) {
                turn.take().await;
                if !patterns.iter().any(|p| p.matches(name)) {
                    hiding.extend(name.match_indices('/').map(|(at, _)| &name[..at]));
                }
            }
        }
        for ((_, name), entry) in &names {
            turn.take().await;
            if !patterns.iter().any(|p| p.matches(name)) {
                continue;
            }
            let recursive = list.select_recursive_match && entry.subscribed_below;
            let chosen = if list.select_subscribed {
                // RFC 5258, 3.5: where all that it is listed for is listed too, it need not be.
                entry.subscribed || hiding.contains(name.as_str())
            } else {
                entry.info.is_some() || entry.children
            };
            let special = entry.info.as_ref().and_then(|i| i.special_use);
            if !chosen || (list.select_special_use && special.is_none()) {
                continue;
            }
            let mut attributes: Vec<&str> = Vec::new();
            if entry.info.is_none() {
                // A name that can't be selected: with the extended syntax it says why.
                attributes.push(if list.extended || self.enabled.rev2 {
                    "\\NonExistent"
                } else {
                    "\\Noselect"
                });
            }
            attributes.push(if entry.children {
                HAS_CHILDREN
            } else {
                HAS_NO_CHILDREN
            });
            if entry.subscribed && (list.select_subscribed || list.return_subscribed) {
                attributes.push("\\Subscribed");
            }
            if let Some(special) = special {
                attributes.push(special.attribute());
            }
            let buf = &mut out.buf;
            buf.extend_from_slice(format!("* LIST ({}) \"/\" ", attributes.join(" ")).as_bytes());
            encode::mailbox(buf, name, self.enabled.utf8());
            if recursive {
                buf.extend_from_slice(b" (CHILDINFO (\"SUBSCRIBED\"))");
            }
            buf.extend_from_slice(b"\r\n");
            if let (Some(items), Some(info)) = (&list.return_status, &entry.info) {
                // RFC 5819, 2: a mailbox whose status can't be had is left out.
                if self.rights_on(info.key).contains(Rights::READ) {
                    let _ = self.write_status(info, items, &mut out.buf);
                }
            }
            if let (true, Some(info)) = (list.return_rights, &entry.info) {
                self.write_rights(name, self.rights_on(info.key), &mut out.buf);
            }
            if let (false, Some(info)) = (list.return_metadata.is_empty(), &entry.info) {
                self.listed_metadata(info, &list.return_metadata, out)
                    .await?;
            }
            out.piece().await?;
        }
        Ok("Listed".into())
    }

    pub(super) async fn lsub(
        &mut self,
        reference: &Pattern,
        pattern: &Pattern,
        out: &mut Out<'_>,
    ) -> Answer {
        let pattern = pattern.after(reference);
        bounded(std::slice::from_ref(&pattern))?;
        let mut turn = Turn::new();
        for ((_, name), entry) in &self.names(std::slice::from_ref(&pattern))? {
            turn.take().await;
            if !pattern.matches(name) {
                continue;
            }
            // RFC 3501, 6.3.9: with %, a parent of a subscribed name is shown as \Noselect.
            let parent = pattern.as_str().ends_with('%') && entry.subscribed_below;
            if !entry.subscribed && !parent {
                continue;
            }
            let unselectable = !entry.subscribed || entry.info.is_none();
            let attributes = if unselectable { "\\Noselect" } else { "" };
            out.buf
                .extend_from_slice(format!("* LSUB ({attributes}) \"/\" ").as_bytes());
            encode::mailbox(&mut out.buf, name, self.enabled.utf8());
            out.line("");
            out.piece().await?;
        }
        Ok("Listed".into())
    }
}
