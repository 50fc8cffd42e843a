//! Maildir++ as Dovecot has it, with the UIDs.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::Writing;
use crate::transfer::frames::{MailboxHead, MessageHead};
use crate::transfer::lines::{Exact, Scan, ToFile};
use crate::transfer::maildir::{folders, lists, name};
use crate::transfer::report::Progress;

pub(super) struct Folder {
    path: PathBuf,
    mailbox: String,
    validity: u32,
    crlf: bool,
    uids: BufWriter<fs::File>,
    keywords: Vec<String>,
    lost: u64,
}

impl Folder {
    pub(super) fn new(root: &Path, head: &MailboxHead, crlf: bool) -> io::Result<Self> {
        let folder = folders::plus_plus(&head.name);
        let path = match folder.is_empty() {
            true => root.to_owned(),
            false => root.join(format!(".{folder}")),
        };
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(path.join(part))?;
        }
        if !folder.is_empty() {
            fs::write(path.join("maildirfolder"), b"")?;
        }
        let mut uids = BufWriter::new(fs::File::create(path.join("dovecot-uidlist"))?);
        let first = lists::uid_list_head(head.uid_validity, head.uid_next);
        uids.write_all(first.as_bytes())?;
        Ok(Self {
            path,
            mailbox: head.name.clone(),
            validity: head.uid_validity,
            crlf,
            uids,
            keywords: Vec::new(),
            lost: 0,
        })
    }

    fn file(&self, head: &MessageHead, message: &[u8]) -> Vec<u8> {
        let mut to = match (&head.line_ends, self.crlf) {
            (_, true) => ToFile::verbatim(),
            (noted, false) if !noted.is_empty() => ToFile::noted(noted.clone()),
            _ if Exact::of(message) => ToFile::plain(),
            _ => ToFile::verbatim(),
        };
        let mut file = Vec::with_capacity(message.len());
        to.push(message, &mut file);
        to.finish(&mut file);
        file
    }
}

impl Writing for Folder {
    fn message(&mut self, head: &MessageHead, body: &[u8]) -> io::Result<()> {
        let file = self.file(head, body);
        let mut scan = Scan::default();
        scan.push(&file);
        let uid = head.uid.unwrap_or_default();
        let seconds = head.date.div_euclid(1000).max(0);
        let micros = head.date.rem_euclid(1000) * 1000;
        let base = format!(
            "{seconds}.M{micros}V{}U{uid}.posthorn,S={},W={}",
            self.validity,
            file.len(),
            scan.size
        );
        let (letters, lost) = name::letters(&head.flags, &mut self.keywords);
        self.lost += u64::from(lost);
        let path = self.path.join("cur").join(format!("{base}:2,{letters}"));
        let mut made = fs::File::create_new(path)?;
        made.write_all(&file)?;
        let away = Duration::from_millis(head.date.unsigned_abs());
        let date = match head.date >= 0 {
            true => UNIX_EPOCH.checked_add(away),
            false => UNIX_EPOCH.checked_sub(away),
        };
        if let Some(date) = date {
            made.set_modified(date)?;
        }
        self.uids
            .write_all(lists::uid_list_line(uid, &base).as_bytes())
    }

    fn end(mut self: Box<Self>, progress: &Progress) -> io::Result<()> {
        self.uids.flush()?;
        if self.lost > 0 {
            let what = format!("{}: {} keywords", self.mailbox, self.lost);
            progress.failed(what, "a folder of a Maildir has room for 26 different ones");
        }
        if self.keywords.is_empty() {
            return Ok(());
        }
        let text = name::write_dovecot_keywords(&self.keywords);
        fs::write(self.path.join("dovecot-keywords"), text)
    }
}

pub(super) fn subscriptions(root: &Path, mailboxes: &[String]) -> io::Result<()> {
    let names: Vec<String> = mailboxes
        .iter()
        .map(|mailbox| match &**mailbox {
            "INBOX" => "INBOX".to_owned(),
            mailbox => folders::plus_plus(mailbox),
        })
        .collect();
    let text = lists::write_dovecot_subscriptions(names.iter().map(String::as_str));
    fs::write(root.join("subscriptions"), text)
}
