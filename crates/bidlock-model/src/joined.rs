//! Lock and ledger together, joined by the token: when the lock store loses its data two bidders
//! hold one key, each with a token of its own, and the ledger still lets one bid be sent.

use stateright::{Model, Property};

use crate::check::{Report, check};
use crate::ledger::{self, BIDDERS, Broken, Ledger, Step};

/// Ticks that a lease lives without renewal.
const TTL: u8 = 2;

/// The model.
#[derive(Debug, Clone)]
struct Joined {
    ledger: Ledger,
    data_losses: u8,
}

/// The ledger's state, and that of the lock before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    ledger: ledger::State,
    /// Who has the key, and for how many ticks.
    key: Option<(u8, u8)>,
    /// For how many ticks each bidder believes that it does.
    believes: [u8; BIDDERS],
    data_losses: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Both {
    Ledger(Step),
    Renew(u8),
    Release(u8),
    LoseData,
}

impl Model for Joined {
    type State = State;
    type Action = Both;

    fn init_states(&self) -> Vec<State> {
        let (believes, data_losses) = ([0; BIDDERS], self.data_losses);
        let all = self.ledger.init_states().into_iter();
        all.map(|ledger| State { ledger, key: None, believes, data_losses }).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Both>) {
        let mut own = Vec::new();
        self.ledger.actions(&state.ledger, &mut own);
        own.retain(|step| match step {
            Step::Acquire(_) => state.key.is_none(),
            // Whoever has lost the lease before it has reserved stops there.
            Step::Reserve(bidder) => state.believes[*bidder as usize] > 0,
            _ => true,
        });
        steps.extend(own.into_iter().map(Both::Ledger));
        for bidder in (0..).take(BIDDERS).filter(|bidder| state.believes[*bidder as usize] > 0) {
            steps.extend([Both::Renew(bidder), Both::Release(bidder)]);
        }
        steps.extend((state.data_losses > 0).then_some(Both::LoseData));
    }

    fn next_state(&self, before: &State, step: Both) -> Option<State> {
        let mut state = before.clone();
        match step {
            Both::Ledger(step) => {
                state.ledger = self.ledger.next_state(&before.ledger, step).unwrap_or(state.ledger);
                match step {
                    Step::Acquire(bidder) => {
                        state.key = Some((bidder, TTL));
                        state.believes[bidder as usize] = TTL;
                    }
                    Step::Crash(bidder) => state.believes[bidder as usize] = 0,
                    Step::Tick => {
                        state.key = state.key.map(|(by, left)| (by, left - 1));
                        state.key = state.key.filter(|(_, left)| *left > 0);
                        for left in &mut state.believes {
                            *left = left.saturating_sub(1);
                        }
                    }
                    _ => {}
                }
            }
            Both::Renew(bidder) => {
                let own = state.key.is_some_and(|(by, _)| by == bidder);
                let left = if own { TTL } else { 0 };
                state.key = if own { Some((bidder, TTL)) } else { state.key };
                state.believes[bidder as usize] = left;
            }
            Both::Release(bidder) => {
                state.key = state.key.filter(|(by, _)| *by != bidder);
                state.believes[bidder as usize] = 0;
            }
            Both::LoseData => {
                state.data_losses -= 1;
                state.key = None;
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("P1 one bid", |_, state: &State| state.ledger.bids() <= 1),
            Property::always(
                "P1 nothing starts while another may have happened",
                |_, state: &State| state.ledger.broken != Some(Broken::SecondSubmission),
            ),
            Property::always("P2 one holder, without data loss", |model: &Self, state: &State| {
                state.data_losses < model.data_losses || holders(state) <= 1
            }),
            Property::sometimes("two hold the key", |_, state: &State| holders(state) > 1),
            Property::sometimes("two hold the key, and one has bid", |_, state: &State| {
                holders(state) > 1 && state.ledger.bids() == 1
            }),
            Property::sometimes("the older holder is turned away", |_, state: &State| {
                state.ledger.rows.len() > 1 && holders(state) > 1
            }),
        ]
    }
}

fn holders(state: &State) -> usize {
    state.believes.iter().filter(|left| **left > 0).count()
}

/// Runs it.
pub(crate) fn all(only: &str) -> impl Iterator<Item = Report> {
    const NAME: &str = "joined: two holders after data loss, crash, one act by hand";
    let run = || {
        let ledger = Ledger { config: ledger::runs::joined() };
        check(NAME, Joined { ledger, data_losses: 1 })
    };
    NAME.starts_with(only).then(run).into_iter()
}
