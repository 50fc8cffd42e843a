//! Replies for people.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! May import: admin's protocol.

mod backup;

use crate::admin::Reply;
use crate::admin::protocol::{AccountDetail, AccountView, DeviceView, QuotaView, StatusView};

pub(super) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Done { message } => message.clone(),
        Reply::Accounts { accounts } => table(
            &["ADDRESS", "CREATED", "SIZE", "MESSAGES", ""],
            accounts.iter().map(|account| {
                vec![
                    account.address.clone(),
                    account.created.clone(),
                    size(&account.quota),
                    messages(&account.quota),
                    state(account),
                ]
            }),
        ),
        Reply::Account { account } => detail(account),
        Reply::Quota {
            address,
            quota,
            bytes_default,
            messages_default,
        } => {
            let by = |default: &bool| if *default { " (default)" } else { "" };
            format!(
                "{address}\nsize      {}{}\nmessages  {}{}",
                size(quota),
                by(bytes_default),
                messages(quota),
                by(messages_default)
            )
        }
        Reply::Aliases { aliases } => table(
            &["ALIAS", "DELIVERS TO"],
            aliases
                .iter()
                .map(|alias| vec![alias.address.clone(), alias.targets.join(", ")]),
        ),
        Reply::Image { image } => format!(
            "a state image of {} messages in {} mailboxes: {} in {:.1} s",
            image.messages,
            image.mailboxes,
            bytes(image.bytes),
            image.millis as f64 / 1000.0
        ),
        Reply::Checked { report } => check(report),
        Reply::Held { group } => format!("group {group} is held"),
        Reply::BackedUp { backup } => backup::made(backup),
        Reply::Restored { restored } => backup::restored(restored),
        Reply::BackupChecked { report } => backup::checked(report),
        Reply::Compacted { compacted } => compaction(compacted),
        Reply::Domains { domains } => table(
            &["DOMAIN", "ACCOUNTS", "CREATED"],
            domains.iter().map(|domain| {
                vec![
                    domain.domain.clone(),
                    domain.accounts.to_string(),
                    domain.created.clone(),
                ]
            }),
        ),
        Reply::Devices { devices } => device_table(devices),
        Reply::Device { device, pushed } => format!(
            "device {} ({}) is {}: {}; it is woken once the code comes back",
            device.id,
            device.name,
            device.state,
            if *pushed {
                "a code is pushed to it"
            } else {
                "no server runs; once one does, a code is pushed to it"
            }
        ),
        Reply::Tested {
            outcome,
            status,
            answer,
            ..
        } => {
            let status = status.map(|status| format!(" (HTTP {status})"));
            format!("{outcome}{}: {answer}", status.unwrap_or_default())
        }
        Reply::Status { status } => status_screen(status),
    }
}

fn state(account: &AccountView) -> String {
    match &account.remove_at {
        Some(at) => format!("disabled, removed at {at}"),
        None if account.disabled => "disabled".into(),
        None => String::new(),
    }
}

/// Rounded down: 100 % is full.
fn of_limit(used: u64, shown: String, limit: Option<(u64, String)>) -> String {
    match limit {
        Some((most, limit)) => {
            let percent = u128::from(used) * 100 / u128::from(most.max(1));
            format!("{shown} of {limit}, {percent} %")
        }
        None => shown,
    }
}

fn size(quota: &QuotaView) -> String {
    let limit = quota.bytes_limit.map(|most| (most, bytes(most)));
    of_limit(quota.bytes, bytes(quota.bytes), limit)
}

fn messages(quota: &QuotaView) -> String {
    let limit = quota.messages_limit.map(|most| (most, most.to_string()));
    of_limit(quota.messages, quota.messages.to_string(), limit)
}

