//! GETQUOTA, GETQUOTAROOT and SETQUOTA (RFC 9208). An account is one quota root: one's own has an
//! empty name, administrators call others by their address.

use super::{Answer, Exec, Out, Refusal};
use crate::imap::encode;
use crate::store::{Limit, StoreError};
use crate::types::{AccountId, Address};

const ROOT: &str = "";

/// RFC 9208, 5.1: units of 1024 octets.
const UNIT: u64 = 1024;

fn units(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT)
}

impl Exec {
    /// The account of a root.
    fn root(&self, root: &str) -> Result<AccountId, Refusal> {
        if root == ROOT {
            return Ok(self.account.id);
        }
        if !self.is_administrator() {
            // The same for those that are there and those that are not.
            return Err(Refusal::No(
                "[NOPERM] That is no quota root of yours".into(),
            ));
        }
        let directory = self.store.directory();
        let address = Address::parse(root).ok();
        let account = address.and_then(|address| directory.account_by_address(&address).cloned());
        match account {
            Some(account) => Ok(account.id),
            None => Err(Refusal::No("[NONEXISTENT] No such quota root".into())),
        }
    }

    pub(super) fn get_quota(&self, root: &str, out: &mut Out<'_>) -> Answer {
        self.write_quota(root, self.root(root)?, out)?;
        Ok("Quota given".into())
    }

    /// The mailbox need not exist (RFC 9208, 4.1.2).
    pub(super) fn get_quota_root(&self, name: &str, out: &mut Out<'_>) -> Answer {
        let info = self.find(name).ok();
        let name = info.as_ref().map_or(name, |info| &info.name);
        out.buf.extend_from_slice(b"* QUOTAROOT ");
        encode::mailbox(&mut out.buf, name, self.enabled.utf8());
        let owner = info.map_or(self.account.id, |info| info.key.account);
        let root = match owner == self.account.id {
            true => Some(ROOT.to_owned()),
            // What others keep is their own affair.
            false if !self.is_administrator() => None,
            false => {
                let directory = self.store.directory();
                let owner = directory.account(owner);
                owner.map(|account| account.address.to_string())
            }
        };
        let Some(root) = root else {
            out.line("");
            return Ok("Its quota is its owner's".into());
        };
        out.buf.push(b' ');
        encode::astring(&mut out.buf, root.as_bytes());
        out.line("");
        self.write_quota(&root, owner, out)?;
        Ok("Quota root given".into())
    }

    /// RFC 9208, 4.1.3: what is not named has no limit afterwards.
    pub(super) async fn set_quota(
        &mut self,
        root: &str,
        resources: &[(String, u64)],
        out: &mut Out<'_>,
    ) -> Answer {
        if !self.is_administrator() {
            return Err(Refusal::No(
                "[NOPERM] Only whoever runs this server can do that".into(),
            ));
        }
        let account = self.root(root)?;
        let (mut bytes, mut messages) = (Limit::None, Limit::None);
        for (resource, most) in resources {
            match resource.as_str() {
                "STORAGE" => bytes = Limit::At(most.saturating_mul(UNIT)),
                "MESSAGE" => messages = Limit::At(*most),
                _ => {
                    return Err(Refusal::No(
                        "[CANNOT] Limits are those of STORAGE and MESSAGE".into(),
                    ));
                }
            }
        }
        self.store
            .set_quota(account, Some(bytes), Some(messages))
            .await?;
        self.write_quota(root, account, out)?;
        Ok("Quota set".into())
    }

    fn write_quota(
        &self,
        root: &str,
        account: AccountId,
        out: &mut Out<'_>,
    ) -> Result<(), StoreError> {
        let limits = self.store.limits(account);
        let mut parts = Vec::new();
        // RFC 9208, 4.2.1: what is not named has no limit.
        if !limits.is_none() {
            let usage = self.store.usage(account)?;
            let bytes = limits.bytes.map(|most| (units(usage.bytes), units(most)));
            let messages = limits.messages.map(|most| (usage.messages, most));
            for (name, part) in [("STORAGE", bytes), ("MESSAGE", messages)] {
                parts.extend(part.map(|(used, most)| format!("{name} {used} {most}")));
            }
        }
        out.buf.extend_from_slice(b"* QUOTA ");
        encode::astring(&mut out.buf, root.as_bytes());
        out.line(&format!(" ({})", parts.join(" ")));
        Ok(())
    }
}
