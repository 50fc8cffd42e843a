//! Commands as the parser gives them: checked in form, not yet in meaning.

use super::list::Pattern;
use super::notify::Notify;
use crate::types::{Flag, Rights, Secret, UidSet};

/// A tagged command.
#[derive(Debug, PartialEq, Eq)]
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
    /// Numbers, and `$` behind one of them.
    Both(Vec<(SeqNumber, SeqNumber)>),
}

impl SequenceSet {
    pub fn ranges(&self) -> &[(SeqNumber, SeqNumber)] {
        match self {
            Self::Saved => &[],
            Self::Ranges(ranges) | Self::Both(ranges) => ranges,
        }
    }

    /// Is `$` in it?
    pub fn has_saved(&self) -> bool {
        !matches!(self, Self::Ranges(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeqNumber {
    Number(u32),
    Star,
}

#[derive(Debug, PartialEq, Eq)]
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
    /// The mechanism, in upper case (RFC 4978).
    Compress(String),
    /// RFC 8437.
    Unauthenticate,
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
    /// Resources in upper case, with their limits.
    SetQuota {
        root: String,
        resources: Vec<(String, u64)>,
    },
    /// RFC 5464, 4.2; an empty name is the server.
    GetMetadata(GetMetadata),
    /// RFC 5464, 4.3; no value removes.
    SetMetadata {
        mailbox: MailboxName,
        values: Vec<(String, Option<Vec<u8>>)>,
    },
    /// RFC 4314, 3.
    SetAcl {
        mailbox: MailboxName,
        identifier: String,
        change: AclChange,
        rights: Rights,
    },
    DeleteAcl {
        mailbox: MailboxName,
        identifier: String,
    },
    GetAcl(MailboxName),
    ListRights {
        mailbox: MailboxName,
        identifier: String,
    },
    MyRights(MailboxName),
    /// URLs without their tokens, each with a mechanism in upper case (RFC 4467, 7).
    GenUrlAuth(Vec<(String, String)>),
    /// None: of all mailboxes.
    ResetKey(Option<MailboxName>),
    UrlFetch(Vec<String>),
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
    /// RFC 5256, 3.
    Thread {
        algorithm: ThreadAlgorithm,
        search: Search,
    },
    /// ESEARCH (RFC 7377, 2): UIDs of several mailboxes. No sources: the selected one.
    MultiSearch {
        sources: Vec<SearchSource>,
        search: Search,
    },
    /// CANCELUPDATE with tags (RFC 5267, 4.3.5).
    CancelUpdate(Vec<String>),
    /// Size of a batch, and the first and last batch that is asked for
    /// (draft-ietf-mailmaint-imap-uidbatches).
    UidBatches {
        size: u32,
        range: Option<(u32, u32)>,
    },
    /// A search in a charset that is not supported; `save` where its result was to be saved.
    SearchInCharset {
        /// It is about the selected mailbox.
        selected: bool,
        save: bool,
        /// It is SORT or THREAD.
        sorts: bool,
    },
    Fetch {
        set: SequenceSet,
        uid: bool,
        items: Vec<FetchItem>,
        modifiers: FetchModifiers,
    },
    Store(StoreFlags),
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
    /// Message numbers are in it, or would be in its answer (RFC 9586, 3.2, 3.5 and 3.7).
    pub fn has_numbers(&self) -> bool {
        match self {
            Self::Fetch { uid, .. } | Self::Copy { uid, .. } | Self::Move { uid, .. } => !uid,
            Self::Store(store) => !store.uid,
            Self::Search(search) | Self::Thread { search, .. } => {
                !search.uid || search.key.has_numbers()
            }
            Self::MultiSearch { search, .. } => search.key.has_numbers(),
            Self::Select { parameters, .. } => parameters.iter().any(|parameter| {
                matches!(parameter, SelectParameter::QResync(known) if known.matching.is_some())
            }),
            _ => false,
        }
    }

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
            Self::Compress(_) => "compress",
            Self::Unauthenticate => "unauthenticate",
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
            Self::SetQuota { .. } => "setquota",
            Self::GetMetadata(_) => "getmetadata",
            Self::SetMetadata { .. } => "setmetadata",
            Self::SetAcl { .. } | Self::DeleteAcl { .. } => "setacl",
            Self::GetAcl(_) | Self::ListRights { .. } | Self::MyRights(_) => "getacl",
            Self::GenUrlAuth(_) => "genurlauth",
            Self::ResetKey(_) => "resetkey",
            Self::UrlFetch(_) => "urlfetch",
            Self::Idle => "idle",
            Self::Notify(_) => "notify",
            Self::Check => "check",
            Self::Close | Self::Unselect => "close",
            Self::Expunge(_) => "expunge",
            Self::Search(Search { sort: Some(_), .. }) => "sort",
            Self::Search(_) | Self::SearchInCharset { .. } => "search",
            Self::Thread { .. } => "thread",
            Self::MultiSearch { .. } => "esearch",
            Self::CancelUpdate(_) => "cancelupdate",
            Self::UidBatches { .. } => "uidbatches",
            Self::Fetch { .. } => "fetch",
            Self::Store(_) => "store",
            Self::Copy { .. } => "copy",
            Self::Move { .. } => "move",
        }
    }
}

/// What SETACL does with the rights that it names (RFC 4314, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclChange {
    Replace,
    Add,
    Remove,
}

