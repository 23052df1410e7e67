//! The space of states: what may happen next, and what must hold.

use arrayvec::ArrayVec;
use stateright::{Model, Property};

use super::server::{Mark, Server};
use super::{Budget, Call, Clients, Config, DELAY, Phase, Stage, State, Stray, Task};

/// The model of locks.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    pub(crate) config: Config,
}

/// A rule that a single step broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// A token was not above all before it (I1, P3).
    TokenFell,
    /// A lease got the key before one that had waited longer (I6).
    Overtaken,
    /// A waiter that had given up was given the key (I6).
    DeadWaiterServed,
    /// A renewal made a grant (I5).
    Revived,
    /// A request repeated by the lease that has the key was not answered with its token (I8).
    RepeatRefused,
    /// A release took the key from another lease (I2).
    TakenFromAnother,
}

/// How a request fares. Most take no time that counts; the others are counted in the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Carried out, and its answer read.
    AtOnce,
    /// Carried out twice, one right after the other; a release once more at any time.
    Twice,
    /// Carried out at once, and its answer read in the next tick.
    AnsweredLater,
    /// Carried out in the next tick.
    CarriedOutLater,
    /// Its sender gives up on it, and it may still be carried out.
    Delayed,
    /// It never arrives.
    RequestLost,
    /// It is carried out, and its answer never arrives.
    AnswerLost,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Ask(u8, Way),
    Renew(u8, Way),
    CarryOut(u8),
    ReadAnswer(u8),
    GiveUpOnAnswer(u8),
    NoticeLoss(u8, Way),
    TimeOut(u8, Way),
    Release(u8, Way),
    Cancel(u8, Way),
    CarryOutStray(usize),
    ReadMessage(usize),
    MessageTakesTime(usize),
    Tick,
    LoseMessage(usize),
    RepeatMessage(usize),
    Crash { client: u8, half_open: bool },
    Pause(u8),
    Resume(u8),
    LoseData,
    SetClockBack,
    Revoke { now: bool },
}

impl Model for Lock {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            server: Server::default(),
            tasks: self.config.clients.iter().map(|_| Task::new()).collect(),
            strays: ArrayVec::new(),
            pushes: ArrayVec::new(),
            paused: Clients::default(),
            deaf: Clients::default(),
            budget: self.config.budget,
            highest: 0,
            voided: 0,
            revoked: 0,
            set_back: false,
            calm: 0,
            idle: 0,
            broken: None,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.broken.is_some() {
            return;
        }
        for (at, push) in state.pushes.iter().enumerate() {
            // Whether a message arrives at once is decided first: see `Way`.
            if push.fresh && state.is_live(&self.config, push.lease.task) {
                steps.push(Step::ReadMessage(at));
                if state.budget.slow > 0 {
                    steps.push(Step::MessageTakesTime(at));
                }
                if state.budget.lost > 0 {
                    steps.push(Step::LoseMessage(at));
                }
                if state.budget.repeated > 0 {
                    steps.push(Step::RepeatMessage(at));
                }
                return;
            }
        }
        for task in (0..).take(state.tasks.len()) {
            self.task_steps(state, task, steps);
        }
        self.message_steps(state, steps);
        self.fault_steps(state, steps);
        if self.may_tick(state) {
            steps.push(Step::Tick);
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        self.apply(&mut state, step);
        state.settle(&self.config);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::properties::all()
    }
}

impl Lock {
    fn task_steps(&self, state: &State, task: u8, steps: &mut Vec<Step>) {
        let asked = || ways(&state.budget, true);
        let told = || ways(&state.budget, false);
        let own = &state.tasks[task as usize];
        if own.call.is_some_and(|call| call.stage == Stage::Sent && call.ago > 0) {
            steps.push(Step::CarryOut(task));
        }
        if !state.is_live(&self.config, task) {
            return;
        }
        match own.call {
            Some(Call { stage: Stage::Answered { .. }, ago: 1.., .. }) => {
                steps.push(Step::ReadAnswer(task));
            }
            Some(Call { stage: Stage::Lost, .. }) => steps.push(Step::GiveUpOnAnswer(task)),
            _ => {}
        }
        match own.phase {
            Phase::Idle if own.number < self.config.leases => {
                steps.extend(asked().map(|way| Step::Ask(task, way)));
            }
            Phase::Waiting { ends: 0, .. } if own.call.is_none() => {
                steps.extend(told().map(|way| Step::TimeOut(task, way)));
            }
            Phase::Waiting { look, .. } => {
                if look == 0 && own.call.is_none() {
                    steps.extend(asked().map(|way| Step::Ask(task, way)));
                }
                if state.budget.cancels > 0 {
                    steps.extend(told().map(|way| Step::Cancel(task, way)));
                }
            }
            Phase::Holding { .. } if State::believes(&self.config, own).is_none() => {
                steps.extend(told().map(|way| Step::NoticeLoss(task, way)));
            }
            Phase::Holding { .. } => {
                steps.extend(told().map(|way| Step::Release(task, way)));
                if State::renews_now(&self.config, own) {
                    steps.extend(asked().map(|way| Step::Renew(task, way)));
                }
            }
            Phase::Idle | Phase::Gone => {}
        }
    }

