//! Commands as the parser gives them: checked in form, not yet in meaning.

use super::list::Pattern;
use super::notify::Notify;
use crate::types::{Flag, Secret};

/// A tagged command.
#[derive(Debug)]
pub struct Tagged {
    pub tag: String,
    pub command: Command,
}

/// A mailbox name, decoded to UTF-8 (from modified UTF-7 where the client speaks that).
pub type MailboxName = String;

/// `sequence-set`: `*` is `u32::MAX` as `Star`. `$` (RFC 5182) is a case of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SequenceSet {
    Ranges(Vec<(SeqNumber, SeqNumber)>),
    /// `$`: the saved search result.
    Saved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeqNumber {
    Number(u32),
    Star,
}

#[derive(Debug)]
pub enum Command {
    // Any state
    Capability,
    Noop,
    Logout,
    /// Pairs in order; None: NIL (RFC 2971).
    Id(Vec<(String, Option<String>)>),
    // Not authenticated
    StartTls,
    /// Mechanism in upper case; the initial response decoded from base64 (`=` is empty).
    Authenticate {
        mechanism: String,
        initial: Option<Secret>,
    },
    Login {
        user: String,
        password: Secret,
    },
    // Authenticated
    Enable(Vec<String>),
    Select {
        mailbox: MailboxName,
        parameters: Vec<SelectParameter>,
        read_only: bool,
    },
    Create {
        mailbox: MailboxName,
        special_use: Vec<String>,
    },
    Delete(MailboxName),
    Rename {
        from: MailboxName,
        to: MailboxName,
    },
    Subscribe(MailboxName),
    Unsubscribe(MailboxName),
    List(List),
    Lsub {
        reference: Pattern,
        pattern: Pattern,
    },
    Namespace,
    Status {
        mailbox: MailboxName,
        items: Vec<StatusItem>,
    },
    /// RFC 9208, 4.1.
    GetQuota(String),
    GetQuotaRoot(MailboxName),
    SetQuota(String),
    Append(Append),
    Idle,
    /// RFC 5465.
    Notify(Notify),
    // Selected
    Check,
    Close,
    Unselect,
    /// Some: UID EXPUNGE (RFC 4315).
    Expunge(Option<SequenceSet>),
    Search(Search),
    /// A search in a charset that is not supported; `save` where its result was to be saved.
    SearchInCharset {
        save: bool,
    },
    Fetch {
        set: SequenceSet,
        uid: bool,
        items: Vec<FetchItem>,
    },
    Store {
        set: SequenceSet,
        uid: bool,
        action: StoreAction,
        silent: bool,
        flags: Vec<Flag>,
    },
    Copy {
        set: SequenceSet,
        uid: bool,
        mailbox: MailboxName,
    },
    Move {
        set: SequenceSet,
        uid: bool,
        mailbox: MailboxName,
    },
}

impl Command {
    /// Its name for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Capability => "capability",
            Self::Noop => "noop",
            Self::Logout => "logout",
            Self::Id(_) => "id",
            Self::StartTls => "starttls",
            Self::Authenticate { .. } => "authenticate",
            Self::Login { .. } => "login",
            Self::Enable(_) => "enable",
            Self::Select { .. } => "select",
            Self::Create { .. } => "create",
            Self::Delete(_) => "delete",
            Self::Rename { .. } => "rename",
            Self::Subscribe(_) | Self::Unsubscribe(_) => "subscribe",
            Self::List(_) | Self::Lsub { .. } => "list",
            Self::Namespace => "namespace",
            Self::Status { .. } => "status",
            Self::GetQuota(_) => "getquota",
            Self::GetQuotaRoot(_) => "getquotaroot",
            Self::SetQuota(_) => "setquota",
            Self::Append(_) => "append",
            Self::Idle => "idle",
            Self::Notify(_) => "notify",
            Self::Check => "check",
            Self::Close | Self::Unselect => "close",
            Self::Expunge(_) => "expunge",
            Self::Search(_) | Self::SearchInCharset { .. } => "search",
            Self::Fetch { .. } => "fetch",
            Self::Store { .. } => "store",
            Self::Copy { .. } => "copy",
            Self::Move { .. } => "move",
        }
    }
}

