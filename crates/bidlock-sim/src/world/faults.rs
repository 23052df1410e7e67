//! How things go wrong.

use super::{Due, World};
use crate::exec::ProcessId;
use crate::net::Way;
use crate::plan::Fault;
use crate::redis::{Db, Refusing};
use crate::time::{Micros, Time};
use crate::trace::note;

/// After so long a process that ended with the ledger's is started again.
const RESTART: Micros = 400_000;

impl World<'_> {
    pub(super) fn fault(&mut self, fault: Fault) {
        let now = self.time.now();
        self.cover(fault);
        match fault {
            Fault::Cut { client, delivers } => {
                self.net.cut(Some(client), delivers);
                self.slots[client].disturbed_until(now);
            }
            Fault::CutAll { delivers } => {
                self.net.cut(None, delivers);
                self.slots.iter_mut().for_each(|slot| slot.disturbed_until(now));
            }
            Fault::Mute { client, length } => self.net.block(client, Way::ToServer, now + length),
            Fault::Deaf { client, length } => self.net.block(client, Way::ToClient, now + length),
            Fault::Gone { client, length } => {
                self.net.block(client, Way::ToServer, now + length);
                self.net.block(client, Way::ToClient, now + length);
            }
            Fault::Refused { client, length } => self.net.refuse(client, now + length),
            Fault::Crash { client, steps, after } => {
                self.slots[client].doomed = Some((steps, after));
            }
            Fault::PowerLoss { client, after } => self.end(client, false, after),
            Fault::Pause { client, length } => self.pause(client, length),
            Fault::WallStep { client, micros } => self.slots[client].clock.set_off(micros),
            Fault::ServerPause { length } => {
                self.net.server_frozen(now + length);
                self.server_ill(length);
            }
            Fault::Restart { length } => self.restart(None, length),
            Fault::RestartEmpty { length } => self.restart(Some(Db::default()), length),
            Fault::RestartStale { length, ago } => {
                self.watch.facts().restored = true;
                let old = self.as_it_was(ago);
                self.restart(Some(old), length);
            }
            Fault::Failover { ago, step } => {
                self.watch.facts().restored = true;
                let old = self.as_it_was(ago);
                self.step_server(step);
                self.restart(Some(old), 200_000);
            }
            Fault::FlushAll => {
                self.server.clear();
                self.forgotten();
            }
            Fault::ScriptFlush => self.server.forget_scripts(),
            Fault::ServerStep { micros } => self.step_server(micros),
            Fault::Memory { length } => self.refuse(Refusing::Memory, length),
            Fault::ReadOnly { length } => self.refuse(Refusing::Writes, length),
            Fault::Loading { length } => self.refuse(Refusing::Everything, length),
            Fault::LedgerDown { length } => self.way.trouble().down = now + length,
            Fault::LedgerLoses { length } => self.way.trouble().loses = now + length,
            Fault::LedgerEnds { steps, length, takes_caller } => {
                self.way.trouble().end = (length, takes_caller);
                self.way.site.end_after(steps);
            }
            Fault::Slow { client, delay, length } => {
                self.net.set_delay(client, (delay / 2, delay));
                self.slots[client].disturbed_until(now + length);
                self.at(now + length, Due::Delay(client, self.plan.delays[client]));
            }
        }
    }

    fn cover(&mut self, fault: Fault) {
        let mut facts = self.watch.facts();
        let is = |state: &[u8]| {
            let mut locks = facts.keys.values().filter_map(|view| view.lock.as_ref());
            locks.any(|lock| state.contains(&lock.state))
        };
        let waits = facts.keys.values().any(|view| !view.queue.is_empty());
        let (held, during_window, revoked) = (is(b"hw"), is(b"g"), is(b"r"));
        let coverage = &mut facts.coverage;
        coverage.count(kind_of(fault));
        coverage.meets(kind_of(fault), [held, waits, during_window, revoked]);
        if during_window {
            coverage.count(match fault {
                Fault::Restart { .. } | Fault::RestartEmpty { .. } => {
                    "server restart in the middle of a hand-over"
                }
                Fault::RestartStale { .. } | Fault::Failover { .. } => {
                    "old data in the middle of a hand-over"
                }
                Fault::Crash { .. } | Fault::PowerLoss { .. } => {
                    "client ends in the middle of a hand-over"
                }
                Fault::Pause { .. } => "client stops in the middle of a hand-over",
                _ => "another fault in the middle of a hand-over",
            });
        }
    }

    /// The server's data as it was so long ago.
    fn as_it_was(&self, ago: Micros) -> Db {
        let at = self.time.now().saturating_sub(ago);
        let found = self.history.iter().rev().find(|(then, _)| *then <= at);
        found.map(|(_, db)| db.clone()).unwrap_or_default()
    }

    fn restart(&mut self, data: Option<Db>, length: u64) {
        let now = self.time.now();
        for connection in self.net.server_ended() {
            self.server.close(connection);
        }
        self.server.forget_everybody();
        self.net.server_down(now + length);
        if let Some(data) = data {
            self.server.replace(data);
            self.forgotten();
        }
        self.server_ill(length);
    }

    /// The server has another state than it has told.
    fn forgotten(&mut self) {
        let now = self.time.now();
        self.server.at(self.clock.micros());
        let mut facts = self.watch.facts();
        facts.forgot = Some(now);
        let keys: Vec<String> = facts.keys.keys().cloned().collect();
        for key in keys {
            let view = crate::look::key(self.server, &key);
            facts.keys.insert(key, view);
        }
    }

    fn step_server(&mut self, micros: i64) {
        self.clock.step(micros);
        if micros > 0 {
            let mut facts = self.watch.facts();
            facts.jumped = true;
            facts.forgot = Some(self.time.now());
        }
    }

    fn refuse(&mut self, what: Refusing, length: u64) {
        self.server.refuse(what);
        self.server_ill(length);
    }

    /// The server will be well again.
    fn server_ill(&mut self, length: u64) {
        let at = self.time.now() + length;
        self.answers_since = self.answers_since.max(at);
        self.at(at, Due::ServerWell);
    }

    pub(super) fn server_well(&mut self) {
        if self.time.now() >= self.answers_since {
            self.server.refuse(Refusing::Nothing);
            note!(self.trace, "server", "is well");
        }
    }

    /// A process stands still for a while; its clocks go on.
    fn pause(&mut self, client: usize, length: u64) {
        let until = self.time.now() + length;
        let slot = &mut self.slots[client];
        let Some(env) = &slot.env else { return };
        if slot.frozen_until < self.time.now() {
            slot.frozen_at = self.time.now();
        }
        slot.frozen_until = slot.frozen_until.max(until);
        self.exec.freeze(env.process, true);
        self.watch.facts().frozen.insert(env.process, slot.frozen_until + 100_000);
        self.at(until, Due::Thaw(client));
    }

    pub(super) fn thaw(&mut self, client: usize) {
        let slot = &self.slots[client];
        if let Some(env) = slot.env.as_ref().filter(|_| slot.frozen_until <= self.time.now()) {
            self.exec.freeze(env.process, false);
            if self.mutants.sleeps {
                slot.clock.miss(self.time.now() - slot.frozen_at);
            }
            note!(self.trace, &env.name, "goes on");
        }
    }

    /// Counts down the steps of a process that is to end.
    pub(super) fn doom(&mut self, process: ProcessId) {
        let runs = |env: &crate::client::Env| env.process == process;
        let Some(client) = self.slots.iter().position(|s| s.env.as_ref().is_some_and(runs)) else {
            return;
        };
        match self.slots[client].doomed {
            Some((0, after)) => self.end(client, true, after),
            Some((steps, after)) => self.slots[client].doomed = Some((steps - 1, after)),
            None => {}
        }
    }

    /// A process ends that was one with the ledger's.
    pub(super) fn ended_with_the_ledger(&mut self) {
        let ended = self.way.trouble().ended.take();
        let runs = |env: &crate::client::Env| Some(env.process) == ended;
        if let Some(client) = self.slots.iter().position(|s| s.env.as_ref().is_some_and(runs)) {
            self.watch.facts().coverage.count("ledger: crash with the caller's process");
            self.end(client, true, RESTART);
        }
    }

    /// A process ends; `delivers` what it has sent, or not.
    fn end(&mut self, client: usize, delivers: bool, after: u64) {
        let slot = &mut self.slots[client];
        slot.doomed = None;
        slot.frozen_until = 0;
        let Some(env) = slot.env.take() else { return };
        note!(self.trace, &env.name, "process {} ends", env.process);
        self.watch.died(env.process);
        self.net.abandon(env.process, delivers);
        self.exec.kill(env.process);
        let now: Micros = Time::now(&self.time);
        self.at(now + after, Due::Start(client));
    }
}

