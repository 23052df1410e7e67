//! What a tick does: everything that is so long ago, or due in so long, moves on by one.

use super::{
    Asks, BOUND, Config, FOREVER, Heard, LOCAL_TICK_MS, Mutant, Phase, Stage, State, Task,
    properties::TOLD,
};

impl State {
    pub(super) fn tick(&mut self, config: &Config) {
        self.server.tick();
        let waits = |task: u8| {
            matches!(self.tasks[task as usize].phase, Phase::Waiting { .. })
                && self.is_live(config, task)
        };
        let holds = |task: u8| {
            State::believes(config, &self.tasks[task as usize]).is_some()
                && self.is_live(config, task)
        };
        let mut tasks = (0..).take(self.tasks.len());
        let idle = tasks.clone().any(waits) && !tasks.any(holds);
        self.idle = if idle { (self.idle + 1).min(BOUND + 1) } else { 0 };
        self.calm = (self.calm + 1).min(TOLD);
        self.tasks.iter_mut().for_each(Task::tick);
        let late = config.is(Mutant::LateTakesEffect);
        self.strays.retain(|stray| {
            stray.from = stray.from.saturating_sub(1);
            stray.due = stray.due.map(|due| due.saturating_sub(1));
            if let Asks::Acquire { within } | Asks::Renew { within } = &mut stray.asks {
                let in_time = *within > 0; // I9
                *within = within.saturating_sub(1);
                return in_time || late;
            }
            true
        });
        for push in &mut self.pushes {
            push.ago = (push.ago + 1).min(BOUND);
            push.fresh = false;
            push.from = push.from.saturating_sub(1);
            push.due = push.due.map(|due| due.saturating_sub(1));
        }
    }
}

impl Task {
    fn tick(&mut self) {
        let down = |left: u8| if left == FOREVER { FOREVER } else { left.saturating_sub(1) };
        match &mut self.phase {
            Phase::Waiting { ends, look } => (*ends, *look) = (down(*ends), down(*look)),
            Phase::Holding { promise, .. } => *promise = promise.tick(),
            Phase::Idle | Phase::Gone => {}
        }
        if let Some(call) = &mut self.call {
            call.ago = (call.ago + 1).min(BOUND);
            if let Stage::Answered { ago, .. } = &mut call.stage {
                *ago = (*ago + 1).min(BOUND);
            }
        }
        self.unanswered = self.unanswered.map(|left| left.saturating_sub(1)).filter(|l| *l > 0);
        // An old reading is worth little, and a look brings a new one.
        let reading = self.reading.filter(|(sent, _)| *sent < BOUND);
        self.reading = reading.map(|(sent, done)| (sent + 1, done + 1));
        let step = i16::try_from(LOCAL_TICK_MS).unwrap_or_default();
        match &mut self.seat {
            Some(Heard::Ends { left }) => *left = left.saturating_sub(1),
            Some(Heard::Granted { left_ms, .. }) => *left_ms = (*left_ms - step).max(-1),
            _ => {}
        }
    }
}
