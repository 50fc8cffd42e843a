//! Posthorn: a mail server that wakes phones.
//!
//! The library holds everything; the binary is a few lines in `main.rs`, so that tests and
//! fuzzers can reach each layer. Layers, top to bottom, each importing only downwards:
//!
//! `cli` → `app` → `smtp` `imap` `push` `http` `admin` → `store` `auth` `tls` →
//! `net` `config` `mail` `telemetry` → `types`. `docs/architecture.md` has the whole table, and
//! `tests/architecture.rs` keeps it true.

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod http;
pub mod imap;
pub mod mail;
pub mod net;
pub mod push;
pub mod smtp;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod transfer;
pub mod types;
