//! How to open a store.
//!
//! May import: config, types.

use std::path::PathBuf;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    pub config: crate::config::StoreConfig,
    /// `alice+x@` delivers to `alice@` where this is `+`.
    pub subaddress_separator: char,
}
