//! What every number in the file may be: a value outside would switch a service off, or break
//! it where it is first used.
//!
//! Machine: no IO, no clock, no randomness.

use super::Config;

/// A key with its value and the least and most that it may be.
pub(super) struct Bound {
    pub path: &'static str,
    pub value: u64,
    pub least: u64,
    pub most: u64,
}

const DAY: u64 = 86_400;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// All numbers of the configuration.
pub(super) fn all(config: &Config) -> Vec<Bound> {
    let mut all = Vec::new();
    let mut bound = |path, value, least, most| {
        all.push(Bound {
            path,
            value,
            least,
            most,
        });
    };
    let c = &config.auth;
    bound(
        "auth.argon2_iterations",
        u64::from(c.argon2_iterations),
        1,
        64,
    );
    bound(
        "auth.scram_iterations",
        u64::from(c.scram_iterations),
        0,
        1_000_000,
    );
    bound("auth.hash_threads", c.hash_threads as u64, 0, 64);
    bound("auth.hash_queue", c.hash_queue as u64, 1, 1_000_000);
    bound("auth.cache_secs", c.cache_secs, 0, 30 * DAY);
    bound("auth.cache_entries", c.cache_entries as u64, 0, 10_000_000);
    bound("auth.max_failures", u64::from(c.max_failures), 1, 1_000_000);
    bound(
        "auth.max_failures_per_ip",
        u64::from(c.max_failures_per_ip),
        1,
        1_000_000,
    );
    bound(
        "auth.failure_window_secs",
        c.failure_window_secs,
        1,
        30 * DAY,
    );
    bound("auth.max_tracked", c.max_tracked as u64, 1, 100_000_000);
    let c = &config.smtp;
    bound(
        "smtp.max_connections",
        c.max_connections as u64,
        1,
        1_000_000,
    );
    bound(
        "smtp.max_connections_per_ip",
        c.max_connections_per_ip as u64,
        1,
        1_000_000,
    );
    bound("smtp.max_message_bytes", c.max_message_bytes, KIB, 4 * GIB);
    bound("smtp.max_recipients", c.max_recipients as u64, 1, 100_000);
    bound("smtp.max_hops", c.max_hops as u64, 1, 10_000);
    bound("smtp.max_line_bytes", c.max_line_bytes as u64, 512, MIB);
    bound(
        "smtp.max_data_line_bytes",
        c.max_data_line_bytes as u64,
        998,
        4 * GIB,
    );
    bound("smtp.max_errors", u64::from(c.max_errors), 1, 1_000_000);
    bound(
        "smtp.max_junk_commands",
        u64::from(c.max_junk_commands),
        1,
        1_000_000,
    );
    bound(
        "smtp.max_transactions",
        u64::from(c.max_transactions),
        1,
        4_294_967_295,
    );
    bound("smtp.command_timeout_secs", c.command_timeout_secs, 1, DAY);
    bound("smtp.data_timeout_secs", c.data_timeout_secs, 1, DAY);
    bound(
        "smtp.session_timeout_secs",
        c.session_timeout_secs,
        1,
        30 * DAY,
    );
    bound("smtp.spool_bytes", c.spool_bytes as u64, 0, 256 * MIB);
    let c = &config.imap;
    bound(
        "imap.max_connections",
        c.max_connections as u64,
        1,
        1_000_000,
    );
    bound(
        "imap.max_connections_per_ip",
        c.max_connections_per_ip as u64,
        1,
        1_000_000,
    );
    bound(
        "imap.max_line_bytes",
        c.max_line_bytes as u64,
        512,
        64 * MIB,
    );
    bound(
        "imap.max_literal_before_login",
        c.max_literal_before_login as u64,
        64,
        MIB,
    );
    bound(
        "imap.max_literal_bytes",
        c.max_literal_bytes as u64,
        64,
        64 * MIB,
    );
    bound("imap.max_append_bytes", c.max_append_bytes, KIB, 4 * GIB);
    bound(
        "imap.max_append_messages",
        c.max_append_messages as u64,
        1,
        10_000,
    );
    bound(
        "imap.max_multiappend_bytes",
        c.max_multiappend_bytes,
        KIB,
        4 * GIB,
    );
    bound("imap.spool_bytes", c.spool_bytes as u64, 0, 256 * MIB);
    bound(
        "imap.key_cache_bytes",
        c.key_cache_bytes as u64,
        0,
        64 * GIB,
    );
    bound("imap.max_contexts", c.max_contexts as u64, 1, 1000);
    bound(
        "imap.max_searched_mailboxes",
        c.max_searched_mailboxes as u64,
        1,
        1_000_000,
    );
    bound("imap.max_depth", c.max_depth as u64, 1, 1000);
    bound(
        "imap.max_bad_commands",
        u64::from(c.max_bad_commands),
        1,
        1_000_000,
    );
    bound("imap.idle_timeout_secs", c.idle_timeout_secs, 60, 30 * DAY);
    bound("imap.login_timeout_secs", c.login_timeout_secs, 1, DAY);
    bound("imap.write_timeout_secs", c.write_timeout_secs, 1, DAY);
    bound("imap.compress_level", u64::from(c.compress_level), 0, 9);
    bound("imap.progress_secs", c.progress_secs, 0, DAY);
    bound("imap.heartbeat_secs", c.heartbeat_secs, 0, DAY);
    bound(
        "imap.notify_mailboxes",
        c.notify_mailboxes as u64,
        1,
        1_000_000,
    );
    bound("imap.notify_events", c.notify_events as u64, 1, 1_000_000);
    // RFC 9738, 3: not less than a thousand, where there is one.
    let least = if c.message_limit == 0 { 0 } else { 1000 };
    let (limit, most) = (u64::from(c.message_limit), u64::from(u32::MAX));
    bound("imap.message_limit", limit, least, most);
    let c = &config.http;
    bound(
        "http.max_connections",
        c.max_connections as u64,
        1,
        1_000_000,
    );
    bound(
        "http.max_connections_per_ip",
        c.max_connections_per_ip as u64,
        1,
        1_000_000,
    );
    bound(
        "http.max_body_bytes",
        c.max_body_bytes as u64,
        KIB,
        64 * MIB,
    );
    bound("http.idle_timeout_secs", c.idle_timeout_secs, 1, DAY);
    bound("http.write_timeout_secs", c.write_timeout_secs, 1, DAY);
    bound("http.request_timeout_secs", c.request_timeout_secs, 1, DAY);
    let c = &config.push;
    bound("push.coalesce_secs", c.coalesce_secs, 0, DAY);
    bound("push.max_per_hour", u64::from(c.max_per_hour), 1, 1_000_000);
    bound("push.ttl_secs", c.ttl_secs, 60, 28 * DAY);
    bound(
        "push.max_devices_per_account",
        c.max_devices_per_account as u64,
        1,
        10_000,
    );
    bound(
        "push.max_registrations_per_hour",
        u64::from(c.max_registrations_per_hour),
        1,
        1_000_000,
    );
    bound(
        "push.verify_timeout_secs",
        c.verify_timeout_secs,
        10,
        30 * DAY,
    );
    bound("push.connect_timeout_secs", c.connect_timeout_secs, 1, 3600);
    bound("push.request_timeout_secs", c.request_timeout_secs, 1, 3600);
    bound("push.max_lookups", c.max_lookups as u64, 1, 1000);
    bound(
        "push.max_lookups_per_account",
        c.max_lookups_per_account as u64,
        1,
        1000,
    );
    bound(
        "push.max_in_flight_per_origin",
        c.max_in_flight_per_origin as u64,
        1,
        10_000,
    );
    bound(
        "push.max_in_flight_per_account",
        c.max_in_flight_per_account as u64,
        1,
        10_000,
    );
    bound("push.max_in_flight", c.max_in_flight as u64, 2, 100_000);
    bound(
        "push.max_rejections",
        u64::from(c.max_rejections),
        1,
        1_000_000,
    );
    let c = &config.store;
    bound("store.cache_bytes", c.cache_bytes, MIB, 1024 * GIB);
    bound("store.segment_bytes", c.segment_bytes, 64 * KIB, 64 * GIB);
    bound("store.group_messages", c.group_messages as u64, 1, 4 * KIB);
    bound(
        "store.group_bytes",
        c.group_bytes as u64,
        4 * KIB,
        128 * MIB,
    );
    bound("store.queue_bytes", c.queue_bytes as u64, MIB, GIB);
    bound("store.queue_len", c.queue_len as u64, 1, 1_000_000);
    bound(
        "store.checkpoint_millis",
        c.checkpoint_millis,
        10,
        3_600_000,
    );
    bound("store.reserve_bytes", c.reserve_bytes, 0, 1048576 * GIB);
    bound("store.reserve_percent", c.reserve_percent, 0, 100);
    bound("store.ballast_bytes", c.ballast_bytes, 0, GIB);
    bound(
        "store.open_mailboxes",
        c.open_mailboxes as u64,
        1,
        10_000_000,
    );
    bound(
        "store.max_mailboxes_per_account",
        c.max_mailboxes_per_account as u64,
        10,
        1_000_000,
    );
    bound(
        "store.max_messages_per_mailbox",
        c.max_messages_per_mailbox as u64,
        100,
        100_000_000,
    );
    bound(
        "store.expunged_ranges",
        c.expunged_ranges as u64,
        0,
        1_000_000,
    );
    // RFC 5464, 4.1: at least 1024 bytes, and 10 of them.
    bound(
        "store.max_annotation_bytes",
        c.max_annotation_bytes as u64,
        KIB,
        64 * KIB,
    );
    bound(
        "store.max_annotations_per_mailbox",
        c.max_annotations_per_mailbox as u64,
        10,
        1000,
    );
    bound(
        "store.max_annotations_per_account",
        c.max_annotations_per_account as u64,
        10,
        10_000,
    );
    bound(
        "store.max_rights_per_mailbox",
        c.max_rights_per_mailbox as u64,
        1,
        10_000,
    );
    bound(
        "store.max_shared_mailboxes_per_account",
        c.max_shared_mailboxes_per_account as u64,
        0,
        100_000,
    );
    bound("store.quota_bytes", c.quota_bytes, 0, 1048576 * GIB);
    bound("store.quota_messages", c.quota_messages, 0, 1_000_000_000);
    bound("store.quota_warn_percent", c.quota_warn_percent, 20, 100);
    bound("store.outline_bytes", c.outline_bytes as u64, 0, GIB);
    bound("store.feed_groups", c.feed_groups as u64, 1, 1_000_000);
    bound(
        "store.image_memory_bytes",
        c.image_memory_bytes as u64,
        MIB,
        64 * GIB,
    );
    bound(
        "store.text_index_memory_bytes",
        c.text_index_memory_bytes as u64,
        MIB,
        16 * GIB,
    );
    bound(
        "store.text_index_mailbox_bytes",
        c.text_index_mailbox_bytes,
        64 * KIB,
        1048576 * GIB,
    );
    bound(
        "store.text_index_bytes",
        c.text_index_bytes,
        64 * KIB,
        1048576 * GIB,
    );
    bound(
        "store.compact_bytes_per_second",
        c.compact_bytes_per_second,
        64 * KIB,
        1024 * GIB,
    );
    bound(
        "store.scrub_bytes_per_second",
        c.scrub_bytes_per_second,
        0,
        1024 * GIB,
    );
    let c = &config.limits;
    bound("limits.shutdown_grace_secs", c.shutdown_grace_secs, 0, 3600);
    bound("limits.keepalive_secs", c.keepalive_secs, 0, DAY);
    bound("limits.unsent_bytes", c.unsent_bytes.into(), 0, GIB);
    bound(
        "limits.tls_handshake_timeout_secs",
        c.tls_handshake_timeout_secs,
        1,
        3600,
    );
    bound(
        "limits.admin_connections",
        c.admin_connections as u64,
        1,
        10_000,
    );
    bound("limits.admin_timeout_secs", c.admin_timeout_secs, 1, 3600);
    bound(
        "limits.transfer_timeout_secs",
        c.transfer_timeout_secs,
        1,
        DAY,
    );
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const HEAD: &str = "hostname = \"mail.example.com\"\ndata_dir = \"/x\"\n";

    fn errors(path: &str, value: u64) -> Vec<String> {
        let (section, key) = path.split_once('.').unwrap();
        match Config::parse(&format!("{HEAD}[{section}]\n{key} = {value}\n")) {
            Ok(_) => vec![],
            Err(problems) => problems
                .into_iter()
                .map(|p| format!("{} {}:{}", p.key.unwrap_or_default(), p.line, p.column))
                .collect(),
        }
    }

    #[test]
    fn every_number_is_taken_at_its_bounds_and_refused_one_past_them() {
        for bound in all(&Config::new("mail.example.com", "/x")) {
            let path = bound.path;
            let at = format!("{path} 4:{}", path.split_once('.').unwrap().1.len() + 4);
            for good in [bound.least, bound.most] {
                assert_eq!(errors(path, good), Vec::<String>::new(), "{path} = {good}");
            }
            assert_eq!(errors(path, bound.most + 1), [&*at], "{path}");
            if let Some(less) = bound.least.checked_sub(1) {
                assert_eq!(errors(path, less), [&*at], "{path} = {less}");
            }
        }
    }

    #[test]
    fn no_number_is_without_bounds() {
        let example = include_str!("../../config/posthorn.toml");
        let example: toml::Table = example.parse().unwrap();
        let bounds = all(&Config::new("mail.example.com", "/x"));
        let mut seen = 0;
        for (section, keys) in example.iter().filter_map(|(s, v)| Some((s, v.as_table()?))) {
            for (key, _) in keys.iter().filter(|(_, value)| value.is_integer()) {
                let path = format!("{section}.{key}");
                // argon2 itself says what these two may be.
                let others = ["auth.argon2_memory_kib", "auth.argon2_parallelism"];
                let known = bounds.iter().any(|bound| bound.path == path);
                assert!(known || others.contains(&&*path), "{path}");
                seen += 1;
            }
        }
        assert_eq!(seen, bounds.len() + 2);
    }
}
