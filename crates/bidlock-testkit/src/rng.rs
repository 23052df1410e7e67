use std::sync::atomic::{AtomicU64, Ordering};

use bidlock_core::Rng;

/// Randomness that is the same in every run of one seed; fit for tests and nothing else.
#[derive(Debug)]
pub struct SeededRng {
    state: AtomicU64,
}

impl SeededRng {
    /// Starts the sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// Draws a number below `bound`, or zero when `bound` is zero.
    pub fn below(&self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// Is true `percent` times in a hundred.
    pub fn chance(&self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }
}

impl Rng for SeededRng {
    /// Steps the sequence. Source: Steele14 (`SplitMix64`).
    fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_and_another_seed_another() {
        let draw = |seed| {
            let rng = SeededRng::new(seed);
            [rng.next_u64(), rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let [first, second, third] = draw(7);
        assert!(first != second && second != third);
    }

    #[test]
    fn chances_are_kept_roughly_and_at_the_ends_exactly() {
        let rng = SeededRng::new(1);
        let hits = (0..1_000).filter(|_| rng.chance(30)).count();
        assert!((200..400).contains(&hits), "{hits}");
        assert!(!(0..1_000).any(|_| rng.chance(0)));
        assert!((0..1_000).all(|_| rng.chance(100)));
        assert_eq!(rng.below(0), 0);
    }
}
