//! When which posting is published, and when which bidder sees it: all by the seed.

use crate::draw::{below, draw};

/// The postings of one part of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Feed {
    pub(crate) seed: u64,
    /// Microseconds since boot at which the first one is published.
    pub(crate) begin: u64,
    /// Microseconds from one to the next.
    pub(crate) every: u64,
    /// How many there are.
    pub(crate) count: u64,
}

/// The latest sighting lies this long after the publication.
pub(crate) const SPREAD: u64 = 2_000_000;
/// What was published so long before a start is seen again by a bidder that starts.
pub(crate) const SEEN_AGAIN: u64 = 5_000_000;

impl Feed {
    pub(crate) fn name(number: u64) -> String {
        format!("p{number}")
    }

    pub(crate) const fn published(&self, number: u64) -> u64 {
        self.begin + number * self.every
    }

    /// When a bidder sees a posting: half of them at nearly the same moment as all the others.
    pub(crate) fn seen(&self, number: u64, bidder: u64) -> u64 {
        let at_once = draw(self.seed, &[1, number]).is_multiple_of(2);
        let spread = if at_once { 30_000 } else { SPREAD };
        self.published(number) + below(draw(self.seed, &[2, number, bidder]), spread)
    }

    /// All that a bidder sees which starts at a moment, in that order.
    pub(crate) fn seen_from(&self, bidder: u64, start: u64) -> Vec<(u64, u64)> {
        let since = start.saturating_sub(SEEN_AGAIN).saturating_sub(self.begin);
        let first = since / self.every;
        let mut all: Vec<_> = (first..self.count)
            .map(|number| (self.seen(number, bidder).max(start), number))
            .collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bidder_sees_every_posting_and_recent_ones_again_after_a_restart() {
        let feed = Feed { seed: 3, begin: 1_000, every: 50_000, count: 400 };
        let all = feed.seen_from(2, 0);
        assert_eq!(all.len(), 400);
        assert!(
            all.iter()
                .all(|(at, n)| { (feed.published(*n)..feed.published(*n) + SPREAD).contains(at) })
        );
        assert!(all.is_sorted());
        let start = feed.published(200);
        let again = feed.seen_from(2, start);
        assert_eq!(again.iter().map(|(_, n)| *n).min(), Some(100));
        assert!(again.iter().all(|(at, _)| *at >= start));
        assert_ne!(feed.seen(7, 0), feed.seen(7, 1));
    }
}
