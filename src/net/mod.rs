//! Sockets: listeners with limits, streams that may become TLS, orderly stop.
//!
//! May import: telemetry, types. Knows no mail and no protocol.

mod deflate;
pub mod guard;
mod inflate;
mod listener;
pub mod lookup;
mod patient;
pub mod resolve;
mod stream;

#[cfg(test)]
mod tests;

pub use listener::{
    ConnectionLimits, LimitSource, ListenOptions, Listening, Peer, Places, TlsSource, listen,
};
pub use stream::{PeerEnd, Stream};