/// How far below an entry GETMETADATA looks (RFC 5464, 4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    #[default]
    Zero,
    One,
    Infinity,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetMetadata {
    pub mailbox: MailboxName,
    pub max_size: Option<u64>,
    pub depth: Depth,
    /// As they were written.
    pub entries: Vec<String>,
}

/// Parameters of SELECT (RFC 4466); the session refuses those it does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectParameter {
    CondStore,
    QResync(QResync),
    Other(String),
}

/// What a client that comes back knows (RFC 7162, 3.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QResync {
    pub uid_validity: u32,
    pub modseq: u64,
    /// None: all that were ever given.
    pub known: Option<UidSet>,
    /// Message numbers and the UIDs that they stood for, both rising.
    pub matching: Option<(UidSet, UidSet)>,
}

/// How much FETCH tells (RFC 4466, 2.4; RFC 7162, 3.1.4.1 and 3.2.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchModifiers {
    pub changed_since: Option<u64>,
    /// Only together with `changed_since`, and by UID.
    pub vanished: bool,
    /// Of the messages that would be told of, only these (RFC 9394, 3.3).
    pub partial: Option<PartialRange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFlags {
    pub set: SequenceSet,
    pub uid: bool,
    pub action: StoreAction,
    pub silent: bool,
    pub flags: Vec<Flag>,
    /// RFC 7162, 3.1.3.
    pub unchanged_since: Option<u64>,
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
    /// Entries (RFC 9590).
    pub return_metadata: Vec<String>,
    /// RFC 8440.
    pub return_rights: bool,
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
    /// RFC 8474, 4.3.
    MailboxId,
}

/// APPEND or REPLACE without what follows the mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub mailbox: MailboxName,
    /// REPLACE (RFC 8508): the message that goes.
    pub replaces: Option<Replaced>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub message: SeqNumber,
    pub uid: bool,
}

/// What an APPEND says up to its next data, or its end. Texts are streamed, see `fragment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendPiece {
    pub tag: String,
    /// In the first piece of a command only.
    pub begin: Option<Append>,
    pub steps: Vec<AppendStep>,
    /// What follows; None: the command is over.
    pub data: Option<AppendData>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendStep {
    /// A message begins, and the one before it is complete (RFC 3502).
    Message {
        flags: Vec<Flag>,
        /// Milliseconds since 1970 and minutes east of UTC.
        date: Option<(i64, i16)>,
        /// Made of parts (RFC 4469).
        catenated: bool,
    },
    /// A part of the message that is on the server already.
    Url(String),
}

/// A literal that is (a part of) a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendData {
    pub size: u64,
    /// literal8 (RFC 3516).
    pub binary: bool,
    /// `UTF8 (...)` (RFC 6855, 4).
    pub utf8: bool,
    /// The client waits until it is asked for it.
    pub sync: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    pub uid: bool,
    /// None: classic untagged SEARCH. Some: RETURN (...) of RFC 4731, empty means ALL.
    pub returns: Option<Vec<SearchReturn>>,
    /// What UPDATE tells of messages that come to the result when they arrive (RFC 5465, 7).
    pub update: Vec<FetchItem>,
    /// Given by CHARSET; checked by the parser to be US-ASCII or UTF-8.
    pub charset: Option<String>,
    pub key: SearchKey,
    /// SORT (RFC 5256, 3).
    pub sort: Option<Vec<SortCriterion>>,
}