/// Parameters of SELECT (RFC 4466); the session refuses those it does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectParameter {
    CondStore,
    Other(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAction {
    Replace,
    Add,
    Remove,
}

/// LIST with everything of RFC 5258, RFC 5819 and RFC 6154.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    pub reference: Pattern,
    pub patterns: Vec<Pattern>,
    /// True where any part of the extended syntax was used.
    pub extended: bool,
    pub select_subscribed: bool,
    pub select_remote: bool,
    pub select_recursive_match: bool,
    pub select_special_use: bool,
    pub return_subscribed: bool,
    pub return_children: bool,
    pub return_special_use: bool,
    pub return_status: Option<Vec<StatusItem>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Deleted,
    /// RFC 9208, 4.1.4.
    DeletedStorage,
    Size,
    HighestModSeq,
    /// RFC 7889, 3.2.
    AppendLimit,
}

/// APPEND without its message: the message literal is streamed, see `fragment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub mailbox: MailboxName,
    pub flags: Vec<Flag>,
    /// Milliseconds since 1970 and minutes east of UTC.
    pub date: Option<(i64, i16)>,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    pub uid: bool,
    /// None: classic untagged SEARCH. Some: RETURN (...) of RFC 4731, empty means ALL.
    pub returns: Option<Vec<SearchReturn>>,
    /// Given by CHARSET; checked by the parser to be US-ASCII or UTF-8.
    pub charset: Option<String>,
    pub key: SearchKey,
}

impl Search {
    pub fn saves(&self) -> bool {
        let returns = self.returns.as_deref().unwrap_or_default();
        returns.contains(&SearchReturn::Save)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchReturn {
    Min,
    Max,
    All,
    Count,
    Save,
}

/// Search keys (RFC 9051, 6.4.4; RFC 3501's OLD, NEW, RECENT; RFC 5032's WITHIN).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchKey {
    All,
    And(Vec<SearchKey>),
    Or(Box<SearchKey>, Box<SearchKey>),
    Not(Box<SearchKey>),
    Set(SequenceSet),
    Uid(SequenceSet),
    Flag(Flag),
    New,
    Old,
    Recent,
    /// Days since 1970-01-01 (a date without a zone).
    Before(i32),
    On(i32),
    Since(i32),
    SentBefore(i32),
    SentOn(i32),
    SentSince(i32),
    Larger(u64),
    Smaller(u64),
    Older(u32),
    Younger(u32),
    From(String),
    To(String),
    Cc(String),
    Bcc(String),
    Subject(String),
    Header(String, String),
    Body(String),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem {
    Envelope,
    Flags,
    InternalDate,
    Rfc822Size,
    Uid,
    /// BODY without a section: the structure without extension data.
    Body,
    BodyStructure,
    Section(Section),
    /// `BINARY[part]<offset.length>`: the part's content, decoded.
    Binary {
        part: Vec<u32>,
        partial: Option<(u64, u64)>,
        peek: bool,
    },
    BinarySize(Vec<u32>),
    ModSeq,
}

/// `BODY[section]<offset.length>` and RFC 3501's RFC822, RFC822.HEADER, RFC822.TEXT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub part: Vec<u32>,
    pub text: SectionText,
    pub partial: Option<(u64, u64)>,
    pub peek: bool,
    /// How the answer names it.
    pub label: SectionLabel,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionText {
    /// `BODY[]`, `BODY[1.2]`.
    Whole,
    Header,
    HeaderFields(Vec<String>),
    HeaderFieldsNot(Vec<String>),
    Text,
    Mime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionLabel {
    Body,
    Rfc822,
    Rfc822Header,
    Rfc822Text,
}
