//! GETMETADATA, SETMETADATA and what LIST returns of them (RFC 5464; RFC 6154, 4; RFC 9590).

use super::naming::{Place, no_permission};
use super::{Answer, Exec, Out, Refusal};
use crate::imap::command::{Depth, GetMetadata};
use crate::imap::encode;
use crate::store::{About, Annotated, Annotation, MailboxInfo, SpecialUse, StoreError};
use crate::types::{Address, Rights};

/// Entries that one command may name: each is looked up.
const MAX_ENTRIES: usize = 64;

/// One of these, besides `l`, is needed to read them (RFC 5464, 3.3).
const READING: Rights =
    Rights(Rights::READ.0 | Rights::SEEN.0 | Rights::WRITE.0 | Rights::INSERT.0 | Rights::POST.0);

const SPECIAL_USE: &str = "/private/specialuse";

pub(super) fn bounded(entries: &[String]) -> Result<(), Refusal> {
    if entries.len() > MAX_ENTRIES {
        return Err(Refusal::No("[LIMIT] Too many entries".into()));
    }
    Ok(())
}

/// What entries are asked of.
enum Of {
    Mailbox(MailboxInfo),
    Server,
}

/// The response to one command, begun with its first value.
struct Response<'a> {
    /// How the answer names the mailbox.
    name: &'a str,
    utf8: bool,
    max_size: Option<u64>,
    begun: bool,
    longest: u64,
}

impl Response<'_> {
    fn put(&mut self, entry: &str, value: Option<&[u8]>, buf: &mut Vec<u8>) {
        let size = value.map_or(0, |value| value.len() as u64);
        // RFC 5464, 4.2.1
        if self.max_size.is_some_and(|most| size > most) {
            self.longest = self.longest.max(size);
            return;
        }
        if std::mem::replace(&mut self.begun, true) {
            buf.push(b' ');
        } else {
            buf.extend_from_slice(b"* METADATA ");
            encode::mailbox(buf, self.name, self.utf8);
            buf.extend_from_slice(b" (");
        }
        encode::astring(buf, entry.as_bytes());
        buf.push(b' ');
        match value {
            Some(value) => encode::string8(buf, value),
            None => buf.extend_from_slice(b"NIL"),
        }
    }

    fn end(&self, buf: &mut Vec<u8>) {
        if self.begun {
            buf.extend_from_slice(b")\r\n");
        }
    }
}

fn is_private(entry: &str) -> bool {
    entry.starts_with("/private")
}

impl Exec {
    /// May set what is the server's.
    pub(super) fn is_administrator(&self) -> bool {
        let own = self.account.address.lookup_key();
        let all = self.config.imap.administrators.iter();
        all.filter_map(|address| Address::parse(address).ok())
            .any(|address| address.lookup_key() == own)
    }

    /// What the configuration says of the server.
    fn configured(&self, entry: &str) -> Option<&str> {
        match entry {
            "/shared/admin" => self.config.imap.metadata_admin.as_deref(),
            "/shared/comment" => self.config.imap.metadata_comment.as_deref(),
            _ => None,
        }
    }

    fn about(&self, of: &Of, entry: &str) -> About {
        match of {
            Of::Mailbox(info) => About::Mailbox(info.key),
            Of::Server if is_private(entry) => About::Account(self.account.id),
            Of::Server => About::Server,
        }
    }

    /// What is no record, but known all the same.
    fn computed(&self, of: &Of, entry: &str) -> Option<Vec<u8>> {
        match of {
            Of::Mailbox(info) if entry == SPECIAL_USE => {
                let special = info.special_use?;
                Some(special.attribute().as_bytes().to_vec())
            }
            Of::Mailbox(_) => None,
            Of::Server => Some(self.configured(entry)?.as_bytes().to_vec()),
        }
    }

    /// A private entry of somebody else's mailbox: there are none.
    fn has_none(&self, of: &Of, entry: &str) -> bool {
        match of {
            Of::Mailbox(info) => is_private(entry) && info.key.account != self.account.id,
            Of::Server => false,
        }
    }

    fn value(&self, of: &Of, entry: &str) -> Result<Option<Vec<u8>>, StoreError> {
        if self.has_none(of, entry) {
            return Ok(None);
        }
        match self.computed(of, entry) {
            Some(value) => Ok(Some(value)),
            None => self.store.annotation(self.about(of, entry), entry),
        }
    }

