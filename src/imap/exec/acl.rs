//! SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314, 3).

use super::naming::{Place, nonexistent};
use super::{Answer, Exec, Out, Refusal};
use crate::imap::command::AclChange;
use crate::imap::encode;
use crate::store::{Granted, RightsChange, StoreError, Who};
use crate::types::{AccountId, Address, MailboxKey, Rights};

const ANYONE: &str = "anyone";

/// Whom an identifier means, and whether its rights are taken away.
struct Identifier {
    who: Who,
    negative: bool,
}

impl Exec {
    /// An address, `anyone`, or one of them behind `-`. A name without a domain is of the owner's.
    fn identifier(&self, text: &str, owner: AccountId) -> Option<Identifier> {
        let (negative, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name == ANYONE {
            let who = Who::Anyone;
            return Some(Identifier { who, negative });
        }
        let directory = self.store.directory();
        let address = match name.contains('@') {
            true => Address::parse(name),
            false => {
                let domain = directory.account(owner)?.address.domain().clone();
                Address::from_parts(name.to_owned(), domain)
            }
        };
        let account = directory.account_by_address(&address.ok()?)?.id;
        let who = Who::Account(account);
        Some(Identifier { who, negative })
    }

    /// Not where it can't be seen, though `a` is there (section 6).
    fn administered(&self, name: &str) -> Result<Place, Refusal> {
        let place = self.resolve(name)?;
        match place.rights.contains(Rights::ADMINISTER) {
            true => Ok(place),
            false => Err(super::naming::no_permission()),
        }
    }

    pub(super) async fn set_acl(
        &mut self,
        name: &str,
        identifier: &str,
        change: AclChange,
        rights: Rights,
    ) -> Answer {
        let change = match change {
            AclChange::Replace => RightsChange::Replace,
            AclChange::Add => RightsChange::Add,
            AclChange::Remove => RightsChange::Remove,
        };
        let key = self.administered(name)?.info.key;
        let identifier = self.known(identifier, key.account)?;
        if identifier.who == Who::Account(key.account) {
            let stay = match change {
                RightsChange::Replace => rights == Rights::ALL && !identifier.negative,
                RightsChange::Add => !identifier.negative || rights == Rights::NONE,
                RightsChange::Remove => identifier.negative || rights == Rights::NONE,
            };
            return match stay {
                true => Ok("The owner has all rights".into()),
                false => Err(owner_keeps()),
            };
        }
        self.grant(key, &identifier, change, rights).await?;
        Ok("Rights set".into())
    }

    pub(super) async fn delete_acl(&mut self, name: &str, identifier: &str) -> Answer {
        let key = self.administered(name)?.info.key;
        let identifier = self.known(identifier, key.account)?;
        if identifier.who == Who::Account(key.account) {
            return match identifier.negative {
                true => Ok("There is no such entry".into()),
                false => Err(owner_keeps()),
            };
        }
        let change = RightsChange::Replace;
        self.grant(key, &identifier, change, Rights::NONE).await?;
        Ok("Rights deleted".into())
    }

    fn known(&self, identifier: &str, owner: AccountId) -> Result<Identifier, Refusal> {
        self.identifier(identifier, owner).ok_or_else(|| {
            Refusal::No("[CANNOT] An identifier is an account's address, or anyone".into())
        })
    }

    async fn grant(
        &self,
        key: MailboxKey,
        identifier: &Identifier,
        change: RightsChange,
        rights: Rights,
    ) -> Result<(), StoreError> {
        let entry = Granted {
            who: identifier.who,
            negative: identifier.negative,
            rights,
        };
        self.store
            .set_rights(self.account.id, key, entry, change)
            .await
    }

    pub(super) fn get_acl(&self, name: &str, out: &mut Out<'_>) -> Answer {
        let info = self.administered(name)?.info;
        let directory = self.store.directory();
        let buf = &mut out.buf;
        buf.extend_from_slice(b"* ACL ");
        encode::mailbox(buf, &info.name, self.enabled.utf8());
        let mut put = |negative: bool, name: &str, rights: Rights| {
            let sign = ["", "-"][usize::from(negative)];
            buf.push(b' ');
            encode::astring(buf, format!("{sign}{name}").as_bytes());
            buf.push(b' ');
            encode::astring(buf, rights.to_string().as_bytes());
        };
        if let Some(owner) = directory.account(info.key.account) {
            put(false, &owner.address.to_string(), Rights::ALL);
        }
        for entry in directory.acl(info.key) {
            match entry.who {
                Who::Anyone => put(entry.negative, ANYONE, entry.rights),
                Who::Account(id) => {
                    if let Some(account) = directory.account(id) {
                        put(entry.negative, &account.address.to_string(), entry.rights);
                    }
                }
            }
        }
        out.line("");
        Ok("List given".into())
    }

    pub(super) fn list_rights(&self, name: &str, identifier: &str, out: &mut Out<'_>) -> Answer {
        let info = self.administered(name)?.info;
        let known = self.known(identifier, info.key.account)?;
        out.buf.extend_from_slice(b"* LISTRIGHTS ");
        encode::mailbox(&mut out.buf, &info.name, self.enabled.utf8());
        out.buf.push(b' ');
        encode::astring(&mut out.buf, identifier.as_bytes());
        // Required ones, then those that can be given one by one (RFC 4314, 3.7).
        let owner = known.who == Who::Account(info.key.account);
        out.line(&match (owner, known.negative) {
            (true, false) => format!(" {}", Rights::ALL),
            (true, true) => " \"\"".to_owned(),
            (false, _) => " \"\" l r s w i p k x t e a c d".to_owned(),
        });
        Ok("Rights listed".into())
    }

    pub(super) fn my_rights(&self, name: &str, out: &mut Out<'_>) -> Answer {
        let place = self.place(name)?;
        if !place.rights.any(TELLING) {
            return Err(nonexistent());
        }
        let Place { info, rights } = place;
        self.write_rights(&info.name, rights, &mut out.buf);
        Ok("Rights given".into())
    }

    pub(super) fn write_rights(&self, name: &str, rights: Rights, out: &mut Vec<u8>) {
        out.extend_from_slice(b"* MYRIGHTS ");
        encode::mailbox(out, name, self.enabled.utf8());
        out.push(b' ');
        encode::astring(out, rights.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Who has one of these may know what he has (RFC 4314, 4).
const TELLING: Rights = Rights(
    Rights::LOOKUP.0
        | Rights::READ.0
        | Rights::INSERT.0
        | Rights::CREATE.0
        | Rights::DELETE.0
        | Rights::ADMINISTER.0,
);

fn owner_keeps() -> Refusal {
    Refusal::No("[CANNOT] The owner keeps all rights".into())
}
