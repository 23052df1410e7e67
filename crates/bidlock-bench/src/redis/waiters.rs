//! Many waiters for one key, each of which holds it for a millisecond.

use std::time::Duration;

use anyhow::Result;
use bidlock::Platform;

use super::cycles::{Lock, micros};

pub(crate) const WAITERS: u32 = 50;
pub(crate) const HOLD: Duration = Duration::from_millis(1);

/// Serves all. Returns the time that it took by the time that the key was held, and what each
/// hand-over cost, in microseconds. Timers overshoot: what counts is how long it was really held.
pub(crate) async fn serve<L: Lock>(lock: &L, platform: &Platform, round: u64) -> Result<Vec<f64>> {
    let start = platform.clock.now();
    let mut running = Vec::new();
    for _ in 0..WAITERS {
        let (mut lock, clock) = (lock.clone(), platform.clock.clone());
        running.push(tokio::spawn(async move {
            let lease = lock.acquire(&format!("waited_{round}")).await?;
            let start = clock.now();
            clock.sleep_until(start + HOLD).await;
            let held = clock.now().since(start);
            lock.release(lease).await?;
            Ok::<_, anyhow::Error>(held)
        }));
    }
    let mut held = Duration::ZERO;
    for task in running {
        held += task.await??;
    }
    Ok(figures(platform.clock.now().since(start), held))
}

pub(crate) fn figures(total: Duration, held: Duration) -> Vec<f64> {
    let each = micros(total.saturating_sub(held)) / f64::from(WAITERS);
    vec![total.as_secs_f64() / held.as_secs_f64(), each, micros(held) / f64::from(WAITERS)]
}