    fn message_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let ready = |stray: &Stray| stray.from == 0;
        let ready = state.strays.iter().enumerate().filter(|(_, stray)| ready(stray));
        steps.extend(ready.map(|(at, _)| Step::CarryOutStray(at)));
        for (at, push) in state.pushes.iter().enumerate() {
            let ready = !push.fresh && push.from == 0;
            if ready && state.is_live(&self.config, push.lease.task) {
                steps.push(Step::ReadMessage(at));
            }
        }
    }

    fn fault_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let budget = &state.budget;
        for client in 0..=self.config.clients.iter().copied().max().unwrap_or(0) {
            let mut tasks =
                (0..).zip(&state.tasks).filter(|(t, _)| self.config.client(*t) == client);
            let takes_part = tasks.any(|(_, own)| {
                own.phase != Phase::Gone && (own.phase != Phase::Idle || own.number > 0)
            });
            if state.paused.has(client) {
                steps.push(Step::Resume(client));
            } else if takes_part && budget.pauses > 0 {
                steps.push(Step::Pause(client));
            }
            if takes_part && budget.crashes > 0 {
                steps.push(Step::Crash { client, half_open: true });
                steps.push(Step::Crash { client, half_open: false });
            }
        }
        steps.extend((budget.data_losses > 0).then_some(Step::LoseData));
        steps.extend((budget.clock_steps > 0).then_some(Step::SetClockBack));
        if budget.revokes > 0 && state.server.key.is_some_and(|held| held.mark != Mark::Revoked) {
            steps.extend([Step::Revoke { now: false }, Step::Revoke { now: true }]);
        }
    }

    /// Time goes on when all that had to happen by now has happened.
    fn may_tick(&self, state: &State) -> bool {
        let due = |due: Option<u8>| due == Some(0);
        if state.strays.iter().any(|stray| stray.from == 0 && due(stray.due)) {
            return false;
        }
        let live = |task| state.is_live(&self.config, task);
        if state.pushes.iter().any(|push| due(push.due) && live(push.lease.task)) {
            return false;
        }
        (0_u8..).zip(&state.tasks).all(|(task, own)| {
            let arrived = own.call.is_none_or(|call| match call.stage {
                Stage::Sent => call.ago < DELAY,
                Stage::Answered { .. } => call.ago < DELAY || !live(task),
                Stage::Lost => call.ago < call.within || !live(task),
            });
            let waits = match own.phase {
                Phase::Waiting { ends, look } => own.call.is_some() || ends > 0 && look > 0,
                Phase::Holding { .. } => {
                    State::believes(&self.config, own).is_some()
                        && !State::renews_now(&self.config, own)
                }
                Phase::Idle | Phase::Gone => true,
            };
            arrived && (waits || !live(task))
        })
    }
}

/// The ways that a request, or a release, can take.
fn ways(budget: &Budget, is_call: bool) -> impl Iterator<Item = Way> {
    let slow = budget.slow > 0;
    let lost = budget.lost > 0;
    let ways = [
        (Way::AtOnce, true),
        (Way::Twice, budget.repeated > 0),
        (Way::AnsweredLater, slow && is_call),
        (Way::CarriedOutLater, slow),
        (Way::Delayed, budget.delayed > 0),
        (Way::RequestLost, lost),
        (Way::AnswerLost, lost && is_call),
    ];
    ways.into_iter().filter(|(_, may)| *may).map(|(way, _)| way)
}
