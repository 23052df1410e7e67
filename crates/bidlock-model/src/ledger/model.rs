//! The space of states: what may happen next.

use arrayvec::ArrayVec;
use bidlock_core::Liveness;
use bidlock_ledger::State as Stored;
use stateright::{Model, Property};

use super::{Bidder, Config, LAG, Market, Phase, Row, Said, State};

/// The model of the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) config: Config,
}

/// A rule that a single step broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// A submission started while another may have happened (P1).
    SecondSubmission,
    /// A token below one that the posting had seen changed something (L3).
    OldTokenTaken,
    /// A step that the state machine has not, or out of doubt by nobody who knew (L4, L6).
    WayBack,
    /// What a submitter had to say was not kept (L8).
    OutcomeRefused,
    /// Something else was sent under an id than before (L9).
    OtherPayload,
    /// A posting that is not decided was pruned (L10).
    OpenOnePruned,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Acquire(u8),
    Reserve(u8),
    Start(u8),
    StartWithoutAnswer(u8),
    LookAtClock(u8),
    Send(u8, Said),
    Record(u8),
    GiveUp(u8),
    Crash(u8),
    Reconcile,
    Operate { seen: Liveness },
    Withdraw,
    Reopen,
    Prune,
    Tick,
}

impl Model for Ledger {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let bidder = Bidder { tries: self.config.tries, phase: Phase::Idle, token: 0 };
        vec![State {
            rows: ArrayVec::new(),
            bidders: (0..self.config.bidders).map(|_| bidder).collect(),
            budget: self.config.budget,
            token: 0,
            pruned: false,
            forgotten: 0,
            broken: None,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.broken.is_some() {
            return;
        }
        for (number, bidder) in (0..).zip(&state.bidders) {
            state.bidder_steps(number, *bidder, steps);
        }
        state.other_steps(steps);
        steps.push(Step::Tick);
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        self.apply(&mut state, step);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::properties::all(self.config.stalls && self.config.rash)
    }
}

impl Ledger {
    fn apply(&self, state: &mut State, step: Step) {
        let config = &self.config;
        let phase = |state: &State, bidder: u8| state.bidders[bidder as usize].phase;
        match step {
            Step::Acquire(bidder) => state.acquire(bidder),
            Step::Reserve(bidder) => {
                if let Phase::Granted { token } = phase(state, bidder) {
                    state.reserves(config, bidder, token);
                }
            }
            Step::Start(bidder) | Step::StartWithoutAnswer(bidder) => {
                let lost = matches!(step, Step::StartWithoutAnswer(_));
                state.budget.lost_answers -= u8::from(lost);
                if let Phase::Reserved { token, row } = phase(state, bidder) {
                    state.starts(config, bidder, (row, token), lost);
                }
            }
            Step::LookAtClock(bidder) => {
                if let Phase::Cleared { row, left } = phase(state, bidder) {
                    state.looks(config, bidder, row, left);
                }
            }
            Step::Send(bidder, said) => {
                if let Phase::Sending { row } = phase(state, bidder) {
                    state.sends(config, bidder, row, said);
                }
            }
            Step::Record(bidder) => {
                if let Phase::Sent { row, said } = phase(state, bidder) {
                    state.records(config, bidder, row, said);
                }
            }
            Step::GiveUp(bidder) => {
                state.budget.given_up -= 1;
                if let Phase::Cleared { row, .. } | Phase::Sending { row } = phase(state, bidder) {
                    state.gives_up(config, row);
                }
            }
            Step::Crash(bidder) => {
                state.budget.crashes -= 1;
                state.bidders[bidder as usize].phase = Phase::Gone;
            }
            Step::Tick => state.tick(config),
            by_hand => self.by_hand(state, by_hand),
        }
    }

    fn by_hand(&self, state: &mut State, step: Step) {
        let config = &self.config;
        let before = state.clone();
        match step {
            Step::Reconcile => state.settles(config, false, Liveness::Unknown),
            Step::Operate { seen } => state.settles(config, true, seen),
            Step::Withdraw => state.withdraw(),
            Step::Reopen => state.reopen(),
            Step::Prune => state.prune(config),
            _ => {}
        }
        if *state != before {
            // What was refused costs nothing, and leads nowhere.
            match step {
                Step::Reconcile => state.budget.settles -= 1,
                Step::Prune => state.budget.prunes -= 1,
                _ => state.budget.acts -= 1,
            }
        }
    }
}

impl State {
    fn bidder_steps(&self, number: u8, bidder: Bidder, steps: &mut Vec<Step>) {
        let budget = &self.budget;
        match bidder.phase {
            Phase::Idle if bidder.tries > 0 => steps.push(Step::Acquire(number)),
            Phase::Granted { .. } => steps.push(Step::Reserve(number)),
            Phase::Reserved { .. } => {
                steps.push(Step::Start(number));
                steps.extend((budget.lost_answers > 0).then_some(Step::StartWithoutAnswer(number)));
            }
            Phase::Cleared { .. } => steps.push(Step::LookAtClock(number)),
            Phase::Sending { .. } => {
                let said = [Said::Placed, Said::Refused, Said::Unknown];
                steps.extend(said.map(|said| Step::Send(number, said)));
            }
            Phase::Sent { .. } => steps.push(Step::Record(number)),
            Phase::Idle | Phase::Gone => return,
        }
        if budget.crashes > 0 {
            steps.push(Step::Crash(number));
        }
        let started = matches!(bidder.phase, Phase::Cleared { .. } | Phase::Sending { .. });
        if started && budget.given_up > 0 {
            steps.push(Step::GiveUp(number));
        }
    }

    fn other_steps(&self, steps: &mut Vec<Step>) {
        let Some(open) = self.open().map(|row| self.rows[row as usize]) else { return };
        let budget = &self.budget;
        let doubted = matches!(open.state, Stored::Started | Stored::Unknown);
        if doubted && budget.settles > 0 && open.read() == Stored::Unknown {
            steps.push(Step::Reconcile);
        }
        if doubted && budget.acts > 0 {
            let gone = self.bidders[open.process as usize].phase == Phase::Gone;
            let seen = if gone { Liveness::Gone } else { Liveness::Alive };
            steps.extend([seen, Liveness::Unknown].map(|seen| Step::Operate { seen }));
        }
        if budget.acts > 0 && open.state == Stored::Placed {
            steps.push(Step::Withdraw);
        }
        if budget.acts > 0 && matches!(open.state, Stored::Refused | Stored::Withdrawn) {
            steps.push(Step::Reopen);
        }
        if budget.prunes > 0 {
            steps.push(Step::Prune);
        }
    }

    fn tick(&mut self, config: &Config) {
        // A sender that does not stall sends before any time passes.
        let under_way = |bidder: &Bidder| matches!(bidder.phase, Phase::Sending { .. });
        if !config.stalls && self.bidders.iter().any(under_way) {
            return;
        }
        for row in &mut self.rows {
            row.tick();
        }
        for bidder in &mut self.bidders {
            if let Phase::Cleared { left, .. } = &mut bidder.phase {
                *left = (*left - 1).max(0);
            }
        }
    }
}

impl Row {
    fn tick(&mut self) {
        self.left = self.left.map(|left| (left - 1).max(-LAG));
        if self.left.is_some() {
            self.kept = (self.kept - 1).max(0);
        }
        if let Market::Placed { shows_in, .. } = &mut self.market {
            *shows_in = (*shows_in - 1).max(0);
        }
    }
}
