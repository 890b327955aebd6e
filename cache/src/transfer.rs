//! Limits of speed, and measured speed.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::breaker::NO_ANSWER;

/// A request that got no answer in time.
#[derive(Debug, thiserror::Error)]
#[error("{NO_ANSWER}")]
pub(crate) struct Stalled;

/// A limit of bytes per second: bytes are taken first and waited for after.
pub(crate) struct Limiter {
    rate: Option<f64>,
    free_at: Mutex<Instant>,
}

impl Limiter {
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.map(|rate| rate as f64), free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until this number of bytes may travel.
    pub(crate) async fn take(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let wait = {
            let mut free_at = self.free_at.lock().expect("no holder of this lock panics");
            let begin = (*free_at).max(Instant::now());
            *free_at = begin + Duration::from_secs_f64(bytes as f64 / rate);
            begin.saturating_duration_since(Instant::now())
        };
        tokio::time::sleep(wait).await;
    }
}

/// Speed of uploads, from those that ended.
pub(crate) struct Speed(Mutex<f64>);

impl Default for Speed {
    /// Begins with 10 MB/s.
    fn default() -> Self {
        Self(Mutex::new(1e7))
    }
}

impl Speed {
    /// Seconds that this number of bytes takes.
    pub(crate) fn secs(&self, bytes: u64) -> f64 {
        bytes as f64 / *self.0.lock().expect("no holder of this lock panics")
    }

    /// Notes an upload. Small ones say more about requests than about bytes.
    pub(crate) fn measured(&self, bytes: u64, secs: f64) {
        if bytes > 1 << 20 && secs > 0.0 {
            let mut speed = self.0.lock().expect("no holder of this lock panics");
            *speed = (*speed).mul_add(0.7, 0.3 * bytes as f64 / secs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_spreads_bytes_over_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.unwrap();
        let limiter = Limiter::new(Some(1000));
        let begun = Instant::now();
        runtime.block_on(limiter.take(50));
        runtime.block_on(limiter.take(1));
        assert!(*limiter.free_at.lock().unwrap() >= begun + Duration::from_millis(50));
        let speed = Speed::default();
        speed.measured(10 << 20, 10.0);
        assert!(speed.secs(1 << 20) > 0.1, "slower than at first");
    }
}
