//! Operations, carried out on a real store.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::error::StoreError;
use super::super::handle::Store;
use super::super::model::{
    Alias, ContentLevel, Device, DeviceKind, DeviceState, OutboxEntry, OutboxKey, Recipient,
    Update, WakeSlot, Worker,
};
use super::super::prepared::Prepared;
use super::super::pulse;
use super::model::{Op, Place, State};
use super::plan::raw;
use crate::types::{
    AccountId, Address, DeviceId, Domain, Flag, LogPos, MailboxId, MailboxKey, SystemFlags, Uid,
    UidSet, UnixMillis,
};

/// State images that were taken, segments that went, bodies that moved: that it happens at all.
pub(super) static IMAGES: AtomicU64 = AtomicU64::new(0);
pub(super) static SEGMENTS: AtomicU64 = AtomicU64::new(0);
pub(super) static MOVED: AtomicU64 = AtomicU64::new(0);

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn flags(names: &[String]) -> Vec<Flag> {
    let flag = |name: &String| match SystemFlags::ALL.iter().find(|(_, text)| text == name) {
        Some((flag, _)) => Flag::System(*flag),
        None => Flag::Keyword(name.clone()),
    };
    names.iter().map(flag).collect()
}

fn set(uids: &[u32]) -> UidSet {
    uids.iter().copied().collect()
}

fn id(state: &State, account: &str) -> AccountId {
    // One that never was, where it is to be refused.
    AccountId(state.accounts.get(account).map_or(9999, |a| a.id))
}

pub(super) fn key(state: &State, place: &Place) -> MailboxKey {
    MailboxKey {
        account: id(state, &place.0),
        mailbox: MailboxId(place.1),
    }
}

fn slot(text: &str) -> WakeSlot {
    WakeSlot::Mail(MailboxId(text[1..].parse().unwrap()))
}

fn numbers(uids: &[Uid]) -> Vec<u32> {
    uids.iter().map(|uid| uid.0).collect()
}

