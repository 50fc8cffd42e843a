//! One mbox file.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Hand, NUL, hand_over};
use crate::mail::sent_date;
use crate::store::Identity;
use crate::transfer::client::{Import, TransferError, identity, source};
use crate::transfer::frames::{MailboxHead, MessageHead};
use crate::transfer::lines::{Scan, ToCrlf};
use crate::transfer::mbox::{Found, Reader, Status, status};
use crate::transfer::report::Progress;

/// Read at a time.
const PIECE: usize = 256 * 1024;
/// The first message has to end within this for its UIDVALIDITY to be found.
const LOOK_AHEAD: u64 = 1024 * 1024;

/// Brings it over into one mailbox.
pub async fn import<S: AsyncRead + AsyncWrite + Send + 'static>(
    import: &mut Import<S>,
    file: &Path,
    mailbox: &str,
) -> Result<(), TransferError> {
    let at = |error: std::io::Error| TransferError::at(file, error);
    let file = fs::canonicalize(file).map_err(at)?;
    let base = look_ahead(&file).map_err(at)?;
    let head = MailboxHead {
        name: mailbox.to_owned(),
        uid_validity: base.map_or(0, |(validity, _)| validity),
        uid_next: base.map_or(0, |(_, last)| last.saturating_add(1)),
        source: source(&[b"mbox", file.as_os_str().as_bytes()]),
        ..MailboxHead::default()
    };
    let Some(mut open) = import.open(head).await? else {
        return Ok(());
    };
    let (most, progress) = (import.max_message_bytes, import.progress.clone());
    let known = std::mem::take(&mut open.known);
    let counted = Arc::new(AtomicU64::new(0));
    let count = counted.clone();
    hand_over(import, move |hand| {
        let mut mbox = Mbox {
            file,
            kept: base.is_some(),
            most,
            progress,
            known,
            counted: count,
            copies: HashMap::new(),
            number: 0,
            gone: false,
        };
        mbox.read(hand)
    })
    .await?;
    open.skip(counted.load(Ordering::Relaxed));
    import.close(open).await
}

/// UIDVALIDITY and last UID, where UW's or Dovecot's server keeps the file.
fn look_ahead(file: &Path) -> std::io::Result<Option<(u32, u32)>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?
        .take(LOOK_AHEAD)
        .read_to_end(&mut bytes)?;
    let mut reader = Reader::new(LOOK_AHEAD as usize);
    let mut first = None;
    reader.push(&bytes, &mut |found| {
        first.get_or_insert(found);
    });
    reader.finish(&mut |found| {
        first.get_or_insert(found);
    });
    Ok(first.and_then(|found| status(&found.bytes).0.base))
}

struct Mbox {
    file: PathBuf,
    /// By a server that hides the headers of its own.
    kept: bool,
    most: u64,
    progress: Progress,
    known: HashSet<Identity>,
    counted: Arc<AtomicU64>,
    /// How often a message was seen in this file.
    copies: HashMap<Identity, u32>,
    number: u64,
    gone: bool,
}

impl Mbox {
    fn read(&mut self, hand: &Hand) -> Result<(), TransferError> {
        let path = self.file.clone();
        let at = |error: std::io::Error| TransferError::at(&path, error);
        let mut file = fs::File::open(&path).map_err(at)?;
        let changed = file.metadata().map_err(at)?.mtime();
        let limit = usize::try_from(self.most).unwrap_or(usize::MAX);
        let mut reader = Reader::new(limit);
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece).map_err(at)?;
            let mut each = |found| self.message(found, changed, hand);
            match read {
                0 => {
                    reader.finish(&mut each);
                    break;
                }
                read => reader.push(&piece[..read], &mut each),
            }
            if self.gone {
                break;
            }
        }
        if reader.stray > 0 {
            let reason = format!("{} bytes before the first `From ` line", reader.stray);
            self.progress.failed(path.display().to_string(), reason);
        }
        Ok(())
    }

    fn message(&mut self, found: Found, changed: i64, hand: &Hand) {
        self.number += 1;
        let failed = |reason: &str| {
            let what = format!("{}: message {}", self.file.display(), self.number);
            self.progress.failed(what, reason);
        };
        if found.too_large {
            return failed(&format!("over imap.max_append_bytes, {} bytes", self.most));
        }
        let (told, without) = match found.verbatim {
            true => (Status::default(), None),
            false => {
                let (told, without) = status(&found.bytes);
                (told, Some(without))
            }
        };
        if told.internal {
            return;
        }
        // Its flags may be others when it is read again.
        let name = identity(&[without.as_deref().unwrap_or(&found.bytes)]);
        let copy = self.copies.entry(name).or_default();
        *copy += 1;
        let name = identity(&[&name, &copy.to_be_bytes()]);
        if self.known.contains(&name) {
            self.counted.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let file = match without {
            Some(without) if self.kept => without,
            _ => found.bytes,
        };
        let mut body = Vec::with_capacity(file.len() + file.len() / 32);
        match found.verbatim {
            true => body = file,
            false => ToCrlf::default().push(&file, &mut body),
        }
        let mut scan = Scan::default();
        scan.push(&body);
        if scan.nul {
            return failed(NUL);
        }
        if body.len() as u64 > self.most {
            return failed(&super::too_large(body.len() as u64, self.most));
        }
        let sent = || sent_date(&body).map(|date| (date.millis, date.zone_minutes));
        let (date, zone) = found.date.or_else(sent).unwrap_or((changed * 1000, 0));
        let head = MessageHead {
            size: body.len() as u64,
            uid: told.uid.filter(|_| self.kept),
            flags: told.flags,
            date,
            zone,
            identity: name,
            line_ends: Vec::new(),
        };
        self.gone |= !hand.over(head, body);
    }
}
