//! Remembers over restarts that the log has lost groups.
//!
//! May import: types.

use super::error::StoreError;
use super::keys;
use super::ops::Op;
use super::shared::Shared;
use crate::types::UnixMillis;

/// The setting that remembers it over restarts: groups that are lost, and until when an address
/// that is not known may have been lost with them.
const SETTING: &str = "store.lost-groups";

/// So long is mail for unknown addresses put off: senders try for about as long (RFC 5321,
/// 4.5.4.1), and whoever runs the server may restore the log or add the account again.
const DOUBT_MILLIS: u64 = 5 * 24 * 3600 * 1000;

/// Where an image has this record, bodies may have lost their places.
pub(super) fn is_remembered_by(key: &[u8]) -> bool {
    *key == keys::named(b't', SETTING.as_bytes())
}

fn stored(shared: &Shared) -> Result<(u64, u64), StoreError> {
    let key = keys::named(b't', SETTING.as_bytes());
    let value: Option<Vec<u8>> = shared.get(&key)?;
    let number = |value: &[u8], at: usize| {
        let raw = value.get(at..).and_then(|rest| rest.first_chunk());
        raw.map_or(0, |raw| u64::from_be_bytes(*raw))
    };
    Ok(value.map_or((0, 0), |v| (number(&v, 0), number(&v, 8))))
}

/// The fact that remembers `lost` groups, unless it is known already. Where the index is
/// `complete` all the same, nobody's address is in doubt.
pub(super) fn fact(
    shared: &Shared,
    lost: u64,
    complete: bool,
    at: UnixMillis,
) -> Result<Option<Op>, StoreError> {
    let (known, doubt) = stored(shared)?;
    let doubtful = lost > 0 && !complete && (lost > known || doubt == 0);
    if lost <= known && !doubtful {
        return Ok(None);
    }
    let until = match doubtful {
        true => at.0.saturating_add(DOUBT_MILLIS),
        false => doubt,
    };
    let value = [lost.max(known).to_be_bytes(), until.to_be_bytes()].concat();
    Ok(Some(Op::SettingPut(SETTING.into(), value)))
}

impl Shared {
    /// Reads what is remembered.
    pub(super) fn note_damage(&self, mended: Option<u64>) {
        let damage = &self.damage;
        if let Some(mended) = mended {
            damage.mended(mended);
        }
        match stored(self) {
            Ok((lost, until)) => damage.lost(lost, until),
            Err(error) => tracing::warn!(%error, "what the log has lost is not known"),
        }
        let metrics = &self.telemetry.store;
        metrics.damage(damage.lost_groups(), damage.mended_mailboxes());
    }
}
