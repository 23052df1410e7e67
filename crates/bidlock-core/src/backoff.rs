use std::time::Duration;

use crate::Rng;

/// Pauses that grow from `first` to `most`, each drawn from the upper half of its step, so that
/// many clients do not come back at one instant.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    most: Duration,
}

impl Backoff {
    /// Starts at `first` and doubles up to `most`.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, first, most }
    }

    /// For looks at a key whose holder will not tell when it is done: 50 ms to 1 s.
    #[must_use]
    pub const fn foreign() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// For a store that gave no answer: 20 ms to 1 s.
    #[must_use]
    pub const fn store() -> Self {
        Self::new(Duration::from_millis(20), Duration::from_secs(1))
    }

    /// The next pause.
    pub fn pause(&mut self, rng: &dyn Rng) -> Duration {
        let step = self.next.min(self.most);
        self.next = step.saturating_mul(2).min(self.most);
        let half = step / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(rng.next_u64() % nanos)
    }

    /// Starts over after a success.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(u64);

    impl Rng for Fixed {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn pauses_double_up_to_the_bound_and_start_over() {
        let mut backoff = Backoff::foreign();
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause(&Fixed(0)).as_millis()).collect();
        assert_eq!(pauses, [25, 50, 100, 200, 400, 500, 500, 500]);
        backoff.reset();
        assert_eq!(backoff.pause(&Fixed(0)).as_millis(), 25);
    }

    #[test]
    fn jitter_stays_within_the_step() {
        for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let pause = Backoff::foreign().pause(&Fixed(seed));
            assert!(pause >= Duration::from_millis(25) && pause <= Duration::from_millis(50));
        }
    }
}
