//! Operations of the administrator and of device owners, used by the command line's socket and
//! by the API.
//!
//! May import: store, auth, config, net, telemetry, types. `operations` does the work wherever
//! the store is open: in the server, behind `socket`, or in the command line itself where no
//! server runs. `protocol` is what travels on the socket.

mod accounts;
mod check;
pub mod devices;
pub mod operations;
pub mod protocol;
mod registering;
pub mod socket;
pub mod subscription;

pub use operations::{Operations, Tell};
pub use protocol::{Failure, FailureKind, Password, Reply, Request};
