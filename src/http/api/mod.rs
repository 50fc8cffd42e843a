//! The API, version 1. Each resource is a file.

mod devices;

use axum::Router;

use super::Context;

pub(super) use devices::TEST_ROUTE;

pub(super) fn routes() -> Router<Context> {
    devices::routes()
}
