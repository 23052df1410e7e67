use bidlock_core::Rng;

/// The operating system's randomness.
#[derive(Debug, Clone, Copy)]
pub struct OsRng;

impl Rng for OsRng {
    /// # Panics
    /// When the operating system has no randomness to give: an id that can be guessed or
    /// repeated would let two leases be one.
    fn next_u64(&self) -> u64 {
        let drawn = getrandom::u64();
        #[expect(clippy::expect_used, reason = "going on with a guessable id would not be safe")]
        drawn.expect("the operating system gives randomness")
    }
}
