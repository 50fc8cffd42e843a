//! Joins the operations on devices with the running notifier, which do not know each other.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::admin::devices::{Asked, DeviceTester, NotTested, TestResult};
use crate::push::{Handle, Untested};
use crate::types::{AccountId, DeviceId};

impl DeviceTester for Handle {
    fn edits(&self) -> Arc<Mutex<()>> {
        Handle::edits(self)
    }

    fn changed(&self, account: AccountId, device: DeviceId) -> Asked<'_, ()> {
        Box::pin(Handle::changed(self, account, device))
    }

    fn test(
        &self,
        account: AccountId,
        device: DeviceId,
    ) -> Asked<'_, Result<TestResult, NotTested>> {
        Box::pin(async move {
            match Handle::test(self, account, device).await {
                Ok(answer) => Ok(TestResult {
                    outcome: answer.outcome.label().to_owned(),
                    status: answer.status,
                    answer: answer.class.to_owned(),
                }),
                Err(Untested::TooOften { retry_secs }) => Err(NotTested::TooOften { retry_secs }),
                Err(Untested::Later) => Err(NotTested::Later),
            }
        })
    }
}
