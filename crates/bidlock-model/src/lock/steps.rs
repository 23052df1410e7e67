//! What each step does, and what judges it.

use super::model::{Broken, Step, Way};
use super::server::{Grant, Lease, Mark, Reply, Server, World};
use super::{Asks, Call, DELAY, FOREVER, LATE, Lock, Phase, Push, Stage, State, Stray};

impl Lock {
    pub(super) fn apply(&self, state: &mut State, step: Step) {
        let config = &self.config;
        match step {
            Step::Ask(task, way) => {
                state.ask(config, task);
                self.goes(state, task, way);
            }
            Step::Renew(task, way) => {
                state.renew(task);
                self.goes(state, task, way);
            }
            Step::CarryOut(task) => {
                self.carry_out(state, task);
                if state.is_live(config, task) {
                    state.deliver(config, task);
                }
            }
            Step::ReadAnswer(task) => state.deliver(config, task),
            Step::GiveUpOnAnswer(task) => state.fail(config, task),
            Step::NoticeLoss(task, way) | Step::Release(task, way) | Step::TimeOut(task, way) => {
                self.finish(state, task, way);
            }
            Step::Cancel(task, way) => {
                state.budget.cancels -= 1;
                self.finish(state, task, way);
            }
            Step::MessageTakesTime(at) => {
                state.budget.slow -= 1;
                (state.pushes[at].fresh, state.pushes[at].from) = (false, DELAY);
            }
            Step::CarryOutStray(at) => self.carry_out_stray(state, at),
            Step::ReadMessage(at) => state.take_push(config, at),
            Step::Tick => state.tick(config),
            fault => {
                (state.calm, state.idle) = (0, 0);
                self.go_wrong(state, fault);
            }
        }
    }

    fn goes(&self, state: &mut State, task: u8, way: Way) {
        state.pay(way);
        match way {
            Way::AtOnce => self.carry_out(state, task),
            Way::Twice => {
                self.carry_out(state, task);
                self.carry_out(state, task);
            }
            Way::AnsweredLater => return self.carry_out(state, task),
            Way::CarriedOutLater => return,
            Way::AnswerLost => {
                self.carry_out(state, task);
                return state.lose_call(task);
            }
            Way::RequestLost => return state.lose_call(task),
            Way::Delayed => {
                let own = &state.tasks[task as usize];
                let lease = Lease { task, number: own.number };
                let asks = own.call.map(Call::asks);
                let due = Some(LATE);
                state.strays.extend(asks.map(|asks| Stray { lease, asks, from: 0, due }));
                return state.lose_call(task);
            }
        }
        state.deliver(&self.config, task);
    }

    /// Ends what a task had; what that sends goes its way.
    fn finish(&self, state: &mut State, task: u8, way: Way) {
        state.finish(&self.config, task);
        state.pay(way);
        let at = state.strays.len() - 1;
        let stray = &mut state.strays[at];
        match way {
            Way::AtOnce | Way::AnsweredLater | Way::AnswerLost => self.carry_out_stray(state, at),
            Way::CarriedOutLater => stray.from = DELAY,
            Way::Twice => {
                let asks = Asks::Release { again: None };
                let copy = Stray { due: Some(LATE), asks, ..*stray };
                state.strays.push(copy);
                self.carry_out_stray(state, at);
            }
            // Its sender finds out, and sends it again.
            Way::RequestLost => (stray.from, stray.due) = (1, Some(1)),
            // And the first one arrives some time.
            Way::Delayed => {
                let asks = Asks::Release { again: None };
                let late = Stray { due: Some(LATE), asks, ..*stray };
                (stray.from, stray.due) = (1, Some(1));
                state.strays.push(late);
            }
        }
    }

    fn go_wrong(&self, state: &mut State, fault: Step) {
        let budget = &mut state.budget;
        match fault {
            Step::LoseMessage(at) => {
                budget.lost -= 1;
                state.pushes.remove(at);
            }
            Step::RepeatMessage(at) => {
                budget.repeated -= 1;
                let copy = Push { due: Some(LATE), fresh: false, from: 0, ..state.pushes[at] };
                state.pushes.push(copy);
            }
            Step::Crash { client, half_open } => {
                budget.crashes -= 1;
                state.crash(&self.config, client, half_open);
            }
            Step::Pause(client) => {
                budget.pauses -= 1;
                state.paused.set(client, true);
            }
            Step::Resume(client) => state.paused.set(client, false),
            Step::LoseData => {
                budget.data_losses -= 1;
                state.server = Server::default();
                state.voided = state.highest;
            }
            Step::SetClockBack => {
                budget.clock_steps -= 1;
                state.set_back = true;
            }
            Step::Revoke { now } => {
                budget.revokes -= 1;
                if now {
                    state.revoked = state.server.key.map_or(0, |held| held.token);
                }
                self.at_server(state, |server, world| server.revoke(now, world));
            }
            _ => {}
        }
    }

