//! Metrics and log lines of `store`.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::errors::{ErrorKind, Errors};
use super::seldom::Seldom;
use super::{MetricError, latency_buckets};
use crate::types::{AccountId, MailboxKey};

/// What a quota refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverQuota {
    /// A recipient, before the message or with it.
    Delivery,
    Append,
    Copy,
}

impl OverQuota {
    const ALL: [Self; 3] = [Self::Delivery, Self::Append, Self::Copy];

    fn label(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Append => "append",
            Self::Copy => "copy",
        }
    }
}

pub struct StoreMetrics {
    errors: Errors,
    group_operations: Histogram,
    group_bytes: Histogram,
    sync_seconds: Histogram,
    apply_seconds: Histogram,
    log_bytes: IntCounter,
    write_failures: IntCounter,
    check_failures: IntCounter,
    damaged_bodies: IntCounter,
    rebuilds: IntCounter,
    lost_groups: IntCounter,
    damage: [IntGauge; 2],
    quota_refusals: IntCounterVec,
    quota_warnings: IntCounter,
    quota_accounts: [IntGauge; 2],
    panics: IntCounter,
    writable: IntGauge,
    disk_free: IntGauge,
    takes_mail: IntGauge,
    replayed_frames: IntGauge,
    checkpoint_seconds: Histogram,
    images: IntCounter,
    bad_images: IntCounter,
    scrubbed_bytes: IntCounter,
    quarantined: IntGauge,
    compacted_segments: IntCounter,
    compacted_bytes: IntCounter,
    held: IntGauge,
    image_bytes: IntGauge,
    image_time: IntGauge,
    image_seconds: Histogram,
    text_index_bytes: IntGauge,
    text_index_behind: IntGauge,
    text_index_messages: IntCounter,
    text_index_seconds: Histogram,
    text_index_failures: IntCounter,
    text_searches: [IntCounter; 2],
    /// Lines about mailboxes, and about bodies.
    mailbox_lines: Seldom,
    body_lines: Seldom,
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: Vec<f64>,
) -> Result<Histogram, MetricError> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, MetricError> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