fn kind_of(fault: Fault) -> &'static str {
    match fault {
        Fault::Cut { .. } | Fault::CutAll { .. } => "fault: connections cut",
        Fault::Mute { .. } => "fault: nothing reaches the server",
        Fault::Deaf { .. } => "fault: nothing reaches a client",
        Fault::Gone { .. } => "fault: nothing passes",
        Fault::Refused { .. } => "fault: connections refused",
        Fault::Crash { .. } => "fault: process ended",
        Fault::PowerLoss { .. } => "fault: machine without power",
        Fault::Pause { .. } => "fault: process stopped",
        Fault::WallStep { .. } => "fault: a client's wall clock stepped",
        Fault::ServerPause { .. } => "fault: server stopped",
        Fault::Restart { .. } => "fault: server restarted with its data",
        Fault::RestartEmpty { .. } => "fault: server restarted without data",
        Fault::RestartStale { .. } => "fault: server restarted with old data",
        Fault::Failover { .. } => "fault: failover to a replica",
        Fault::FlushAll => "fault: FLUSHALL",
        Fault::ScriptFlush => "fault: SCRIPT FLUSH",
        Fault::ServerStep { .. } => "fault: the server's clock stepped",
        Fault::Memory { .. } => "fault: no memory",
        Fault::ReadOnly { .. } => "fault: read-only",
        Fault::Loading { .. } => "fault: loading",
        Fault::LedgerDown { .. } => "fault: the ledger cannot be reached",
        Fault::LedgerLoses { .. } => "fault: requests and answers of the ledger lost",
        Fault::LedgerEnds { .. } => "fault: the ledger's process ends in a transaction",
        Fault::Slow { .. } => "fault: slow network",
    }
}
