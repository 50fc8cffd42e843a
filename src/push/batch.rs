//! Changes on their way into the store: only the newest of each entry, many in one commit.
//!
//! Machine: no IO, no clock, no randomness.

use std::collections::{HashMap, HashSet};

use super::LOST_SETTING;
use super::planner::{DeviceChange, Edit, Target, encode_lost};
use crate::store::{Device, DeviceState, OutboxEntry, OutboxKey, Update, Worker};
use crate::types::{LogPos, UnixMillis};

#[derive(Debug, Default)]
pub(super) struct Batch {
    outbox: HashMap<OutboxKey, Option<OutboxEntry>>,
    devices: HashMap<Target, Vec<DeviceChange>>,
    removed: HashSet<Target>,
    lost: Option<Vec<(Target, UnixMillis)>>,
    cursor: Option<LogPos>,
}

impl Batch {
    pub(super) fn add(&mut self, edit: Edit) {
        match edit {
            Edit::Put(entry) => {
                self.outbox.insert(entry.key, Some(entry));
            }
            Edit::Remove(key) => {
                self.outbox.insert(key, None);
            }
            Edit::RemoveDevice(to) => {
                self.removed.insert(to);
            }
            Edit::Lost(lost) => self.lost = Some(lost),
            Edit::Device(to, change) => {
                let changes = self.devices.entry(to).or_default();
                if matches!(change, DeviceChange::Success(_)) {
                    changes.clear();
                }
                changes.push(change);
            }
        }
    }

    pub(super) fn set_cursor(&mut self, cursor: LogPos) {
        self.cursor = Some(cursor);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_only_cursor() && self.cursor.is_none()
    }

    /// Nothing concerned a device: no hurry.
    pub(super) fn is_only_cursor(&self) -> bool {
        self.outbox.is_empty()
            && self.devices.is_empty()
            && self.removed.is_empty()
            && self.lost.is_none()
    }

    /// A batch that could not be committed, with what came after it.
    pub(super) fn followed_by(mut self, later: Self) -> Self {
        self.outbox.extend(later.outbox);
        for (to, changes) in later.devices {
            for change in changes {
                self.add(Edit::Device(to, change));
            }
        }
        self.removed.extend(later.removed);
        self.lost = later.lost.or(self.lost);
        self.cursor = later.cursor.or(self.cursor);
        self
    }

    /// For one commit. `device` reads the newest record; what is gone needs no change.
    pub(super) fn updates<E>(
        &self,
        mut device: impl FnMut(Target) -> Result<Option<Device>, E>,
    ) -> Result<Vec<Update>, E> {
        let mut updates = Vec::new();
        for (key, entry) in &self.outbox {
            updates.push(match entry {
                Some(entry) => Update::OutboxPut(entry.clone()),
                None => Update::OutboxRemove(*key),
            });
        }
        for (to, changes) in &self.devices {
            if self.removed.contains(to) {
                continue;
            }
            if let Some(mut device) = device(*to)? {
                changes.iter().for_each(|change| apply(&mut device, change));
                updates.push(Update::DevicePut(Box::new(device)));
            }
        }
        for to in &self.removed {
            if device(*to)?.is_some() {
                updates.push(Update::DeviceRemove(to.0, to.1));
            }
        }
        if let Some(lost) = &self.lost {
            let name = LOST_SETTING.to_owned();
            updates.push(Update::SettingPut(name, encode_lost(lost)));
        }
        if let Some(cursor) = self.cursor {
            updates.push(Update::Cursor(Worker::Push, cursor));
        }
        Ok(updates)
    }
}

fn apply(device: &mut Device, change: &DeviceChange) {
    match change {
        DeviceChange::Success(at) => {
            device.last_success = Some(*at);
            device.last_error = None;
            device.failures = 0;
        }
        DeviceChange::Failure { at, class } | DeviceChange::Pause { at, class, .. } => {
            device.last_failure = Some(*at);
            device.last_error = Some(class.clone());
            device.failures = device.failures.saturating_add(1);
        }
    }
    if let DeviceChange::Pause { reason, .. } = change {
        device.state = DeviceState::Paused {
            reason: (*reason).to_owned(),
        };
    }
}