impl StoreMetrics {
    pub fn new(registry: &Registry, errors: &Errors) -> Result<Self, MetricError> {
        let replayed_frames = IntGauge::new(
            "posthorn_store_replayed_frames",
            "Commit groups that were replayed into the index at the last start.",
        )?;
        registry.register(Box::new(replayed_frames.clone()))?;
        let writable = IntGauge::new(
            "posthorn_store_writable",
            "1 while changes are taken, 0 while the disk or the index failed and is being mended.",
        )?;
        registry.register(Box::new(writable.clone()))?;
        let disk_free = IntGauge::new(
            "posthorn_store_disk_free_bytes",
            "Bytes free on the store's file system, those that are kept free included.",
        )?;
        registry.register(Box::new(disk_free.clone()))?;
        let takes_mail = IntGauge::new(
            "posthorn_store_takes_mail",
            "1 while mail is taken, 0 while the disk is nearly full or nothing can be changed.",
        )?;
        registry.register(Box::new(takes_mail.clone()))?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge, MetricError> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let damage = [
            gauge(
                "posthorn_store_missing_groups",
                "Acknowledged commit groups that the log has lost, as far as that is known.",
            )?,
            gauge(
                "posthorn_store_mended_mailboxes",
                "Mailboxes that did not add up and were put in order by the last rebuild.",
            )?,
        ];
        let held = gauge(
            "posthorn_store_backups_running",
            "Backups that are under way and keep files from being removed.",
        )?;
        let image_bytes = gauge(
            "posthorn_store_image_bytes",
            "Size of the newest state image that this process took.",
        )?;
        let image_time = gauge(
            "posthorn_store_image_timestamp_seconds",
            "When the newest state image was taken, in seconds since 1970.",
        )?;
        let quota_accounts = [
            gauge(
                "posthorn_store_accounts_near_quota",
                "Accounts that have come to the warning of a limit, those that are full included.",
            )?,
            gauge(
                "posthorn_store_accounts_over_quota",
                "Accounts that have reached a limit: nothing more fits.",
            )?,
        ];
        let quota_refusals = IntCounterVec::new(
            Opts::new(
                "posthorn_store_quota_refusals_total",
                "What was refused because an account has reached its quota.",
            ),
            &["what"],
        )?;
        for what in OverQuota::ALL {
            quota_refusals.with_label_values(&[what.label()]);
        }
        registry.register(Box::new(quota_refusals.clone()))?;
        let text_searches = IntCounterVec::new(
            Opts::new(
                "posthorn_store_text_searches_total",
                "Searches for text, by whether the full-text index spared them any message.",
            ),
            &["how"],
        )?;
        registry.register(Box::new(text_searches.clone()))?;
        let text_searches = ["all", "narrowed"].map(|how| text_searches.with_label_values(&[how]));
        let powers = |n| (0..n).map(|p| f64::from(1u32 << p)).collect::<Vec<_>>();
        Ok(Self {
            errors: errors.clone(),
            group_operations: histogram(
                registry,
                "posthorn_store_group_operations",
                "Changes in one commit group.",
                powers(9),
            )?,
            group_bytes: histogram(
                registry,
                "posthorn_store_group_bytes",
                "Bytes of one commit group in the log.",
                powers(14).into_iter().map(|n| n * 1024.0).collect(),
            )?,
            sync_seconds: histogram(
                registry,
                "posthorn_store_log_sync_seconds",
                "Writing and syncing one commit group to the log.",
                latency_buckets(),
            )?,
            apply_seconds: histogram(
                registry,
                "posthorn_store_index_apply_seconds",
                "Applying one commit group to the index and publishing it.",
                latency_buckets(),
            )?,
            log_bytes: counter(
                registry,
                "posthorn_store_log_bytes_total",
                "Bytes written to the log.",
            )?,
            write_failures: counter(
                registry,
                "posthorn_store_write_failures_total",
                "Commit groups that could not be written.",
            )?,
            check_failures: counter(
                registry,
                "posthorn_store_check_failures_total",
                "Checks of the index that failed: records that are missing or do not add up.",
            )?,
            damaged_bodies: counter(
                registry,
                "posthorn_store_damaged_bodies_total",
                "Reads of message bodies that were damaged or missing.",
            )?,
            rebuilds: counter(
                registry,
                "posthorn_store_rebuilds_total",
                "Rebuilds of the index from the log.",
            )?,
            lost_groups: counter(
                registry,
                "posthorn_store_lost_groups_total",
                "Acknowledged commit groups that could not be read back from the log.",
            )?,
            damage,
            quota_refusals,
            quota_warnings: counter(
                registry,
                "posthorn_store_quota_warnings_total",
                "Mails that warned an account's owner of a limit.",
            )?,
            quota_accounts,
            panics: counter(
                registry,
                "posthorn_store_panics_total",
                "Changes that panicked and were taken back.",
            )?,
            writable,
            disk_free,
            takes_mail,
            checkpoint_seconds: histogram(
                registry,
                "posthorn_store_checkpoint_seconds",
                "Checkpoints of the index.",
                latency_buckets(),
            )?,
            replayed_frames,
            images: counter(
                registry,
                "posthorn_store_images_total",
                "State images that were taken.",
            )?,
            compacted_segments: counter(
                registry,
                "posthorn_store_compacted_segments_total",
                "Segments of the log that were compacted and removed.",
            )?,
            compacted_bytes: counter(
                registry,
                "posthorn_store_compacted_bytes_total",
                "Bytes of the segments that compaction removed.",
            )?,
            scrubbed_bytes: counter(
                registry,
                "posthorn_store_scrubbed_bytes_total",
                "Stored bytes of bodies that were read and checked by themselves.",
            )?,
            bad_images: counter(
                registry,
                "posthorn_store_bad_images_total",
                "State images that a check found damaged.",
            )?,
            quarantined: gauge(
                "posthorn_store_quarantined_bodies",
                "Message bodies that are known to be damaged.",
            )?,
            held,
            image_bytes,
            image_time,
            image_seconds: histogram(
                registry,
                "posthorn_store_image_seconds",
                "Taking a state image, from the first record to the last sync.",
                [0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0].to_vec(),
            )?,
            text_index_bytes: gauge(
                "posthorn_store_text_index_bytes",
                "Size of the full-text index on disk.",
            )?,
            text_index_behind: gauge(
                "posthorn_store_text_index_behind",
                "Messages of indexed mailboxes that are not in the full-text index yet.",
            )?,
            text_index_messages: counter(
                registry,
                "posthorn_store_text_index_messages_total",
                "Messages that were put into the full-text index.",
            )?,
            text_index_seconds: histogram(
                registry,
                "posthorn_store_text_index_seconds",
                "Making a segment of the full-text index, pauses included.",
                [0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0].to_vec(),
            )?,
            text_index_failures: counter(
                registry,
                "posthorn_store_text_index_failures_total",
                "Times that the full-text index could not be read or written; what was damaged is made anew.",
            )?,
            text_searches,
            mailbox_lines: Seldom::default(),
            body_lines: Seldom::default(),
        })
    }

    pub fn committed(&self, operations: usize, bytes: usize, sync: Duration, apply: Duration) {
        self.group_operations.observe(operations as f64);
        self.group_bytes.observe(bytes as f64);
        self.log_bytes.inc_by(bytes as u64);
        self.sync_seconds.observe(sync.as_secs_f64());
        self.apply_seconds.observe(apply.as_secs_f64());
    }

    pub fn write_failed(&self) {
        self.errors.count(ErrorKind::Write);
        self.write_failures.inc();
    }

    pub fn check_failed(&self, mailbox: MailboxKey) {
        self.errors.count(ErrorKind::Index);
        self.check_failures.inc();
        if let Some(left_out) = self.mailbox_lines.line() {
            tracing::error!(account = %mailbox.account, mailbox = %mailbox.mailbox, left_out, "a mailbox's index does not add up");
        }
    }

    /// The index gave something that can't be right.
    pub fn index_doubted(&self, reason: &str) {
        self.check_failures.inc();
        tracing::error!(reason, "the index can't be trusted any more");
    }

