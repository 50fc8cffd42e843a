//! Commands on the store, and their answers. One file per family.
//!
//! May import: store, config, mail, telemetry, types. Not a machine: it reads the store and
//! writes to the connection, in pieces, so that a slow reader holds no more than one piece.
//!
//! Invariants: an answer names only sequence numbers of the session's own view; EXPUNGE is not
//! told while FETCH, STORE or SEARCH by sequence number is answered (RFC 9051, 7.5.1).

mod acl;
mod ahead;
mod answer;
mod append;
mod context;
mod fetch;
mod find;
mod helper;
mod keys;
mod limit;
mod list;
mod mailboxes;
mod messages;
mod metadata;
mod modseq;
mod multisearch;
mod naming;
mod narrow;
mod notify;
mod progress;
mod quota;
mod search;
mod sort;
pub mod sync;
mod text;
mod url;

#[cfg(test)]
mod tests;

pub use self::append::Incoming;
pub use self::notify::{NotifyLimits, Watch};

use std::sync::Arc;
use std::time::Duration;

use self::progress::Progress;
use self::sync::{Selected, Telling};
use super::capability::Enabled;
use super::command::{Command, FetchItem, SequenceSet, StatusItem, Tagged};
use super::keys::KeyCache;
use crate::config::Config;
use crate::net::{PeerEnd, Stream};
use crate::store::{Account, Store, StoreError};
use crate::telemetry::{ImapResult, Telemetry};
use crate::types::{MailboxKey, Rights, UidSet};

/// The client is gone, or does not read.
#[derive(Debug)]
pub struct Gone {
    pub stalled: bool,
}

/// Answers on their way: collected, and written in pieces.
pub struct Out<'a> {
    pub buf: Vec<u8>,
    stream: &'a mut Stream,
    patience: Duration,
    asked: bool,
    progress: Progress,
}

/// What is collected before it is written.
const PIECE: usize = 64 * 1024;

/// How long a word may take to be written by who holds a place.
const HOLDING: Duration = Duration::from_secs(1);

impl<'a> Out<'a> {
    pub fn new(stream: &'a mut Stream, patience: Duration) -> Self {
        Self {
            buf: Vec::new(),
            stream,
            patience,
            asked: false,
            progress: Progress::default(),
        }
    }

    /// In long work that writes nothing: goes on only where somebody waits for its answer. Who
    /// has ended its own side may be waiting; a word is written to find out.
    /// Who holds a place that others want does not wait long for that.
    async fn is_awaited(&mut self, holding: bool) -> Result<(), Gone> {
        let finished = match self.stream.peer_end() {
            PeerEnd::Open => false,
            PeerEnd::Finished => !std::mem::replace(&mut self.asked, true),
            PeerEnd::Gone => return Err(Gone { stalled: false }),
        };
        match (self.word(), finished) {
            (false, false) => Ok(()),
            (told, _) => {
                if !told {
                    self.line("* OK Still working");
                }
                let most = if holding { HOLDING } else { Duration::MAX };
                let written = send(self.stream, &self.buf, self.patience);
                let written = tokio::time::timeout(most, written).await;
                self.buf.clear();
                written.unwrap_or(Err(Gone { stalled: true }))
            }
        }
    }

    pub async fn flush(&mut self) -> Result<(), Gone> {
        let written = send(self.stream, &self.buf, self.patience).await;
        self.buf.clear();
        written
    }

    /// A text that may be long: it is not copied.
    async fn put(&mut self, text: &[u8]) -> Result<(), Gone> {
        if self.buf.len() + text.len() < PIECE {
            self.buf.extend_from_slice(text);
            return Ok(());
        }
        self.flush().await?;
        send(self.stream, text, self.patience).await
    }

    /// Writes if there is much; lets others run.
    async fn piece(&mut self) -> Result<(), Gone> {
        if self.buf.len() >= PIECE {
            self.flush().await?;
        }
        Ok(())
    }

    fn line(&mut self, text: &str) {
        self.buf.extend_from_slice(text.as_bytes());
        self.buf.extend_from_slice(b"\r\n");
    }
}

