//! The one place where a test waits: for facts that stay true once they are.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Longer than anything takes on a machine that is busy with other tests; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until there is something, and gives it back. `fact` says what is waited for.
pub async fn until<T>(fact: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "still not true after {PATIENCE:?}: {fact}");
        sleep(PAUSE).await;
    }
}

/// Waits for a span that the scenario itself demands.
pub async fn passed(span: Duration) {
    let began = Instant::now();
    until("time passes", async || (began.elapsed() >= span).then_some(())).await;
}