    /// Entries below one, by name.
    fn below(&self, of: &Of, entry: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        if self.has_none(of, entry) {
            return Ok(vec![]);
        }
        let prefix = format!("{entry}/");
        let mut found = Vec::new();
        let about = self.about(of, entry);
        self.store.annotations(about, &prefix, &mut |name, value| {
            found.push((name.to_owned(), value));
        })?;
        for name in ["/shared/admin", "/shared/comment", SPECIAL_USE] {
            if let (true, Some(value)) = (name.starts_with(&prefix), self.computed(of, name)) {
                found.retain(|(known, _)| known != name);
                found.push((name.to_owned(), value));
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) async fn get_metadata(&mut self, get: &GetMetadata, out: &mut Out<'_>) -> Answer {
        bounded(&get.entries)?;
        let of = match get.mailbox.is_empty() {
            true => Of::Server,
            false => {
                let Place { info, rights } = self.resolve(&get.mailbox)?;
                if !rights.any(READING) {
                    return Err(no_permission());
                }
                Of::Mailbox(info)
            }
        };
        let name = match &of {
            Of::Mailbox(info) => info.name.clone(),
            Of::Server => String::new(),
        };
        let mut response = Response {
            name: &name,
            utf8: self.enabled.utf8(),
            max_size: get.max_size,
            begun: false,
            longest: 0,
        };
        for asked in &get.entries {
            let entry = asked.to_ascii_lowercase();
            let value = self.value(&of, &entry)?;
            // What is asked for by name is answered; of a tree, what is there.
            if value.is_some() || get.depth == Depth::Zero {
                response.put(asked, value.as_deref(), &mut out.buf);
            }
            if get.depth != Depth::Zero {
                for (name, value) in self.below(&of, &entry)? {
                    let deeper = name[entry.len() + 1..].contains('/');
                    if get.depth == Depth::Infinity || !deeper {
                        response.put(&name, Some(&value), &mut out.buf);
                        out.piece().await?;
                    }
                }
            }
            out.piece().await?;
        }
        response.end(&mut out.buf);
        Ok(match response.longest {
            0 => "Annotations given".into(),
            longest => format!("[METADATA LONGENTRIES {longest}] Annotations given"),
        })
    }

    /// RFC 9590: after the LIST response of a mailbox.
    pub(super) async fn listed_metadata(
        &self,
        info: &MailboxInfo,
        entries: &[String],
        out: &mut Out<'_>,
    ) -> Result<(), Refusal> {
        if !self.rights_on(info.key).any(READING) {
            return Ok(());
        }
        let mut response = Response {
            name: &info.name,
            utf8: self.enabled.utf8(),
            max_size: None,
            begun: false,
            longest: 0,
        };
        let of = Of::Mailbox(info.clone());
        for asked in entries {
            let value = self.value(&of, &asked.to_ascii_lowercase())?;
            response.put(asked, value.as_deref(), &mut out.buf);
            out.piece().await?;
        }
        response.end(&mut out.buf);
        Ok(())
    }

    pub(super) async fn set_metadata(
        &mut self,
        name: &str,
        values: Vec<(String, Option<Vec<u8>>)>,
    ) -> Answer {
        let most = self.config.store.max_annotation_bytes;
        let sizes = values.iter().filter_map(|(_, value)| value.as_ref());
        if sizes.clone().any(|value| value.len() > most) {
            return Err(Refusal::No(format!(
                "[METADATA MAXSIZE {most}] A value is too long"
            )));
        }
        let lower = |(entry, value): Annotation| (entry.to_ascii_lowercase(), value);
        let mut entries: Vec<Annotation> = values.into_iter().map(lower).collect();
        if let Some((entry, _)) = entries.iter().find(|(e, _)| e.matches('/').count() < 2) {
            return Err(Refusal::Bad(format!("{entry} is no entry")));
        }
        let done = if name.is_empty() {
            self.set_of_server(entries).await?
        } else {
            let info = self.resolve_for(name, Rights::LOOKUP.with(Rights::WRITE))?;
            if info.key.account != self.account.id
                && entries.iter().any(|(entry, _)| is_private(entry))
            {
                return Err(Refusal::No(
                    "[METADATA NOPRIVATE] Only its owner has private annotations of it".into(),
                ));
            }
            let special = take_special_use(&mut entries)?;
            let about = About::Mailbox(info.key);
            self.store.annotate(about, entries, special).await?
        };
        match done {
            Annotated::Done => Ok("Annotated".into()),
            Annotated::TooMany => Err(Refusal::No(
                "[METADATA TOOMANY] There are too many annotations".into(),
            )),
        }
    }

    async fn set_of_server(&self, entries: Vec<Annotation>) -> Result<Annotated, Refusal> {
        let private = entries
            .iter()
            .filter(|(entry, _)| is_private(entry))
            .count();
        if private == entries.len() {
            let about = About::Account(self.account.id);
            return Ok(self.store.annotate(about, entries, None).await?);
        }
        // RFC 5464, 3.2.1.1 and 3.3
        let fixed =
            |(entry, _): &Annotation| entry == "/shared/admin" || self.configured(entry).is_some();
        if !self.is_administrator() || entries.iter().any(fixed) {
            return Err(Refusal::No(
                "[NOPERM] Only whoever runs this server can do that".into(),
            ));
        }
        if private > 0 {
            return Err(Refusal::No(
                "[CANNOT] Set private and shared entries of the server apart".into(),
            ));
        }
        Ok(self.store.annotate(About::Server, entries, None).await?)
    }
}

/// RFC 6154, 4: the special use of a mailbox is an entry of it.
fn take_special_use(entries: &mut Vec<Annotation>) -> Result<Option<Option<SpecialUse>>, Refusal> {
    let mut special = None;
    for (_, value) in entries.iter().filter(|(entry, _)| entry == SPECIAL_USE) {
        let refused = || Refusal::No("[USEATTR] This special use is not possible".into());
        special = Some(match value {
            None => None,
            Some(value) => {
                let text = std::str::from_utf8(value).map_err(|_| refused())?;
                let known = super::mailboxes::SPECIAL_USES
                    .into_iter()
                    .find(|special| special.attribute().eq_ignore_ascii_case(text.trim()));
                Some(known.ok_or_else(refused)?)
            }
        });
    }
    entries.retain(|(entry, _)| entry != SPECIAL_USE);
    Ok(special)
}