fn count(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

fn detail(account: &AccountDetail) -> String {
    let mut text = format!(
        "{}{}\ncreated   {}\nsize      {}\nmessages  {}\naliases   {}\n\n",
        account.account.address,
        match state(&account.account) {
            state if state.is_empty() => state,
            state => format!(" ({state})"),
        },
        account.account.created,
        size(&account.account.quota),
        messages(&account.account.quota),
        if account.aliases.is_empty() {
            "none".into()
        } else {
            account.aliases.join(", ")
        },
    );
    text.push_str(&table(
        &["MAILBOX", "MESSAGES", "UNSEEN", "SIZE"],
        account.mailboxes.iter().map(|mailbox| {
            vec![
                mailbox.name.clone(),
                mailbox.messages.to_string(),
                mailbox.unseen.to_string(),
                bytes(mailbox.bytes),
            ]
        }),
    ));
    text.push('\n');
    text.push_str(&device_table(&account.devices));
    text
}

fn device_table(devices: &[DeviceView]) -> String {
    table(
        &[
            "ID",
            "NAME",
            "KIND",
            "STATE",
            "SHOWS",
            "SERVICE",
            "ENDPOINT",
            "LAST WOKEN",
            "FAILURES",
        ],
        devices.iter().map(|device| {
            let failures = match &device.last_error {
                Some(error) if device.failures > 0 => format!("{} ({error})", device.failures),
                _ => device.failures.to_string(),
            };
            vec![
                device.id.to_string(),
                device.name.clone(),
                device.kind.clone(),
                match &device.reason {
                    Some(reason) => format!("{} ({reason})", device.state),
                    None => device.state.clone(),
                },
                device.show.name().into(),
                device.origin.clone(),
                device.endpoint_hash.clone(),
                device
                    .last_success
                    .clone()
                    .unwrap_or_else(|| "never".into()),
                failures,
            ]
        }),
    )
}

fn status_screen(status: &StatusView) -> String {
    let mut rows = vec![("posthorn", status.version.clone())];
    if status.running {
        rows.push(("uptime", duration(status.uptime_secs)));
        let connections: Vec<_> = status
            .connections
            .iter()
            .map(|(service, count)| format!("{service} {count}"))
            .collect();
        rows.push(("connections", connections.join(", ")));
    } else {
        rows.push(("server", "not running".into()));
    }
    rows.push((
        "accounts",
        format!(
            "{} in {}, {}, {}",
            status.accounts,
            count(status.domains, "domain", "domains"),
            count(status.aliases, "alias", "aliases"),
            count(status.devices, "device", "devices")
        ),
    ));
    rows.push((
        "outbox",
        match status.outbox {
            0 => "empty".into(),
            owed => format!(
                "{owed} wake-ups owed, the oldest for {}",
                duration(status.outbox_oldest_ms / 1000)
            ),
        },
    ));
    rows.push((
        "disk",
        format!(
            "log {}, index {}, free {}{}",
            bytes(status.log_bytes),
            bytes(status.index_bytes),
            bytes(status.disk_free_bytes),
            if status.takes_mail {
                ""
            } else {
                ": mail is refused for now, the disk is nearly full or the store can't be written"
            }
        ),
    ));
    let rebuilt = if status.rebuilt {
        ", index rebuilt"
    } else {
        ""
    };
    rows.push((
        "log",
        format!(
            "at {}; {} groups replayed at start{rebuilt}",
            status.log_end, status.replayed_frames
        ),
    ));
    if status.backups_running > 0 {
        rows.push((
            "backup",
            "under way: files of the log stay until it is done".into(),
        ));
    }
    if status.lost_groups > 0 || status.mended_mailboxes > 0 {
        rows.push((
            "damage",
            format!(
                "the log has lost {} groups, {} mailboxes show what is left of them",
                status.lost_groups, status.mended_mailboxes
            ),
        ));
    }
    rows.iter()
        .map(|(name, value)| format!("{name:<12} {}\n", plain(value)))
        .collect()
}

/// Names come from strangers: a control character must not reach the terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![head.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.map(|row| row.iter().map(|cell| plain(cell)).collect()));
    let mut widths = vec![0; head.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    lines
        .iter()
        .map(|line| {
            let cells: String = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}  "))
                .collect();
            format!("{}\n", cells.trim_end())
        })
        .collect()
}

fn check(report: &crate::store::CheckReport) -> String {
    let mut text = format!(
        "{} accounts, {} mailboxes, {} messages, {} bodies, {} state images\n",
        report.accounts, report.mailboxes, report.messages, report.bodies, report.images
    );
    if report.deep {
        text += &format!(
            "{} bodies read, {}\n",
            report.bodies_read,
            bytes(report.bytes_read)
        );
    }
    for problem in &report.problems {
        text += &format!("PROBLEM: {problem}\n");
    }
    for message in &report.damaged {
        text += &format!(
            "  {} {} UID {}: {} (file {} of the log)\n",
            message.account, message.mailbox, message.uid, message.reason, message.file
        );
    }
    if report.ok {
        text += match report.deep {
            true => "all is well",
            false => "all is well; --deep reads the bodies too",
        };
    }
    text
}

fn compaction(done: &crate::store::Compacted) -> String {
    let mut text = format!(
        "the log has {} and had {}: {} segments went, {} of wanted mail moved",
        bytes(done.after_bytes),
        bytes(done.before_bytes),
        done.segments,
        bytes(done.moved_bytes),
    );
    if done.damaged_segments > 0 {
        text += &format!(
            "; {} segments stay because mail in them is damaged: see `posthorn store check --deep`",
            done.damaged_segments
        );
    }
    text
}

pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        format!("{count} {name}")
    } else {
        format!("{value:.1} {name}")
    }
}

fn duration(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{minutes} min {} s", secs % 60),
        3600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::protocol::AliasView;
    use crate::store::ContentLevel;

    #[test]
    fn figures_for_people() {
        for (count, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 40, "5.0 TiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
        for (secs, shown) in [
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3_660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(secs), shown);
        }
    }

    #[test]
    fn a_device_says_why_it_is_paused_and_what_it_shows() {
        let device = DeviceView {
            id: 3,
            name: "phone".into(),
            kind: "webpush".into(),
            state: "paused".into(),
            reason: Some("it could not be reached for a day".into()),
            show: ContentLevel::WakeUpOnly,
            origin: "https://push.example".into(),
            endpoint_hash: "Zk2vWnJb0dXcT1aE".into(),
            last_success: None,
            last_failure: None,
            last_error: Some("timeout".into()),
            failures: 9,
        };
        let devices = vec![device];
        let shown = reply(&Reply::Devices { devices });
        for part in [
            "paused (it could not be reached for a day)",
            "wake-up-only",
            "https://push.example",
            "Zk2vWnJb0dXcT1aE",
            "9 (timeout)",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn columns_line_up_and_controls_do_not_pass() {
        let aliases = ["a@b.test", "long\u{1b}name@b.test"].map(|address| AliasView {
            address: address.into(),
            targets: vec!["c@b.test".into(), "d@b.test".into()],
        });
        let shown = reply(&Reply::Aliases {
            aliases: aliases.into(),
        });
        assert_eq!(
            shown,
            "ALIAS             DELIVERS TO\n\
             a@b.test          c@b.test, d@b.test\n\
             long\u{fffd}name@b.test  c@b.test, d@b.test\n"
        );
    }
}
