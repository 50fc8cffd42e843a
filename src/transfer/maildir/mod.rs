//! Maildir as Dovecot and Courier have it: its names and the files beside the messages.

pub mod folders;
pub mod lists;
pub mod name;
