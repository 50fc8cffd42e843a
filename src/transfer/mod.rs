//! Mail from and to other places: Maildir, mbox, other IMAP servers.
//!
//! May import: store, config, net, mail, telemetry, types. The command reads and writes files,
//! and speaks to the other server (`source`, `target`, `imap`); whoever has the store open
//! (`serve`) takes and gives messages as `frames`. `lines`, `maildir` and `mbox` know the formats.

pub mod client;
pub mod frames;
pub mod imap;
pub mod lines;
pub mod maildir;
pub mod mbox;
pub mod report;
pub mod serve;
pub mod source;
pub mod target;
