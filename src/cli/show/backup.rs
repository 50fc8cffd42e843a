//! Replies about backups, for people.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! May import: the parent.

use super::{bytes, count, plain};
use crate::store::backup::{BackedUp, BackupReport, Restored};

pub(super) fn made(backup: &BackedUp) -> String {
    let mut text = format!(
        "a backup of {} in {}: {} copied, {} linked, {} there already; {:.1} s",
        bytes(backup.all.bytes),
        count(backup.all.files, "file", "files"),
        bytes(backup.copied.bytes),
        bytes(backup.linked.bytes),
        bytes(backup.kept.bytes),
        backup.millis as f64 / 1000.0
    );
    if backup.missing > 0 {
        text += &format!(
            "\n{} of large messages are lost in the store itself: see `posthorn store check --deep`",
            count(backup.missing, "file", "files")
        );
    }
    text
}

pub(super) fn restored(restored: &Restored) -> String {
    let mut text = format!(
        "restored {} in {}, {}: {} in {}",
        count(restored.accounts, "account", "accounts"),
        bytes(restored.bytes),
        when(restored.made),
        count(restored.messages, "message", "messages"),
        count(restored.mailboxes, "mailbox", "mailboxes"),
    );
    if let Some(aside) = &restored.set_aside {
        let aside = plain(&aside.display().to_string());
        text += &format!("\nwhat was there before is in {aside}");
    }
    text
}

pub(super) fn checked(report: &BackupReport) -> String {
    let mut text = format!(
        "a backup {}: {}, {}, {}, {}; {}\n",
        when(report.made),
        count(report.accounts, "account", "accounts"),
        count(report.mailboxes, "mailbox", "mailboxes"),
        count(report.messages, "message", "messages"),
        count(report.bodies, "body", "bodies"),
        bytes(report.bytes)
    );
    for problem in &report.problems {
        text += &format!("PROBLEM: {}\n", plain(problem));
    }
    if report.ok {
        text += match report.deep {
            true => "all is well",
            false => "all is well; --deep reads all bytes too",
        };
    }
    text
}

fn when(millis: u64) -> String {
    i64::try_from(millis / 1000)
        .ok()
        .and_then(|secs| jiff::Timestamp::from_second(secs).ok())
        .map_or_else(|| millis.to_string(), |at| format!("of {at}"))
}
