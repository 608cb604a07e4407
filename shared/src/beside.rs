//! Two pieces of work at once: calls that do not need each other's answers share one round trip.

use std::pin::pin;

use futures_util::future::{Either, select};

/// Runs both at once. The second is given up, and `None`, where the first comes first and ends in a way that is `enough`.
pub async fn beside<A, B>(
    first: impl Future<Output = A>,
    enough: impl FnOnce(&A) -> bool,
    second: impl Future<Output = B>,
) -> (A, Option<B>) {
    match select(pin!(first), pin!(second)).await {
        Either::Left((first, _)) if enough(&first) => (first, None),
        Either::Left((first, second)) => (first, Some(second.await)),
        Either::Right((second, first)) => (first.await, Some(second)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    async fn after<T>(seconds: u64, value: T) -> T {
        sleep(Duration::from_secs(seconds)).await;
        value
    }

    #[tokio::test(start_paused = true)]
    async fn both_run_at_once_and_the_second_only_as_long_as_it_is_needed() {
        for (first, second, enough, expect, seconds) in [
            (1, 3, true, (1, None), 1),
            (1, 3, false, (1, Some(3)), 3),
            // What is there already is not thrown away.
            (3, 1, true, (3, Some(1)), 3),
            (3, 1, false, (3, Some(1)), 3),
        ] {
            let began = Instant::now();
            let both = beside(after(first, first), |_| enough, after(second, second)).await;
            assert_eq!((both, began.elapsed()), (expect, Duration::from_secs(seconds)));
        }
    }
}