/// Who reads slowly, but reads, is served.
async fn send(stream: &mut Stream, bytes: &[u8], patience: Duration) -> Result<(), Gone> {
    for piece in bytes.chunks(PIECE) {
        let written = stream.write_patiently(piece, patience).await;
        written.map_err(|error| Gone {
            stalled: error.kind() == std::io::ErrorKind::TimedOut,
        })?;
    }
    Ok(())
}

/// Reads and decodes that may take long: what else this thread had to do goes on elsewhere.
fn aside<R>(work: impl FnOnce() -> R) -> R {
    tokio::task::block_in_place(work)
}

/// The tagged answer, without its tag.
type Answer = Result<String, Refusal>;

/// NO or BAD and its text.
enum Refusal {
    No(String),
    /// NO, for a reason of ours.
    Trouble(String),
    Bad(String),
    Gone(Gone),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let text = store_error(&error);
        if error.is_temporary() || error == StoreError::DamagedBody {
            Self::Trouble(text)
        } else {
            Self::No(text)
        }
    }
}

impl From<Gone> for Refusal {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

impl From<sync::NoSuchNumber> for Refusal {
    fn from(_: sync::NoSuchNumber) -> Self {
        Self::Bad("No such message number".into())
    }
}

/// The store's errors as response codes (RFC 5530; RFC 9051, 7.1).
pub(super) fn store_error(error: &StoreError) -> String {
    let code = match error {
        StoreError::NoMailbox => "NONEXISTENT",
        // RFC 5530, 3
        StoreError::Expunged => "EXPUNGEISSUED",
        StoreError::Exists => "ALREADYEXISTS",
        StoreError::UseTaken => "USEATTR",
        StoreError::HasChildren => "HASCHILDREN",
        // RFC 9208, 4.3.1
        StoreError::MailboxFull | StoreError::OverQuota => "OVERQUOTA",
        StoreError::Limit(_) => "LIMIT",
        StoreError::Invalid(_) => "CANNOT",
        StoreError::NoAccount => "UNAVAILABLE",
        StoreError::DamagedBody => "SERVERBUG",
        _ => "UNAVAILABLE",
    };
    format!("[{code}] {error}")
}

/// One logged-in session's side of the store.
pub struct Exec {
    pub store: Store,
    pub telemetry: Arc<Telemetry>,
    pub account: Arc<Account>,
    pub selected: Option<Selected>,
    /// What the client has switched on; commands may switch on more.
    pub enabled: Enabled,
    pub append_limit: u64,
    /// Messages that one command may work on (RFC 9738); 0: any number.
    pub message_limit: u32,
    /// Of the command that runs: the lowest UID that it came to.
    pub limit_reached: Option<crate::types::Uid>,
    pub config: Arc<Config>,
    /// Of the command that runs; ESEARCH names it.
    pub tag: String,
    /// Something was told since the last command was answered (RFC 5465).
    pub interrupted: bool,
    /// What is known of messages.
    pub keys: Arc<KeyCache>,
    pub key_cache_bytes: usize,
    /// What NOTIFY asked for; None: it was never used.
    pub watch: Option<Box<Watch>>,
    pub notify_limits: NotifyLimits,
    /// What the command that runs has put into mailboxes, where that matters to NOTIFY.
    pub arrived: Vec<(MailboxKey, UidSet)>,
    /// What was told in this turn of messages that have just arrived.
    pub told_new: Vec<(UidSet, Vec<FetchItem>)>,
    /// Results that are kept up to date, of one connection.
    pub max_contexts: usize,
    pub max_searched_mailboxes: usize,
}

impl Exec {
    /// Runs a command and writes its whole answer.
    pub async fn run(&mut self, tagged: Tagged, out: &mut Out<'_>) -> Result<(), Gone> {
        let Tagged { tag, command } = tagged;
        self.tag.clone_from(&tag);
        let every = self.config.imap.progress_secs;
        out.begin(&tag, Duration::from_secs(every));
        let name = command.name();
        let telling = telling(&command);
        let closes = matches!(
            command,
            Command::Close | Command::Unselect | Command::Select { .. }
        );
        let looked = self.look_at_rights(&command, out);
        let deed = self.deed(&command);
        let answer = match looked {
            Ok(()) => Box::pin(self.command(command, out)).await,
            Err(refusal) => Err(refusal),
        };
        self.tell_all((!closes).then_some(telling), &deed, out)
            .await?;
        self.update_contexts(out).await?;
        let answer = if closes {
            answer
        } else {
            self.with_modseq(answer, out)
        };
        self.interrupted = false;
        let answer = self.with_limit(answer, out);
        let (result, text) = match answer {
            Ok(text) => (ImapResult::Ok, format!("OK {text}")),
            Err(Refusal::No(text)) => (ImapResult::No, format!("NO {text}")),
            Err(Refusal::Trouble(text)) => {
                self.telemetry.imap.store_failed(name, &text);
                (ImapResult::No, format!("NO {text}"))
            }
            Err(Refusal::Bad(text)) => (ImapResult::Bad, format!("BAD {text}")),
            Err(Refusal::Gone(gone)) => return Err(gone),
        };
        self.telemetry.imap.command(name, result);
        out.line(&format!("{tag} {text}"));
        out.flush().await
    }

