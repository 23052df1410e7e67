//! Numbers drawn from the seed alone, so that any process can draw the same.

use bidlock_core::Rng as _;
use bidlock_testkit::SeededRng;

/// Mixes a seed and what is drawn for into a number that looks random.
pub(crate) fn draw(seed: u64, about: &[u64]) -> u64 {
    about.iter().fold(SeededRng::new(seed).next_u64(), |mixed, part| {
        SeededRng::new(mixed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next_u64()
    })
}

/// Mixes a text in.
pub(crate) fn draw_for(seed: u64, text: &str, about: u64) -> u64 {
    let words = text.bytes().map(u64::from).chain([about]);
    draw(seed, &words.collect::<Vec<_>>())
}

/// The part of `drawn` below `bound`.
pub(crate) fn below(drawn: u64, bound: u64) -> u64 {
    drawn.checked_rem(bound).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_depends_on_the_seed_and_on_everything_it_is_for() {
        assert_eq!(draw(7, &[1, 2]), draw(7, &[1, 2]));
        let others = [draw(8, &[1, 2]), draw(7, &[2, 1]), draw(7, &[1]), draw(7, &[1, 2, 0])];
        assert!(others.iter().all(|other| *other != draw(7, &[1, 2])), "{others:?}");
        assert_ne!(draw_for(7, "p1", 0), draw_for(7, "p2", 0));
    }
}
