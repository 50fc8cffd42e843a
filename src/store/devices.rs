//! The store's face, continued: devices, the outbox, cursors of workers, settings.
//!
//! May import: types.

use super::error::StoreError;
use super::feed::Feed;
use super::handle::Store;
use super::keys;
use super::model::*;
use super::ops::Op;
use super::state::Tx;
use crate::types::{AccountId, DeviceId, LogPos};

impl Store {
    pub fn devices(&self, account: AccountId) -> Result<Vec<Device>, StoreError> {
        let mut devices = Vec::new();
        self.shared()
            .scan(&keys::account(b'p', account), &mut |_, value| {
                devices.push(keys::decode(value)?);
                Ok(())
            })?;
        Ok(devices)
    }

    pub fn device(
        &self,
        account: AccountId,
        device: DeviceId,
    ) -> Result<Option<Device>, StoreError> {
        self.shared().get(&keys::device(account, device))
    }

    /// The id in `device` is ignored; the new one is returned. Refused where the account has
    /// `most` already.
    pub async fn device_add(
        &self,
        mut device: Device,
        most: usize,
    ) -> Result<DeviceId, StoreError> {
        self.commit(1024, move |tx| {
            tx.directory
                .account(device.account)
                .ok_or(StoreError::NoAccount)?;
            let mut count = 0;
            tx.scan(&keys::account(b'p', device.account), &mut |_, _| {
                count += 1;
                Ok(())
            })?;
            if count >= most {
                return Err(StoreError::Limit("devices of an account"));
            }
            device.id = DeviceId(tx.account_marks(device.account)?.next_device);
            let id = device.id;
            tx.fact(Op::DevicePut(device))?;
            Ok(id)
        })
        .await
    }

    /// All outbox entries, for a worker's start. Bounded by devices × mailboxes that are owed.
    pub fn outbox(&self) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut entries = Vec::new();
        self.shared().scan(b"o", &mut |_, value| {
            entries.push(keys::decode(value)?);
            Ok(())
        })?;
        Ok(entries)
    }

    /// One atomic commit.
    pub async fn update(&self, updates: Vec<Update>) -> Result<(), StoreError> {
        self.commit(256 * updates.len(), move |tx| {
            let there = |tx: &Tx, account, device| {
                tx.get::<Device>(&keys::device(account, device))
                    .map(|d| d.is_some())
            };
            // All are checked before the first is applied: all or none.
            for update in &updates {
                let (account, device) = match update {
                    Update::DevicePut(device) => (device.account, device.id),
                    Update::DeviceRemove(account, device) => (*account, *device),
                    Update::SettingPut(name, value) if name.len() + value.len() > 4000 => {
                        return Err(StoreError::Limit("a setting is at most 4 KiB"));
                    }
                    _ => continue,
                };
                if !there(tx, account, device)? {
                    return Err(StoreError::NoDevice);
                }
            }
            for update in updates {
                match update {
                    Update::DevicePut(device) => tx.fact(Op::DevicePut(*device))?,
                    Update::DeviceRemove(account, device) => {
                        tx.fact(Op::DeviceRemove(account, device))?;
                    }
                    Update::OutboxPut(entry) => {
                        if there(tx, entry.key.account, entry.key.device)? {
                            tx.fact(Op::OutboxPut(entry))?;
                        }
                    }
                    Update::OutboxRemove(key) => tx.fact(Op::OutboxRemove(key))?,
                    Update::Cursor(worker, at) => tx.fact(Op::Cursor(worker, at))?,
                    Update::SettingPut(name, value) => tx.fact(Op::SettingPut(name, value))?,
                }
            }
            Ok(())
        })
        .await
    }

    /// Where the worker's cursor stands; None before its first update.
    pub fn cursor(&self, worker: Worker) -> Result<Option<LogPos>, StoreError> {
        self.shared().get(&keys::named(b'c', &[worker as u8]))
    }

    /// Changes after `from` (None: from now on).
    pub fn feed(&self, from: Option<LogPos>) -> Feed {
        self.shared().feeds();
        Feed::new(self.shared().clone(), from)
    }

    pub fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared().get(&keys::named(b't', name.as_bytes()))
    }
}