    /// Another session deleted the selected mailbox, or its account is gone.
    pub fn lost(&self) -> bool {
        let selected = self.selected.as_ref();
        selected.is_some_and(|selected| selected.mailbox.is_deleted())
    }

    /// Tells what is new in the selected mailbox; gives the newest message announced.
    async fn sync(
        &mut self,
        telling: Telling,
        out: &mut Out<'_>,
    ) -> Result<Option<crate::types::Uid>, Gone> {
        if !self.may_be_told() {
            return Ok(None);
        }
        let enabled = self.enabled;
        let selected = self.selected.as_mut();
        let Some(selected) = selected.filter(|selected| !selected.mailbox.is_deleted()) else {
            return Ok(None);
        };
        let Some((newest, changes)) = selected.sync(telling, enabled, &mut out.buf) else {
            return Ok(None);
        };
        for (seq, message) in changes.iter().filter(|_| !selected.hush) {
            selected.flag_change(seq, &message, &changes.now, &mut out.buf);
            out.piece().await?;
        }
        Ok(newest)
    }

    async fn command(&mut self, command: Command, out: &mut Out<'_>) -> Answer {
        match command {
            Command::Noop | Command::Check => Ok("Done".into()),
            Command::Select {
                mailbox,
                parameters,
                read_only,
            } => self.select(&mailbox, &parameters, read_only, out).await,
            Command::Create {
                mailbox,
                special_use,
            } => self.create(&mailbox, &special_use, out).await,
            Command::Delete(mailbox) => self.delete(&mailbox, out).await,
            Command::Rename { from, to } => self.rename(&from, &to, out).await,
            Command::Subscribe(mailbox) => self.subscribe(&mailbox, true).await,
            Command::Unsubscribe(mailbox) => self.subscribe(&mailbox, false).await,
            Command::List(list) => self.list(&list, out).await,
            Command::Lsub { reference, pattern } => self.lsub(&reference, &pattern, out).await,
            Command::Namespace => {
                out.line("* NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\")) NIL");
                Ok("Namespace listed".into())
            }
            Command::GetQuota(root) => self.get_quota(&root, out),
            Command::GetQuotaRoot(mailbox) => self.get_quota_root(&mailbox, out),
            Command::SetQuota { root, resources } => self.set_quota(&root, &resources, out).await,
            Command::Status { mailbox, items } => {
                // RFC 7162, 3.1
                if items.contains(&StatusItem::HighestModSeq) {
                    self.use_modseq(out);
                }
                self.status(&mailbox, &items, out)
            }
            // The session has switched it on.
            Command::Enable(_) => {
                self.first_modseq(out);
                Ok("Enabled".into())
            }
            Command::GetMetadata(get) => self.get_metadata(&get, out).await,
            Command::SetMetadata { mailbox, values } => self.set_metadata(&mailbox, values).await,
            Command::SetAcl {
                mailbox,
                identifier,
                change,
                rights,
            } => self.set_acl(&mailbox, &identifier, change, rights).await,
            Command::DeleteAcl {
                mailbox,
                identifier,
            } => self.delete_acl(&mailbox, &identifier).await,
            Command::GetAcl(mailbox) => self.get_acl(&mailbox, out),
            Command::ListRights {
                mailbox,
                identifier,
            } => self.list_rights(&mailbox, &identifier, out),
            Command::MyRights(mailbox) => self.my_rights(&mailbox, out),
            Command::Notify(notify) => self.notify(notify, out).await,
            Command::GenUrlAuth(rumps) => self.gen_url_auth(&rumps, out).await,
            Command::ResetKey(mailbox) => self.reset_key(mailbox.as_deref()).await,
            Command::UrlFetch(urls) => self.url_fetch(&urls, out).await,
            Command::Close => self.close().await,
            Command::Unselect => {
                self.selected = None;
                Ok("Unselected".into())
            }
            Command::Expunge(set) => out.during(self.expunge(set.as_ref())).await?,
            Command::Search(search) => {
                if search.key.has_modseq() {
                    self.use_modseq(out);
                }
                let answer = self.search(&search, out).await;
                if let Err(Refusal::No(_) | Refusal::Trouble(_)) = &answer {
                    self.forget_saved(search.saves());
                }
                answer
            }
            Command::MultiSearch { sources, search } => {
                if search.key.has_modseq() {
                    self.use_modseq(out);
                }
                let answer = self.multi_search(&sources, &search, out).await;
                if let Err(Refusal::No(_) | Refusal::Trouble(_)) = &answer {
                    self.forget_saved(search.saves());
                }
                answer
            }
            Command::CancelUpdate(tags) => self.cancel_update(&tags),
            Command::UidBatches { size, range } => self.uid_batches(size, range, out),
            Command::Thread { algorithm, search } => self.thread(algorithm, &search, out).await,
            Command::SearchInCharset { save, .. } => {
                self.forget_saved(save);
                Err(Refusal::No(
                    "[BADCHARSET (US-ASCII UTF-8)] Only US-ASCII and UTF-8 are supported".into(),
                ))
            }
            Command::Fetch {
                set,
                uid,
                items,
                modifiers,
            } => self.fetch(&set, uid, items, &modifiers, out).await,
            Command::Store(store) => self.store_flags(store, out).await,
            Command::Copy { set, uid, mailbox } => {
                out.during(self.copy(&set, uid, &mailbox)).await?
            }
            Command::Move { set, uid, mailbox } => {
                self.move_messages(&set, uid, &mailbox, out).await
            }
            // The session machine answers these itself.
            _ => Err(Refusal::Bad("Not now".into())),
        }
    }

