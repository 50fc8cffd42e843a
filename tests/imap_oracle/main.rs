//! Commands are read as imap-codec reads them.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod commands;
#[path = "../oracle/mod.rs"]
mod oracle;
mod words;

use proptest::prelude::*;

use commands::{known, mutated};
use oracle::{Outcome, compare};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_both_know_is_read_alike(command in known(), utf8: bool) {
        let outcome = compare(command.as_bytes(), utf8);
        prop_assert!(outcome == Ok(Outcome::Same), "{outcome:?}: {command:?}");
    }

    #[test]
    fn neither_takes_what_the_other_refuses(command in mutated(), utf8: bool) {
        let outcome = compare(&command, utf8);
        prop_assert!(outcome.is_ok(), "{outcome:?}: {:?}", String::from_utf8_lossy(&command));
    }
}
