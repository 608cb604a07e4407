//! How many executions an account may have at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::ApiError;

/// Concurrent executions so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Executions {
    /// All that began.
    pub begun: usize,
    /// The most at once.
    pub peak: usize,
    /// Invocations that were refused because of the limit.
    pub throttled: usize,
}

/// The account's places; without a limit there is always one.
#[derive(Debug, Default)]
pub(super) struct Concurrency {
    limit: OnceLock<Arc<Semaphore>>,
    begun: AtomicUsize,
    running: Arc<AtomicUsize>,
    peak: AtomicUsize,
    throttled: AtomicUsize,
}

/// An execution's place; it is free again when this is dropped.
pub(super) struct Place {
    running: Arc<AtomicUsize>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Concurrency {
    pub fn set_limit(&self, executions: usize) {
        // The first limit holds.
        drop(self.limit.set(Arc::new(Semaphore::new(executions))));
    }

    /// A place for an execution that somebody waits for, or Lambda's refusal.
    pub fn take(&self) -> Result<Place, ApiError> {
        let Some(limit) = self.limit.get() else { return Ok(self.place(None)) };
        let permit = Arc::clone(limit).try_acquire_owned().map_err(|_| {
            self.throttled.fetch_add(1, Ordering::Relaxed);
            ApiError { status: 429, ..ApiError::client("TooManyRequestsException", "Rate Exceeded.") }
        })?;
        Ok(self.place(Some(permit)))
    }

    /// A place for an event that Lambda keeps until there is one.
    pub async fn wait(&self) -> Place {
        let permit = match self.limit.get() {
            // The semaphore is never closed.
            Some(limit) => Arc::clone(limit).acquire_owned().await.ok(),
            None => None,
        };
        self.place(permit)
    }

    pub fn executions(&self) -> Executions {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Executions { begun: read(&self.begun), peak: read(&self.peak), throttled: read(&self.throttled) }
    }

    fn place(&self, permit: Option<OwnedSemaphorePermit>) -> Place {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(running, Ordering::Relaxed);
        Place { running: Arc::clone(&self.running), _permit: permit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_an_answer_is_refused_and_events_are_kept() {
        let concurrency = Arc::new(Concurrency::default());
        concurrency.set_limit(1);
        let first = concurrency.take().unwrap();
        let refused = concurrency.take().map(drop).unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (429, "TooManyRequestsException"));
        let waiting = tokio::spawn({
            let concurrency = Arc::clone(&concurrency);
            async move { concurrency.wait().await }
        });
        drop(first);
        drop(waiting.await.unwrap());
        assert_eq!(concurrency.executions(), Executions { begun: 2, peak: 1, throttled: 1 });
    }
}
