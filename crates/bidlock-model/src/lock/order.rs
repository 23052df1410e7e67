//! One state for many: tokens by their order, and tasks in an order of their own.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::server::{Lease, News, Reply};
use super::{Clients, Config, Heard, Phase, Stage, State};

impl State {
    /// Puts the state in the form that stands for all that differ from it in names alone.
    pub(super) fn settle(&mut self, config: &Config) {
        self.number_tokens();
        if config.symmetric {
            self.order_tasks(config);
        }
        if self.strays.len() > 1 {
            self.strays.sort_by_cached_key(|stray| (stray.lease, hash(stray)));
        }
        if self.pushes.len() > 1 {
            self.pushes.sort_by_cached_key(|push| (push.lease, hash(push)));
        }
    }

    /// Tokens have no size, only an order: the lowest that matters is 1.
    fn number_tokens(&mut self) {
        let mut known = Vec::new();
        self.each_token(|token| known.push(*token));
        known.push(0);
        known.sort_unstable();
        known.dedup();
        self.each_token(|token| {
            let place = known.binary_search(token).unwrap_or_default();
            *token = u8::try_from(place).unwrap_or(u8::MAX);
        });
    }

    fn each_token(&mut self, mut visit: impl FnMut(&mut u8)) {
        for token in [&mut self.highest, &mut self.voided, &mut self.revoked] {
            visit(token);
        }
        self.server.counter.as_mut().map(&mut visit);
        self.server.key.as_mut().map(|held| &mut held.token).map(&mut visit);
        for push in &mut self.pushes {
            if let News::Granted { token } = &mut push.news {
                visit(token);
            }
        }
        for task in &mut self.tasks {
            if let Phase::Holding { token, .. } = &mut task.phase {
                visit(token);
            }
            if let Some(Heard::Granted { token, .. }) = &mut task.seat {
                visit(token);
            }
            let stage = task.call.as_mut().map(|call| &mut call.stage);
            if let Some(Stage::Answered { reply: Reply::Granted { token }, .. }) = stage {
                visit(token);
            }
        }
    }

    /// Tasks of clients with one task each are alike: they stand in the order of what they are
    /// at. States that tie there stand for themselves, which costs states and nothing else.
    fn order_tasks(&mut self, config: &Config) {
        let mut order: Vec<u8> = (0..).take(self.tasks.len()).collect();
        order.sort_by_cached_key(|task| self.looks(config, *task));
        let mut place = vec![0_u8; order.len()];
        for (to, from) in (0_u8..).zip(&order) {
            place[*from as usize] = to;
        }
        let from = |to: usize| order[to] as usize;
        self.tasks = (0..order.len()).map(|to| self.tasks[from(to)]).collect();
        for clients in [&mut self.paused, &mut self.deaf] {
            let mut moved = Clients::default();
            (0_u8..).zip(&order).for_each(|(to, from)| moved.set(to, clients.has(*from)));
            *clients = moved;
        }
        let name = |lease: &mut Lease| lease.task = place[lease.task as usize];
        self.server.key.as_mut().map(|held| &mut held.lease).map(name);
        self.server.revoked.as_mut().map(|(lease, _)| lease).map(name);
        self.server.queue.iter_mut().map(|place| &mut place.lease).for_each(name);
        self.server.window = self.server.window.map(|client| place[client as usize]);
        self.strays.iter_mut().map(|stray| &mut stray.lease).for_each(name);
        self.pushes.iter_mut().map(|push| &mut push.lease).for_each(name);
    }

    /// All that tells one task from another, without its name.
    fn looks(&self, config: &Config, task: u8) -> u64 {
        let mut hasher = DefaultHasher::new();
        let (client, server) = (config.client(task), &self.server);
        let own = self.tasks[task as usize];
        (own, self.paused.has(client), self.deaf.has(client)).hash(&mut hasher);
        server.key.filter(|held| held.lease.task == task).map(|h| h.lease.number).hash(&mut hasher);
        (server.window == Some(client)).hash(&mut hasher);
        let revoked = server.revoked.filter(|(lease, _)| lease.task == task);
        revoked.map(|(lease, _)| lease.number).hash(&mut hasher);
        for (at, place) in server.queue.iter().enumerate() {
            if place.lease.task == task {
                (at, place.lease.number).hash(&mut hasher);
            }
        }
        let strays = self.strays.iter().filter(|stray| stray.lease.task == task);
        let mut about: Vec<_> =
            strays.map(|s| hash(&(s.lease.number, s.asks, s.from, s.due))).collect();
        let pushes = self.pushes.iter().filter(|push| push.lease.task == task);
        about.extend(pushes.map(|p| hash(&(p.lease.number, p.news, p.ago, p.from, p.due))));
        about.sort_unstable();
        about.hash(&mut hasher);
        hasher.finish()
    }
}

fn hash(of: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
