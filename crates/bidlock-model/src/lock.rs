//! The protocol of locks on one server: scripts as single steps, clients with clocks of their own
//! between them, and a network that loses, repeats and delays.
//!
//! Times are relative: a state says how many ticks ago something was sent and in how many it is
//! due, and tokens are numbered by their order. A state so has no date, the space is finite, and
//! what holds in it holds for runs of any length.
//!
//! One tick is a second by the server's clock, and one hundredth less by every client's: the
//! slowest clock that the promise allows is the one that believes for longest.

mod client;
mod model;
mod order;
mod properties;
pub(crate) mod runs;
mod server;
mod steps;
mod time;

use std::time::Duration;

use arrayvec::ArrayVec;
use bidlock_core::{Belief, Moment, Ttl};

pub(crate) use model::{Broken, Lock};
pub(crate) use server::Lease;
use server::{News, Server};

/// How long a lease lives without renewal.
pub(crate) const TTL: u8 = 3;
/// How long a grant that was handed over waits for its confirmation.
pub(crate) const WINDOW: u8 = 3;
/// How long after its beginning a request may take effect.
const WITHIN: u8 = 1;
/// A wait without end.
pub(crate) const FOREVER: u8 = u8::MAX;
/// A message arrives within so many ticks, unless something goes wrong; so do a call's two.
const DELAY: u8 = 1;
/// So long may something linger that was repeated, or that nobody waits for: longer than a window.
const LATE: u8 = WINDOW + DELAY;
/// After so many ticks without a new fault everything is as if there had been none: a dead
/// holder's lease, a window that nobody uses, a message on the way and one to look by.
const BOUND: u8 = TTL + WINDOW + 2 * DELAY;
/// What a client's second is worth: the server's is a thousand.
const LOCAL_TICK_MS: u64 = 990;
/// Room for so many tasks, and for so many messages on their way.
pub(crate) const TASKS: usize = 4;
const MESSAGES: usize = 12;
/// The local clock of every client, which states are relative to.
const NOW_TICKS: u64 = 100;

/// Mistakes in the protocol. Each must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mutant {
    ReleaseWithoutCompare,
    TokenFromCounterAlone,
    OwnRepeatIsAnother,
    RenewRevives,
    RenewOfNothingIsYes,
    BeliefFromReply,
    BeliefWithoutMargin,
    PushedFromReceipt,
    WindowIgnoresDeadline,
    CancelForgetsGrant,
    ReleasedOnce,
    NotifyOnlyWait,
    LateTakesEffect,
    NewcomerFirst,
    KeyWithoutEnd,
    ErrorIsSuccess,
}

/// How many of each thing may happen in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) pauses: u8,
    /// Messages that take a tick.
    pub(crate) slow: u8,
    pub(crate) lost: u8,
    pub(crate) repeated: u8,
    pub(crate) delayed: u8,
    pub(crate) data_losses: u8,
    pub(crate) clock_steps: u8,
    pub(crate) revokes: u8,
    pub(crate) cancels: u8,
}

/// What is checked: who takes part, and what may go wrong.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The client, which is a process, of each task.
    pub(crate) clients: Vec<u8>,
    /// How many leases each task asks for, one after the other.
    pub(crate) leases: u8,
    /// How long each waits.
    pub(crate) wait: u8,
    pub(crate) budget: Budget,
    /// Whether states that differ in the names of tasks alone count as one.
    pub(crate) symmetric: bool,
    pub(crate) mutant: Option<Mutant>,
}

impl Config {
    fn client(&self, task: u8) -> u8 {
        self.clients[task as usize]
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

/// What a client believes of its lease, in ticks and milliseconds before and after now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Promise {
    /// By an answer to what was sent so many ticks ago.
    Asked { ago: u8 },
    /// By a message that came so many ticks ago, for so many more milliseconds of its clock.
    Pushed { ago: u8, left_ms: i16 },
}

impl Promise {
    /// The belief of `bidlock-core` that this stands for.
    fn belief(self, config: &Config) -> Belief {
        match self {
            Self::Asked { ago } => Belief::granted(ticks_ago(ago), ttl(config)),
            Self::Pushed { ago, left_ms } => {
                let until =
                    ticks_ago(0).since_boot().as_millis().cast_signed() + i128::from(left_ms);
                let until = u64::try_from(until).unwrap_or_default();
                Belief::pushed(ticks_ago(ago), Moment::from_boot(Duration::from_millis(until)))
            }
        }
    }

    /// What is believed after the answer to a renewal that was sent so many ticks ago.
    fn renewed(self, config: &Config, ago: u8) -> Self {
        let mut belief = self.belief(config);
        let before = belief.promised_until();
        belief.renewed(ticks_ago(ago), ttl(config));
        if belief.promised_until() == before { self } else { Self::Asked { ago } }
    }