impl Search {
    pub fn returns(&self, option: SearchReturn) -> bool {
        let returns = self.returns.as_deref().unwrap_or_default();
        returns.contains(&option)
    }

    pub fn saves(&self) -> bool {
        self.returns(SearchReturn::Save)
    }

    /// Scores are asked for.
    pub fn is_scored(&self) -> bool {
        let by_score = |c: &SortCriterion| c.key == SortKey::Relevancy;
        let sort = self.sort.as_deref().unwrap_or_default();
        self.returns(SearchReturn::Relevancy) || sort.iter().any(by_score)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchReturn {
    Min,
    Max,
    All,
    Count,
    Save,
    Partial(PartialRange),
    /// RFC 5267, 4.2 and 4.3.
    Context,
    Update,
    /// RFC 6203, 4.
    Relevancy,
}

/// Places in a result, the first is 1 (RFC 9394, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialRange {
    pub from: u32,
    pub to: u32,
    /// Counted from the last, which is 1.
    pub from_end: bool,
}

impl PartialRange {
    /// The part of a result with so many members.
    pub fn of(self, len: usize) -> std::ops::Range<usize> {
        let (low, high) = (self.from.min(self.to), self.from.max(self.to));
        let (low, high) = (low as usize - 1, (high as usize).min(len));
        let low = low.min(high);
        if self.from_end {
            len - high..len - low
        } else {
            low..high
        }
    }
}

impl std::fmt::Display for PartialRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.from_end { "-" } else { "" };
        write!(f, "{sign}{}:{sign}{}", self.from, self.to)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortCriterion {
    pub reverse: bool,
    pub key: SortKey,
}

/// RFC 5256, 3; RFC 5957, 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    Arrival,
    Cc,
    Date,
    DisplayFrom,
    DisplayTo,
    From,
    /// RFC 6203, 6: the highest first.
    Relevancy,
    Size,
    Subject,
    To,
}

/// Which mailboxes are searched (RFC 7377, 2.2; RFC 5465, 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchSource {
    Selected,
    Inboxes,
    Personal,
    Subscribed,
    Subtree(Vec<MailboxName>),
    SubtreeOne(Vec<MailboxName>),
    Mailboxes(Vec<MailboxName>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadAlgorithm {
    OrderedSubject,
    References,
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
    /// RFC 8514, 4.3.
    SavedBefore(i32),
    SavedOn(i32),
    SavedSince(i32),
    SaveDateSupported,
    /// RFC 8474, 6.
    EmailId(String),
    ThreadId(String),
    Larger(u64),
    Smaller(u64),
    Older(u32),
    Younger(u32),
    /// At least this mod-sequence (RFC 7162, 3.1.5); names of single flags do not matter.
    ModSeq(u64),
    From(String),
    To(String),
    Cc(String),
    Bcc(String),
    Subject(String),
    Header(String, String),
    Body(String),
    Text(String),
    /// RFC 6203, 3.
    Fuzzy(Box<SearchKey>),
}

impl SearchKey {
    /// Whether this key or one in it is such a one. Nesting is bounded by the parser.
    pub fn has(&self, such: &dyn Fn(&Self) -> bool) -> bool {
        such(self)
            || match self {
                Self::And(keys) => keys.iter().any(|key| key.has(such)),
                Self::Or(a, b) => a.has(such) || b.has(such),
                Self::Not(inner) | Self::Fuzzy(inner) => inner.has(such),
                _ => false,
            }
    }

    /// RFC 7162, 3.1.5: the answer tells the highest mod-sequence found.
    pub fn has_modseq(&self) -> bool {
        self.has(&|key| matches!(key, Self::ModSeq(_)))
    }

    /// Message numbers, which an EXPUNGE in between would move.
    pub fn has_numbers(&self) -> bool {
        self.has(&|key| matches!(key, Self::Set(set) if *set != SequenceSet::Saved))
    }
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
    /// RFC 8474, 5.3.
    EmailId,
    ThreadId,
    /// RFC 8514, 4.2.
    SaveDate,
    /// RFC 8970.
    Preview {
        lazy: bool,
    },
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
