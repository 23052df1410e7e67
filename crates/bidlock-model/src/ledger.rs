//! The bid ledger: bidders that stop between any two steps and never come back, or come back late;
//! a marketplace that is sent to; an operator and a reconciler that look at it.
//!
//! There are no locks here. Tokens are given out to whoever asks, as if any number of bidders held
//! the key at once: P1 has to hold all the same. What an outcome does and what an operator may end
//! is decided by the functions of `bidlock-ledger` themselves.
//!
//! Times are ticks from now, as in the model of locks; what is past for long is just past.

mod actors;
mod model;
mod properties;
pub(crate) mod runs;
mod store;

use arrayvec::ArrayVec;
use bidlock_ledger::{Event, State as Stored};

pub(crate) use model::{Broken, Ledger, Step};

/// So many ticks after its start nothing is sent any more.
pub(crate) const SEND: i8 = 2;
/// So many ticks after it was sent a bid shows at the marketplace. One of a sender that stalled
/// shows at once: how late it may come nobody can tell, and the lag counts from its send-by.
pub(crate) const LAG: i8 = 1;
/// For so many ticks after its first start an attempt may be sent again.
const RETENTION: i8 = 6;
/// Room for so many attempts and bidders.
pub(crate) const ATTEMPTS: usize = 6;
pub(crate) const BIDDERS: usize = 3;

/// Mistakes in the protocol. Each must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mutant {
    StartIsNoCompareAndSet,
    LostStartIsSent,
    StartedIsSentAgain,
    NotFoundReopens,
    TakeOverByAge,
    TakeOverOfStarted,
    RecordNeedsLease,
    PruneTakesOpenOnes,
    PruneForgetsHorizon,
    SentAfterSendBy,
    GivenUpHasStopped,
    ResentWithoutKeys,
    ResentWithOtherPayload,
    NotSentEndsTwoSendings,
    SecondSenderSpeaksForFirst,
    ResolvedTooEarly,
}

/// How many of each thing may happen in one run, and what kind of world it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) lost_answers: u8,
    pub(crate) given_up: u8,
    /// Acts of an operator.
    pub(crate) acts: u8,
    /// Looks of the reconciler that settle something.
    pub(crate) settles: u8,
    pub(crate) prunes: u8,
}

/// What is checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) bidders: u8,
    /// How often each may try.
    pub(crate) tries: u8,
    pub(crate) budget: Budget,
    /// Whether a sender may stand between its last look at the clock and its first byte.
    pub(crate) stalls: bool,
    /// Whether the marketplace honours attempt ids as idempotency keys, and bidders say so.
    pub(crate) keys: bool,
    /// Whether the operator vouches for the end of a process without knowing it.
    pub(crate) rash: bool,
    pub(crate) mutant: Option<Mutant>,
}

impl Config {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

/// What the marketplace has of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Market {
    Nothing,
    /// So many bids; it shows in so many ticks.
    Placed {
        bids: u8,
        shows_in: i8,
    },
    Refused,
    Withdrawn,
}

/// A row of the ledger, and what is true of it besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) state: Stored,
    pub(crate) event: Event,
    pub(crate) token_seen: u8,
    /// Ticks to the send-by; none before the start.
    pub(crate) left: Option<i8>,
    /// Ticks for which it may be sent again.
    pub(crate) kept: i8,
    pub(crate) payload: u8,
    /// The bidder whose process it names.
    pub(crate) process: u8,
    /// Whether its history has that it was sent again.
    pub(crate) resent: bool,
    /// How often a start of it was answered yes.
    pub(crate) starts: u8,
    pub(crate) market: Market,
    /// What was sent.
    pub(crate) sent: Option<u8>,
}

/// Where a bidder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Idle,
    /// It was granted the key, once.
    Granted {
        token: u8,
    },
    Reserved {
        token: u8,
        row: u8,
    },
    /// It may send, for so many ticks.
    Cleared {
        row: u8,
        left: i8,
    },
    /// It has looked at the clock, and sends next.
    Sending {
        row: u8,
    },
    /// It has sent, or decided not to; this is what it will say.
    Sent {
        row: u8,
        said: Said,
    },
    /// Its process is gone.
    Gone,
}

/// What a submitter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    Placed,
    Refused,
    NotSent,
    Unknown,
}

/// One bidder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Bidder {
    pub(crate) tries: u8,
    pub(crate) phase: Phase,
    /// The token that it holds, as far as it knows.
    pub(crate) token: u8,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) rows: ArrayVec<Row, ATTEMPTS>,
    pub(crate) bidders: ArrayVec<Bidder, BIDDERS>,
    pub(crate) budget: Budget,
    /// The last token that was given out.
    pub(crate) token: u8,
    /// Whether the horizon of a prune lies behind the time at which the posting was seen.
    pub(crate) pruned: bool,
    /// Bids of attempts that were pruned.
    pub(crate) forgotten: u8,
    pub(crate) broken: Option<Broken>,
}

impl Bidder {
    /// Whether its process lives and has not done with sending a row.
    pub(crate) const fn is_to_send(self, row: u8) -> bool {
        match self.phase {
            Phase::Cleared { row: own, .. } | Phase::Sending { row: own } => own == row,
            _ => false,
        }
    }
}

impl State {
    /// Whether a bid for a row may still come to be, or has. A marketplace that honours ids gives
    /// an id that it has answered the same answer again.
    pub(crate) fn may_have_happened(&self, config: &Config, row: u8) -> bool {
        let may_send = |bidder: &Bidder| match bidder.phase {
            Phase::Cleared { left, .. } => bidder.is_to_send(row) && left > 0,
            _ => bidder.is_to_send(row),
        };
        let market = self.rows[row as usize].market;
        let answered = config.keys && market != Market::Nothing;
        matches!(market, Market::Placed { .. }) || !answered && self.bidders.iter().any(may_send)
    }

    /// Bids that stand at the marketplace.
    pub(crate) fn bids(&self) -> u8 {
        let of = |row: &Row| if let Market::Placed { bids, .. } = row.market { bids } else { 0 };
        self.rows.iter().map(of).sum::<u8>() + self.forgotten
    }
}