    fn selected(&self) -> Result<&Selected, Refusal> {
        self.selected
            .as_ref()
            .ok_or_else(|| Refusal::Bad("No mailbox is selected".into()))
    }

    fn writable(&self) -> Result<&Selected, Refusal> {
        let selected = self.selected()?;
        if selected.read_only {
            return Err(Refusal::No("[READ-ONLY] The mailbox is read-only".into()));
        }
        Ok(selected)
    }

    /// The selected mailbox, for a change that needs these rights.
    fn changeable(&self, needed: Rights) -> Result<&Selected, Refusal> {
        let selected = self.writable()?;
        match selected.rights.contains(needed) {
            true => Ok(selected),
            false => Err(naming::no_permission()),
        }
    }

    fn uids(&self, set: &SequenceSet, uid: bool) -> Result<UidSet, Refusal> {
        Ok(self.selected()?.uids(set, uid)?)
    }
}

fn telling(command: &Command) -> Telling {
    match command {
        Command::Fetch { uid: false, .. } => Telling::NoExpunge,
        Command::Store(store) if !store.uid => Telling::NoExpunge,
        // RFC 7162, 3.2.10.2: nor where a UID SEARCH names message numbers.
        Command::Search(search) | Command::Thread { search, .. }
            if !search.uid || search.key.has_numbers() =>
        {
            Telling::NoExpunge
        }
        Command::SearchInCharset { .. } => Telling::NoExpunge,
        Command::MultiSearch { search, .. } if search.key.has_numbers() => Telling::NoExpunge,
        _ => Telling::Everything,
    }
}