    fn tick(self) -> Self {
        match self {
            Self::Asked { ago } => Self::Asked { ago: (ago + 1).min(BOUND) },
            Self::Pushed { ago, left_ms } => {
                let step = i16::try_from(LOCAL_TICK_MS).unwrap_or_default();
                Self::Pushed { ago: (ago + 1).min(BOUND), left_ms: (left_ms - step).max(-1) }
            }
        }
    }
}

fn ticks_ago(ago: u8) -> Moment {
    Moment::from_boot(Duration::from_millis((NOW_TICKS - u64::from(ago)) * LOCAL_TICK_MS))
}

fn ttl(config: &Config) -> Ttl {
    // Of this, the part that may be believed is all of the lease.
    let margin = if config.is(Mutant::BeliefWithoutMargin) { 31 } else { 0 };
    let length = Duration::from_secs(TTL.into()) + Duration::from_millis(margin);
    Ttl::new(length).unwrap_or_default()
}

/// What a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// It may ask for its next lease at any time, or has had its last.
    Idle,
    /// It waits: gives up in so many ticks, and looks in so many.
    Waiting { ends: u8, look: u8 },
    /// It holds the key, as far as it knows.
    Holding { promise: Promise, token: u8, confirmed: bool, hurry: bool },
    /// Its process is gone.
    Gone,
}

/// A request of a task, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) renews: bool,
    /// Ticks since it was sent.
    pub(crate) ago: u8,
    /// How many ticks after it was sent it may still take effect.
    pub(crate) within: u8,
    pub(crate) stage: Stage,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Sent,
    /// Carried out so many ticks ago.
    Answered {
        reply: server::Reply,
        ago: u8,
    },
    /// Nothing comes back. Whether it arrived, the client cannot know.
    Lost,
}

/// One user of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Task {
    /// The number of the lease that it is at.
    pub(crate) number: u8,
    pub(crate) phase: Phase,
    pub(crate) call: Option<Call>,
    /// In how many ticks a request that was never answered can take effect no more.
    pub(crate) unanswered: Option<u8>,
    /// News that came while it waited for an answer.
    pub(crate) seat: Option<Heard>,
    /// One reading of the server's clock: sent and carried out so many ticks ago.
    pub(crate) reading: Option<(u8, u8)>,
}

/// News as a client has read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Heard {
    Granted { token: u8, ago: u8, left_ms: i16 },
    Ends { left: u8 },
    Look,
}

/// A request that no task waits for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stray {
    pub(crate) lease: Lease,
    pub(crate) asks: Asks,
    /// It is sent in so many ticks.
    pub(crate) from: u8,
    /// It arrives in so many ticks at the latest; at any time when something went wrong with it.
    pub(crate) due: Option<u8>,
}

/// What a stray request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Asks {
    /// The key, if it arrives within so many ticks.
    Acquire { within: u8 },
    /// A longer life, if it arrives within so many ticks.
    Renew { within: u8 },
    /// Nothing any more; once more in so many ticks, for a request that was never answered.
    Release { again: Option<u8> },
}

/// A message on its way to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Push {
    pub(crate) lease: Lease,
    pub(crate) news: News,
    /// Ticks since it was published.
    pub(crate) ago: u8,
    /// It arrives in so many ticks at the earliest.
    pub(crate) from: u8,
    /// It arrives in so many ticks at the latest.
    pub(crate) due: Option<u8>,
    /// Whether it may still arrive at once.
    pub(crate) fresh: bool,
}

/// Some of the clients, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Clients(u8);

impl Clients {
    pub(crate) const fn has(self, client: u8) -> bool {
        self.0 & (1 << client) != 0
    }

    const fn set(&mut self, client: u8, is_in: bool) {
        self.0 = self.0 & !(1 << client) | (is_in as u8) << client;
    }
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) server: Server,
    pub(crate) tasks: ArrayVec<Task, TASKS>,
    pub(crate) strays: ArrayVec<Stray, MESSAGES>,
    pub(crate) pushes: ArrayVec<Push, MESSAGES>,
    /// Which clients stand still.
    pub(crate) paused: Clients,
    /// Which clients the server does not count as ones that hear.
    pub(crate) deaf: Clients,
    pub(crate) budget: Budget,
    /// The highest token so far, those up to which a data loss voided, and one revoked at once.
    pub(crate) highest: u8,
    pub(crate) voided: u8,
    pub(crate) revoked: u8,
    /// Whether the server's wall clock was set back.
    pub(crate) set_back: bool,
    /// Ticks since something last went wrong.
    pub(crate) calm: u8,
    /// Ticks for which a live task has waited while no live one held the key.
    pub(crate) idle: u8,
    /// The first rule that a step broke.
    pub(crate) broken: Option<Broken>,
}

impl State {
    /// Whether a task believes at this moment that it holds the key, by the real belief.
    pub(crate) fn believes(config: &Config, task: &Task) -> Option<u8> {
        match task.phase {
            Phase::Holding { promise, token, .. } => {
                promise.belief(config).check(ticks_ago(0)).is_ok().then_some(token)
            }
            _ => None,
        }
    }

    /// Whether the promise of one holder covers this grant: the store has forgotten nothing of
    /// it, and no operator has broken it.
    pub(crate) fn covered(&self, token: u8) -> bool {
        token > self.voided && token != self.revoked
    }

    fn is_live(&self, config: &Config, task: u8) -> bool {
        self.tasks[task as usize].phase != Phase::Gone && !self.paused.has(config.client(task))
    }
}
