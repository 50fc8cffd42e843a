//! GETQUOTA and GETQUOTAROOT (RFC 9208). An account is one quota root, with an empty name.

use super::{Answer, Exec, Out, Refusal};
use crate::imap::encode;
use crate::store::StoreError;

const ROOT: &str = "";

/// RFC 9208, 5.1: units of 1024 octets.
fn units(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

impl Exec {
    pub(super) fn get_quota(&self, root: &str, out: &mut Out<'_>) -> Answer {
        if root != ROOT {
            return Err(Refusal::No("[NONEXISTENT] No such quota root".into()));
        }
        self.write_quota(out)?;
        Ok("Quota given".into())
    }

    /// The mailbox need not exist (RFC 9208, 4.1.2).
    pub(super) fn get_quota_root(&self, name: &str, out: &mut Out<'_>) -> Answer {
        let info = self.find(name).ok();
        let name = info.as_ref().map_or(name, |info| &info.name);
        out.buf.extend_from_slice(b"* QUOTAROOT ");
        encode::mailbox(&mut out.buf, name, self.enabled.utf8());
        // What others keep is their own affair.
        if info.is_some_and(|info| info.key.account != self.account.id) {
            out.line("");
            return Ok("Its quota is its owner's".into());
        }
        out.line(" \"\"");
        self.write_quota(out)?;
        Ok("Quota root given".into())
    }

    fn write_quota(&self, out: &mut Out<'_>) -> Result<(), StoreError> {
        let limits = self.store.limits(self.account.id);
        let mut parts = Vec::new();
        // RFC 9208, 4.2.1: what is not named has no limit.
        if !limits.is_none() {
            let usage = self.store.usage(self.account.id)?;
            let bytes = limits.bytes.map(|most| (units(usage.bytes), units(most)));
            let messages = limits.messages.map(|most| (usage.messages, most));
            for (name, part) in [("STORAGE", bytes), ("MESSAGE", messages)] {
                parts.extend(part.map(|(used, most)| format!("{name} {used} {most}")));
            }
        }
        out.line(&format!("* QUOTA \"\" ({})", parts.join(" ")));
        Ok(())
    }
}
