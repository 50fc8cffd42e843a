//! Joins the operations on devices with the running notifier, which do not know each other.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::admin::devices::{Asked, DeviceTester, TestResult};
use crate::push::Handle;
use crate::types::{AccountId, DeviceId};

impl DeviceTester for Handle {
    fn edits(&self) -> Arc<Mutex<()>> {
        Handle::edits(self)
    }

    fn changed(&self, account: AccountId, device: DeviceId) -> Asked<'_, ()> {
        Box::pin(Handle::changed(self, account, device))
    }

    fn test(&self, account: AccountId, device: DeviceId) -> Asked<'_, Option<TestResult>> {
        Box::pin(async move {
            let answer = Handle::test(self, account, device).await?;
            Some(TestResult {
                outcome: answer.outcome.label().to_owned(),
                status: answer.status,
                answer: answer.class.to_owned(),
            })
        })
    }
}
