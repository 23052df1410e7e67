//! What clients do: the waits of `acquire.rs` and the care for leases of `held.rs`, as far as they
//! decide anything.

use super::server::{Lease, News, Reply};
use super::{
    Asks, Call, Config, DELAY, FOREVER, Heard, LOCAL_TICK_MS, Mutant, Phase, Promise, Push, Stage,
    State, Stray, Task, WINDOW, WITHIN, ticks_ago,
};

impl State {
    /// Asks for the key, for the first time or again.
    pub(super) fn ask(&mut self, config: &Config, task: u8) {
        let own = &mut self.tasks[task as usize];
        let ends = match own.phase {
            Phase::Waiting { ends, .. } => ends,
            _ => config.wait,
        };
        own.phase = Phase::Waiting { ends, look: FOREVER };
        own.call = Some(Call { renews: false, ago: 0, within: WITHIN, stage: Stage::Sent });
    }

    /// Asks for a longer life.
    pub(super) fn renew(&mut self, task: u8) {
        let own = &mut self.tasks[task as usize];
        if let Phase::Holding { hurry, .. } = &mut own.phase {
            *hurry = false;
        }
        own.call = Some(Call { renews: true, ago: 0, within: WITHIN, stage: Stage::Sent });
    }

    /// Whether it is time for a holder to renew.
    pub(super) fn renews_now(config: &Config, task: &Task) -> bool {
        let Phase::Holding { promise, confirmed, hurry, .. } = task.phase else { return false };
        task.call.is_none()
            && Self::believes(config, task).is_some()
            && (hurry || !confirmed || promise.belief(config).renew_at() <= ticks_ago(0))
    }

    /// Reads the answer to a request.
    pub(super) fn deliver(&mut self, config: &Config, task: u8) {
        let own = &mut self.tasks[task as usize];
        let Some(Call { ago, stage: Stage::Answered { reply, ago: done }, .. }) = own.call.take()
        else {
            return;
        };
        own.reading = Some((ago, done));
        match (own.phase, reply) {
            (Phase::Waiting { .. }, Reply::Granted { token }) => {
                own.seat = None;
                let ago = if config.is(Mutant::BeliefFromReply) { 0 } else { ago };
                self.hold(config, task, Promise::Asked { ago }, token, true);
            }
            (Phase::Waiting { ends, .. }, Reply::Held { left }) => {
                let look = if config.is(Mutant::NotifyOnlyWait) { FOREVER } else { left };
                own.phase = Phase::Waiting { ends, look };
                if let Some(news) = own.seat.take().filter(|_| ends > 0) {
                    self.hear(config, task, news);
                }
            }
            (Phase::Holding { promise, token, hurry, .. }, Reply::Renewed) => {
                let ago = if config.is(Mutant::BeliefFromReply) { 0 } else { ago };
                let promise = promise.renewed(config, ago);
                own.phase = Phase::Holding { promise, token, confirmed: true, hurry };
            }
            (Phase::Holding { .. }, Reply::Lost) => self.finish(config, task), // I4
            _ => {}
        }
    }

    /// Learns that no answer comes.
    pub(super) fn fail(&mut self, config: &Config, task: u8) {
        let own = &mut self.tasks[task as usize];
        let Some(call) = own.call.take() else { return };
        match &mut own.phase {
            Phase::Holding { hurry, .. } => *hurry = true,
            Phase::Waiting { .. } if config.is(Mutant::ErrorIsSuccess) => {
                self.hold(config, task, Promise::Asked { ago: call.ago }, 0, true);
            }
            Phase::Waiting { look, .. } => {
                *look = 0;
                own.unanswered = Some(call.dies_in()).max(own.unanswered);
            }
            Phase::Idle | Phase::Gone => {}
        }
    }

    /// Makes a lease of a grant, unless its time is over already.
    fn hold(&mut self, config: &Config, task: u8, promise: Promise, token: u8, confirmed: bool) {
        let own = &mut self.tasks[task as usize];
        let Phase::Waiting { ends, .. } = own.phase else { return };
        own.phase = Phase::Holding { promise, token, confirmed, hurry: false };
        own.reading = None;
        if Self::believes(config, own).is_none() {
            own.phase = Phase::Waiting { ends, look: 0 };
        } else {
            self.idle = 0;
        }
    }

    /// Takes in news while it waits and nothing of it is under way.
    fn hear(&mut self, config: &Config, task: u8, news: Heard) {
        let own = &mut self.tasks[task as usize];
        let Phase::Waiting { look, .. } = &mut own.phase else { return };
        match news {
            Heard::Ends { left } => *look = left.min(*look),
            Heard::Look => *look = 0,
            Heard::Granted { token, ago, left_ms } => {
                *look = 0;
                self.hold(config, task, Promise::Pushed { ago, left_ms }, token, false);
            }
        }
    }

