//! Randomness that one seed decides.

use std::sync::{Mutex, PoisonError};

use bidlock_core::Rng;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Rand {
    state: u64,
}

impl Rand {
    /// The stream of a seed and a purpose: what one purpose draws changes nothing for another.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
        for byte in purpose.bytes() {
            state = mix(state ^ u64::from(byte));
        }
        Self { state }
    }

    pub(crate) fn next(&mut self) -> u64 {
        // Source: Steele14 (SplitMix).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A number of `from..=to`.
    pub(crate) fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// Yes, so many times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// An index below `length`.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Randomness for one process.
#[derive(Debug)]
pub(crate) struct SimRng(Mutex<Rand>);

impl SimRng {
    pub(crate) fn new(rand: Rand) -> Self {
        Self(Mutex::new(rand))
    }
}

impl Rng for SimRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}