    fn carry_out(&self, state: &mut State, task: u8) {
        let own = state.tasks[task as usize];
        let Some(call) = own.call else { return };
        let lease = Lease { task, number: own.number };
        let before = state.server.key;
        let wait = match own.phase {
            Phase::Waiting { ends, .. } => ends,
            _ => 0,
        };
        let reply = self.at_server(state, |server, world| {
            if call.renews {
                server.renew(lease, world)
            } else {
                server.acquire(lease, wait, world)
            }
        });
        state.judge(before, lease, call.renews, reply);
        if let Some(call) = &mut state.tasks[task as usize].call {
            call.stage = Stage::Answered { reply, ago: 0 };
        }
    }

    fn carry_out_stray(&self, state: &mut State, at: usize) {
        let stray = state.strays.remove(at);
        let (lease, before) = (stray.lease, state.server.key);
        match stray.asks {
            Asks::Acquire { .. } => {
                let wait = if self.config.wait == FOREVER { FOREVER } else { 1 };
                let reply =
                    self.at_server(state, |server, world| server.acquire(lease, wait, world));
                state.judge(before, lease, false, reply);
            }
            Asks::Renew { .. } => {
                let reply = self.at_server(state, |server, world| server.renew(lease, world));
                state.judge(before, lease, true, reply);
            }
            Asks::Release { again } => {
                self.at_server(state, |server, world| server.release(lease, world));
                if before.is_some_and(|held| held.lease != lease) && state.server.key != before {
                    state.broken = Some(Broken::TakenFromAnother);
                }
                state.strays.extend(again.map(|from| Stray {
                    lease,
                    asks: Asks::Release { again: None },
                    from,
                    due: Some(from),
                }));
            }
        }
    }

    /// Runs a script, sends what it publishes, and judges what it granted.
    fn at_server<T>(
        &self,
        state: &mut State,
        script: impl FnOnce(&mut Server, &mut World<'_>) -> T,
    ) -> T {
        let before = state.server.clone();
        let mut world = World {
            clients: &self.config.clients,
            deaf: state.deaf,
            wall: if state.set_back { 0 } else { state.highest + 1 },
            mutant: self.config.mutant,
            pushed: Vec::new(),
        };
        let answer = script(&mut state.server, &mut world);
        let gone = |lease: Lease| state.tasks[lease.task as usize].phase == Phase::Gone;
        let pushed = world.pushed.into_iter().filter(|(lease, _)| !gone(*lease));
        let due = Some(DELAY);
        state.pushes.extend(pushed.map(|(lease, news)| Push {
            lease,
            news,
            ago: 0,
            from: 0,
            due,
            fresh: true,
        }));
        let known = before.key.map(|held| (held.lease, held.token));
        let granted = state.server.key.filter(|held| Some((held.lease, held.token)) != known);
        if let Some(granted) = granted {
            self.judge_grant(state, &before, granted);
        }
        state.highest = state.highest.max(state.server.counter.unwrap_or(0));
        answer
    }

    fn judge_grant(&self, state: &mut State, before: &Server, granted: Grant) {
        if granted.token <= state.highest && state.broken.is_none() {
            state.broken = Some(Broken::TokenFell);
        }
        let silent = before.window.filter(|_| before.key.is_none());
        let client = |place: &super::server::Place| self.config.client(place.lease.task);
        let place = before.queue.iter().position(|place| place.lease == granted.lease);
        let first = &before.queue[..place.unwrap_or(before.queue.len())];
        let waits = |place: &super::server::Place| {
            state.server.queue.iter().any(|still| still.lease == place.lease)
                && place.left > 0
                && !state.deaf.has(client(place))
                && Some(client(place)) != silent
        };
        if first.iter().any(waits) {
            state.broken = Some(Broken::Overtaken);
        }
        let own = place.map(|at| before.queue[at].left);
        if granted.mark == Mark::Granted && own == Some(0) {
            state.broken = Some(Broken::DeadWaiterServed);
        }
    }
}

impl State {
    /// Judges an answer by the grant that there was before it.
    fn judge(&mut self, before: Option<Grant>, lease: Lease, renews: bool, reply: Reply) {
        let own = before.filter(|held| held.lease == lease);
        if renews && own.is_none() && self.server.key.is_some_and(|held| held.lease == lease) {
            self.broken = Some(Broken::Revived);
        }
        if let Some(held) = own.filter(|held| !renews && held.mark != Mark::Revoked)
            && reply != (Reply::Granted { token: held.token })
        {
            self.broken = Some(Broken::RepeatRefused);
        }
    }

    /// Takes a way off the budget.
    fn pay(&mut self, way: Way) {
        let budget = &mut self.budget;
        let spent = match way {
            Way::AtOnce => return,
            Way::AnsweredLater | Way::CarriedOutLater => {
                budget.slow -= 1;
                return;
            }
            Way::Twice => &mut budget.repeated,
            Way::Delayed => &mut budget.delayed,
            Way::RequestLost | Way::AnswerLost => &mut budget.lost,
        };
        *spent -= 1;
        (self.calm, self.idle) = (0, 0);
    }

    fn lose_call(&mut self, task: u8) {
        if let Some(call) = &mut self.tasks[task as usize].call {
            call.stage = Stage::Lost;
        }
    }
}