/// Gives the UIDs that were given.
pub(super) async fn carry_out(
    store: &Store,
    state: &State,
    op: &Op,
) -> Result<Vec<u32>, StoreError> {
    let none = |()| Vec::new();
    match op {
        Op::Domain(name) => store
            .domain_add(Domain::parse(name).unwrap())
            .await
            .map(none),
        Op::AccountAdd(name) => {
            let added = store.account_add(address(name), "hash".into()).await?;
            assert_eq!(added.0, state.next_account, "numbers of accounts");
            Ok(Vec::new())
        }
        Op::AccountRemove(name) => store.account_remove(id(state, name)).await.map(none),
        Op::Password(name, hash) => {
            let set = store.account_set_password(id(state, name), hash.clone());
            set.await.map(none)
        }
        Op::Alias(name, targets) => {
            let alias = Alias {
                address: address(name),
                targets: targets.iter().map(|target| address(target)).collect(),
            };
            store.alias_put(alias).await.map(none)
        }
        Op::AliasRemove(name) => store.alias_remove(address(name)).await.map(none),
        Op::Deliver { body, to } => {
            let recipients = to.iter().map(|(account, mailbox, names)| Recipient {
                account: id(state, account),
                mailbox: mailbox.map(MailboxId),
                flags: flags(names),
                prefix: format!("Delivered-To: {account}\r\n").into_bytes(),
            });
            let body_of = Prepared::from_bytes(raw(body).into());
            let date = UnixMillis(body.number);
            let done = store.deliver(body_of, date, recipients.collect()).await?;
            Ok(done.iter().map(|delivered| delivered.uid.0).collect())
        }
        Op::Append {
            body,
            to,
            flags: names,
            date,
            zone,
        } => {
            let body = Prepared::from_bytes(raw(body).into());
            let date = UnixMillis(*date);
            let done = store.append(key(state, to), body, flags(names), date, *zone);
            Ok(vec![done.await?.uid.0])
        }
        Op::Flags {
            of,
            uids,
            action,
            flags: names,
        } => {
            let done = store.store_flags(key(state, of), set(uids), *action, flags(names), None);
            done.await.map(|_| Vec::new())
        }
        Op::Copy {
            from,
            uids,
            to,
            exactly,
        } => {
            let (from, to) = (key(state, from), key(state, to));
            let copied = match exactly {
                true => store.copy_exactly(from, &set(uids), to).await?,
                false => store.copy(from, set(uids), to).await?,
            };
            Ok(numbers(&copied.target))
        }
        Op::Move { from, uids, to } => {
            let moved = store.move_messages(key(state, from), set(uids), key(state, to));
            let moved = moved.await?;
            match moved.failed {
                None => Ok(numbers(&moved.target)),
                Some(error) => Err(error),
            }
        }
        Op::Expunge { of, uids } => {
            let gone = store
                .expunge(key(state, of), uids.as_deref().map(set))
                .await;
            gone.map(|_| Vec::new())
        }
        Op::Create(account, name) => {
            let made = store.mailbox_create(id(state, account), name, None).await;
            made.map(|_| Vec::new())
        }
        Op::Rename(account, from, to) => store
            .mailbox_rename(id(state, account), from, to)
            .await
            .map(none),
        Op::Delete(account, name) => store
            .mailbox_delete(id(state, account), name)
            .await
            .map(none),
        Op::Subscribe(account, name, on) => store
            .subscribe(id(state, account), name, *on)
            .await
            .map(none),
        Op::DeviceAdd(account, name) => {
            let account = id(state, account);
            store
                .device_add(device(account, name), 1000)
                .await
                .map(|_| Vec::new())
        }
        Op::DeviceRemove(account, device) => {
            let gone = Update::DeviceRemove(id(state, account), DeviceId(*device));
            store.update(vec![gone]).await.map(none)
        }
        Op::Owe(account, device, name, owed) => {
            let entry = OutboxEntry {
                key: OutboxKey {
                    account: id(state, account),
                    device: DeviceId(*device),
                    slot: slot(name),
                },
                uids: owed.iter().copied().map(Uid).collect(),
                count: owed.len() as u32,
                caused: UnixMillis(1),
                due: UnixMillis(2),
                expires: UnixMillis(3),
                attempts: 0,
            };
            let setting = owed.iter().map(|uid| *uid as u8).collect();
            let updates = vec![
                Update::SettingPut(name.clone(), setting),
                Update::OutboxPut(entry),
            ];
            store.update(updates).await.map(none)
        }
        Op::Paid(account, device, name) => {
            let paid = Update::OutboxRemove(OutboxKey {
                account: id(state, account),
                device: DeviceId(*device),
                slot: slot(name),
            });
            store.update(vec![paid]).await.map(none)
        }
        Op::Cursor(at) => store
            .update(vec![Update::Cursor(Worker::Push, *at)])
            .await
            .map(none),
        Op::Checkpoint => {
            pulse::beat(store.shared(), &mut LogPos::default());
            Ok(Vec::new())
        }
        Op::Image => {
            store.take_image(Box::new(|_| {})).await?;
            IMAGES.fetch_add(1, Ordering::Relaxed);
            Ok(Vec::new())
        }
        Op::Compact => {
            let done = store.compact(Box::new(|_| {})).await?;
            SEGMENTS.fetch_add(done.segments, Ordering::Relaxed);
            MOVED.fetch_add(done.moved_bodies, Ordering::Relaxed);
            Ok(Vec::new())
        }
        Op::Reopen => Ok(Vec::new()),
    }
}

fn device(account: AccountId, name: &str) -> Device {
    Device {
        id: DeviceId(0),
        account,
        name: name.into(),
        kind: DeviceKind::WebPush {
            endpoint: "https://push.test/x".into(),
            p256dh: vec![4; 65],
            auth: vec![1; 16],
            vapid_key: Vec::new(),
        },
        state: DeviceState::Active,
        show: ContentLevel::default(),
        created: UnixMillis(1),
        last_success: None,
        last_failure: None,
        last_error: None,
        failures: 0,
    }
}
