//! Mail from and to other places: Maildir, mbox, other IMAP servers.
//!
//! May import: store, config, net, mail, telemetry, types.

pub mod lines;
pub mod maildir;
pub mod mbox;
