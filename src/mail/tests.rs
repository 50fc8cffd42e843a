//! Tests of the whole area: bytes in, bytes out.

mod grammar;
mod hostile;
mod messages;
mod mutilated;
mod oracle;
mod search;
mod words;
