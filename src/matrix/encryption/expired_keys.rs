//! Room keys that become too old between being shared and being used.
//!
//! The SDK asks the wall clock again when it encrypts, and panics (`assert!`) if the key has run out meanwhile: a clock that
//! was set, by a second back or by days, or a key whose week ends just then. Nothing has been sent by then, and the next
//! attempt makes another key.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind, set_hook, take_hook},
    sync::Once,
};

use futures_util::FutureExt as _;

use crate::{
    matrix::api::errors,
    model::{Reason, SendError},
};

/// What `GroupSessionManager::encrypt` of matrix-sdk-crypto panics with.
const EXPIRED: &str = "Session expired";

static HOOK: Once = Once::new();

/// A send to an encrypted room that fails where the SDK would panic about its key.
pub(crate) async fn as_error<T>(send: impl Future<Output = Result<T, SendError>>) -> Result<T, SendError> {
    HOOK.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |info| {
            if !is_expired(info.payload()) {
                report(info);
            }
        }));
    });
    // The SDK holds no lock at that point, and has changed nothing.
    match AssertUnwindSafe(send).catch_unwind().await {
        Ok(result) => result,
        Err(panic) if is_expired(&*panic) => {
            let text =
                "the room's key has run out since it was shared: was the clock set? the next attempt makes another";
            Err(errors::send_error(Reason::KeysNotReady, text))
        }
        Err(panic) => resume_unwind(panic),
    }
}

fn is_expired(panic: &(dyn Any + Send)) -> bool {
    panic.downcast_ref::<&str>().is_some_and(|text| *text == EXPIRED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_that_has_run_out_is_an_error_and_other_panics_stay_panics() {
        let panics = |expired: bool| async move {
            assert!(!expired, "Session expired");
            assert!(expired, "on purpose");
            Ok(())
        };
        let error = as_error(panics(true)).await.expect_err("an error");
        assert_eq!((error.reason, error.reason.in_doubt()), (Reason::KeysNotReady, false), "{error}");
        let other = AssertUnwindSafe(as_error(panics(false))).catch_unwind().await.expect_err("a panic");
        assert_eq!(other.downcast_ref::<&str>(), Some(&"on purpose"));
        as_error(async { Ok(()) }).await.expect("nothing");
    }
}
