//! `[store]`.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// sled's cache. Resident memory can reach about twice this.
    pub cache_bytes: u64,
    pub segment_bytes: u64,
    /// One commit group.
    pub group_messages: usize,
    pub group_bytes: usize,
    /// Changes that may wait for the committer; more are told to come back.
    pub queue_len: usize,
    /// Bytes of those changes together, and as many again of messages that wait to be one.
    pub queue_bytes: usize,
    /// Checkpoint of the index after this much time, where something changed.
    pub checkpoint_millis: u64,
    /// Below this much free disk, mail is refused for a time.
    pub reserve_bytes: u64,
    /// The same in hundredths of the file system; the smaller of the two counts.
    pub reserve_percent: u64,
    /// Room that is taken, and given up where the disk is full. 0: none.
    pub ballast_bytes: u64,
    /// Mailboxes kept in memory beyond those that are selected.
    pub open_mailboxes: usize,
    pub max_mailboxes_per_account: usize,
    /// What comes beyond is refused.
    pub max_messages_per_mailbox: usize,
    /// Ranges of expunged UIDs that are remembered of each mailbox, for clients that come back.
    pub expunged_ranges: usize,
    /// Annotations (RFC 5464): the bytes of one value, how many a mailbox or an account has
    /// besides its mailboxes, and how many all together.
    pub max_annotation_bytes: usize,
    pub max_annotations_per_mailbox: usize,
    pub max_annotations_per_account: usize,
    /// Entries of an access control list (RFC 4314), and mailboxes of an account that have one.
    pub max_rights_per_mailbox: usize,
    pub max_shared_mailboxes_per_account: usize,
    /// For each account without limits of its own; 0: no limit. Sum of the sizes of its mail,
    /// and number of messages.
    pub quota_bytes: u64,
    pub quota_messages: u64,
    /// An account's owner gets a mail when it comes to so much of a limit.
    pub quota_warn_percent: u64,
    /// What is kept in memory of where the parts of large messages lie. 0: nothing.
    pub outline_bytes: usize,
    /// Groups that a feed can read from memory.
    pub feed_groups: usize,
    /// What changes while a state image is taken is kept in memory up to here.
    pub image_memory_bytes: usize,
    /// Mailboxes in which somebody looks for text get a full-text index.
    pub text_index: bool,
    /// Memory while one is made, beside one message.
    pub text_index_memory_bytes: usize,
    /// Of one mailbox, and of all: what comes beyond is read by each search.
    pub text_index_mailbox_bytes: u64,
    pub text_index_bytes: u64,
    /// When a state image is taken every night, and the log compacted after it: hour and minute,
    /// by the machine's clock.
    pub upkeep_at: jiff::civil::Time,
    /// Bodies move no faster than this.
    pub compact_bytes_per_second: u64,
    /// Every night all bodies are read and checked, no faster than this. 0: not at all.
    pub scrub_bytes_per_second: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 32 * 1024 * 1024,
            segment_bytes: 128 * 1024 * 1024,
            group_messages: 64,
            group_bytes: 4 * 1024 * 1024,
            queue_len: 4096,
            queue_bytes: 64 * 1024 * 1024,
            checkpoint_millis: 1000,
            reserve_bytes: 512 * 1024 * 1024,
            reserve_percent: 2,
            ballast_bytes: 32 * 1024 * 1024,
            open_mailboxes: 1024,
            max_mailboxes_per_account: 10_000,
            max_messages_per_mailbox: 1_000_000,
            expunged_ranges: 10_000,
            max_annotation_bytes: 8192,
            max_annotations_per_mailbox: 64,
            max_annotations_per_account: 1000,
            max_rights_per_mailbox: 100,
            max_shared_mailboxes_per_account: 500,
            quota_bytes: 0,
            quota_messages: 0,
            quota_warn_percent: 90,
            outline_bytes: 4 * 1024 * 1024,
            feed_groups: 4096,
            image_memory_bytes: 64 * 1024 * 1024,
            text_index: true,
            text_index_memory_bytes: 32 * 1024 * 1024,
            text_index_mailbox_bytes: 1024 * 1024 * 1024,
            text_index_bytes: 16 * 1024 * 1024 * 1024,
            upkeep_at: jiff::civil::time(3, 30, 0, 0),
            compact_bytes_per_second: 32 * 1024 * 1024,
            scrub_bytes_per_second: 8 * 1024 * 1024,
        }
    }
}