    pub fn lost_groups(&self, groups: u64) {
        self.lost_groups.inc_by(groups);
    }

    /// What is known of damage now.
    pub fn damage(&self, lost_groups: u64, mended_mailboxes: u64) {
        for (gauge, value) in self.damage.iter().zip([lost_groups, mended_mailboxes]) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// An index that is being built anew has put a mailbox in order.
    pub fn mended(&self, mailbox: MailboxKey) {
        if let Some(left_out) = self.mailbox_lines.line() {
            tracing::error!(account = %mailbox.account, mailbox = %mailbox.mailbox, left_out, "a mailbox did not add up after a rebuild: it shows what there is of it");
        }
    }

    pub fn over_quota(&self, what: OverQuota) {
        self.quota_refusals.with_label_values(&[what.label()]).inc();
    }

    /// Its owner got a mail.
    pub fn quota_warned(&self, account: AccountId, percent: u64) {
        self.quota_warnings.inc();
        tracing::warn!(%account, percent, "an account has come near its quota; its owner got a mail");
    }

    /// How many accounts are near a limit, and at one; found out when metrics are read.
    pub fn set_quotas(&self, near: u64, full: u64) {
        for (gauge, value) in self.quota_accounts.iter().zip([near, full]) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    pub fn panicked(&self) {
        self.panics.inc();
        tracing::error!("a change panicked; it is a bug, and worth a report");
    }

    pub fn writable(&self, writable: bool) {
        self.writable.set(i64::from(writable));
        if !writable {
            tracing::error!("the store takes no changes until it is mended");
        }
    }

    /// How much is free, and whether mail is taken; found out when metrics are read.
    pub fn set_room(&self, free_bytes: u64, takes_mail: bool) {
        self.disk_free
            .set(i64::try_from(free_bytes).unwrap_or(i64::MAX));
        self.takes_mail.set(i64::from(takes_mail));
    }

    pub fn damaged_body(&self, blob: crate::types::BlobId, reason: &str) {
        self.errors.count(ErrorKind::Body);
        self.damaged_bodies.inc();
        if let Some(left_out) = self.body_lines.line() {
            tracing::error!(%blob, reason, left_out, "a message body is damaged or missing");
        }
    }

    pub fn rebuilt(&self, reason: &str) {
        self.errors.count(ErrorKind::Index);
        self.rebuilds.inc();
        tracing::warn!(reason, "the index is rebuilt from the log");
    }

    pub fn replayed(&self, frames: u64) {
        self.replayed_frames
            .set(i64::try_from(frames).unwrap_or(i64::MAX));
    }

    /// A pass over all bodies has ended.
    pub fn scrubbed(&self, bytes: u64) {
        self.scrubbed_bytes.inc_by(bytes);
    }

    pub fn bad_image(&self) {
        self.bad_images.inc();
    }

    /// Bodies that are known to be damaged now.
    pub fn quarantined(&self, bodies: u64) {
        self.quarantined
            .set(i64::try_from(bodies).unwrap_or(i64::MAX));
    }

    /// So many hold the files of the log now.
    pub fn held(&self, times: u32) {
        self.held.set(i64::from(times));
        if times == 0 {
            tracing::info!("files are not held for a backup any more");
        }
    }

    /// A segment went.
    pub fn compacted(&self, bytes: u64) {
        self.compacted_segments.inc();
        self.compacted_bytes.inc_by(bytes);
    }

    pub fn image_taken(&self, bytes: u64, made: crate::types::UnixMillis, took: Duration) {
        self.images.inc();
        self.image_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.image_at(made);
        self.image_seconds.observe(took.as_secs_f64());
    }

    /// When the newest image was taken, by this process or one before it.
    pub fn image_at(&self, made: crate::types::UnixMillis) {
        let seconds = i64::try_from(made.0 / 1000).unwrap_or(i64::MAX);
        self.image_time.set(seconds);
    }

    /// What there is of the full-text index, and how many messages are not in it yet.
    pub fn text_index(&self, bytes: u64, behind: u64) {
        let set = |gauge: &IntGauge, n| gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        set(&self.text_index_bytes, bytes);
        set(&self.text_index_behind, behind);
    }

    pub fn text_indexed(&self, messages: u64, took: Duration) {
        self.text_index_messages.inc_by(messages);
        self.text_index_seconds.observe(took.as_secs_f64());
    }

    #[cfg(test)]
    pub fn text_indexed_so_far(&self) -> u64 {
        self.text_index_messages.get()
    }

    pub fn text_index_failed(&self, reason: &str) {
        self.text_index_failures.inc();
        tracing::warn!(
            reason,
            "the full-text index is not used here for now: mail is read instead"
        );
    }

    /// A search for text; with `narrowed` it had not to read all messages.
    pub fn text_searched(&self, narrowed: bool) {
        if let Some(counter) = self.text_searches.get(usize::from(narrowed)) {
            counter.inc();
        }
    }

    pub fn checkpointed(&self, took: Duration) {
        self.checkpoint_seconds.observe(took.as_secs_f64());
    }
}