    /// Takes a message in.
    pub(super) fn take_push(&mut self, config: &Config, at: usize) {
        let Push { lease, news, ago, .. } = self.pushes.remove(at);
        let own = &mut self.tasks[lease.task as usize];
        let known = own.number == lease.number;
        match &mut own.phase {
            Phase::Holding { hurry, .. } if known => *hurry = true,
            Phase::Waiting { .. } if known => {
                let heard = read(config, own, news, ago);
                if own.call.is_none() {
                    self.hear(config, lease.task, heard);
                } else if own.seat.is_none() || !matches!(heard, Heard::Ends { .. }) {
                    own.seat = Some(heard);
                }
            }
            // A grant for nobody is given back at once.
            _ if matches!(news, News::Granted { .. }) => self.send_release(lease, None),
            _ => {}
        }
    }

    /// Gives up a lease, or a wait for one, and releases whatever the server may have for it.
    pub(super) fn finish(&mut self, config: &Config, task: u8) {
        let own = &mut self.tasks[task as usize];
        let lease = Lease { task, number: own.number };
        let mut again = own.unanswered;
        if let Some(call) = own.call {
            if !call.renews {
                again = again.max(Some(call.dies_in()));
            }
            if call.stage == Stage::Sent {
                let from = DELAY.saturating_sub(call.ago);
                let asks = call.asks();
                self.strays.push(Stray { lease, asks, from, due: Some(from) });
            }
        }
        *own = Task { number: own.number + 1, ..Task::new() };
        self.send_release(lease, again.filter(|_| !config.is(Mutant::ReleasedOnce)));
    }

    fn send_release(&mut self, lease: Lease, again: Option<u8>) {
        self.strays.push(Stray { lease, asks: Asks::Release { again }, from: 0, due: Some(DELAY) });
    }

    /// A client's process ends without a word.
    pub(super) fn crash(&mut self, config: &Config, client: u8, half_open: bool) {
        self.paused.set(client, false);
        self.deaf.set(client, !half_open);
        let dead = |lease: Lease| config.client(lease.task) == client;
        self.pushes.retain(|push| !dead(push.lease));
        self.strays.retain(|stray| !dead(stray.lease) || stray.from == 0);
        for stray in self.strays.iter_mut().filter(|stray| dead(stray.lease)) {
            stray.due = None;
            if let Asks::Release { again } = &mut stray.asks {
                *again = None;
            }
        }
        for task in 0..self.tasks.len() {
            let own = &mut self.tasks[task];
            let task = u8::try_from(task).unwrap_or_default();
            if config.client(task) != client {
                continue;
            }
            let lease = Lease { task, number: own.number };
            let sent = own.call.filter(|call| call.stage == Stage::Sent);
            *own = Task { number: own.number, phase: Phase::Gone, ..Task::new() };
            let asks = sent.map(Call::asks);
            self.strays.extend(asks.map(|asks| Stray { lease, asks, from: 0, due: None }));
        }
    }
}

impl Task {
    pub(super) const fn new() -> Self {
        let (call, unanswered, seat, reading) = (None, None, None, None);
        Self { number: 0, phase: Phase::Idle, call, unanswered, seat, reading }
    }
}

impl Call {
    /// In how many ticks it can take effect no more.
    pub(super) const fn dies_in(self) -> u8 {
        (self.within + 1).saturating_sub(self.ago)
    }

    /// What it asks for, as a request that nobody waits for any more.
    pub(super) const fn asks(self) -> Asks {
        let within = self.within.saturating_sub(self.ago);
        if self.renews { Asks::Renew { within } } else { Asks::Acquire { within } }
    }
}

/// What a client makes of a message. A grant that was pushed is believed from a reading of the
/// server's clock on (I3), as `ServerTime::believed_until` of the Redis store works it out.
fn read(config: &Config, own: &Task, news: News, ago: u8) -> Heard {
    let News::Granted { token } = news else {
        return if news == News::Ends { Heard::Ends { left: WINDOW } } else { Heard::Look };
    };
    let window = i16::from(WINDOW) * 1_000;
    let left_ms = if config.is(Mutant::PushedFromReceipt) {
        Some(window)
    } else {
        own.reading.map(|(sent, done)| {
            let since = (i16::from(done) - i16::from(ago)) * 1_000;
            let length = since + window - (since.abs() + window) / 100;
            let local = i16::try_from(LOCAL_TICK_MS).unwrap_or_default();
            (length - i16::from(sent) * local).min(window)
        })
    };
    match left_ms.filter(|left| *left > 0) {
        Some(left_ms) => Heard::Granted { token, ago: 0, left_ms },
        None => Heard::Look,
    }
}
