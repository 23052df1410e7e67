//! What holds in every state, each with its number in `docs/protocol.md`, and what has to be
//! reached for that to mean anything.

use stateright::Property;

use super::server::{Lease, Mark, News};
use super::{BOUND, Broken, DELAY, Lock, Phase, State};

/// A holder is told of a loss within so many ticks: its next renewal, and the way there and back.
pub(super) const TOLD: u8 = 1 + 2 * DELAY;

pub(super) fn all() -> Vec<Property<Lock>> {
    let mut all = promises();
    all.extend(rules());
    all.extend(reached());
    all
}

fn always(name: &'static str, holds: fn(&Lock, &State) -> bool) -> Property<Lock> {
    Property::always(name, holds)
}

fn sometimes(name: &'static str, is_so: fn(&Lock, &State) -> bool) -> Property<Lock> {
    Property::sometimes(name, is_so)
}

fn promises() -> Vec<Property<Lock>> {
    vec![
        always("P2 one holder", |model, state| {
            believers(model, state).filter(|(_, token)| state.covered(*token)).count() <= 1
        }),
        always("P3 tokens rise", |_, state| state.broken != Some(Broken::TokenFell)),
        always("P4 nobody is forgotten", |_, state| state.idle <= BOUND),
        always("P5 nothing runs without a grant", |_, state| {
            let founded = |phase| !matches!(phase, Phase::Holding { token: 0, .. });
            state.tasks.iter().all(|task| founded(task.phase))
        }),
        always("P6 the holder knows first", |model, state| {
            let mut covered = believers(model, state).filter(|(_, token)| state.covered(*token));
            covered.all(|(lease, _)| has_key(state, lease))
        }),
        always("a holder is told of data loss and revocation", |model, state| {
            let revoked = state.server.key.filter(|held| held.mark == Mark::Revoked);
            state.calm < TOLD
                || believers(model, state).all(|(lease, _)| {
                    !state.is_live(&model.config, lease.task)
                        || has_key(state, lease) && revoked.is_none()
                })
        }),
    ]
}

fn rules() -> Vec<Property<Lock>> {
    vec![
        always("I2 only its lease releases a key", |_, state| {
            state.broken != Some(Broken::TakenFromAnother)
        }),
        always("I5 a renewal makes no grant", |_, state| state.broken != Some(Broken::Revived)),
        always("I6 first come, first served", |_, state| {
            !matches!(state.broken, Some(Broken::Overtaken | Broken::DeadWaiterServed))
        }),
        always("I6 the key tells of its queue", |_, state| {
            let queue = &state.server.queue;
            state.server.key.is_none_or(|held| held.mark != Mark::Held || queue.is_empty())
        }),
        always("I8 a repeat has the same token", |_, state| {
            state.broken != Some(Broken::RepeatRefused)
        }),
        always("I8 one place for a lease", |_, state| {
            let queue = &state.server.queue;
            let twice = |lease: Lease| queue.iter().filter(|p| p.lease == lease).count() > 1;
            let holds = state.server.key.map(|held| held.lease);
            queue.iter().all(|place| !twice(place.lease) && Some(place.lease) != holds)
        }),
        always("I10 everything ends", |_, state| {
            state.server.key.is_none_or(|held| held.left.is_some())
        }),
        always("I11 leaving leaves nothing", |_, state| {
            let over = |lease: Lease| {
                let own = &state.tasks[lease.task as usize];
                own.phase != Phase::Gone
                    && own.number > lease.number
                    && state.strays.iter().all(|stray| stray.lease != lease)
            };
            let key = state.server.key.map(|held| held.lease);
            let places = state.server.queue.iter().map(|place| place.lease);
            !key.into_iter().chain(places).any(over)
        }),
    ]
}

fn reached() -> Vec<Property<Lock>> {
    vec![
        sometimes("a window runs for a dead process", |_, state| {
            window(state).is_some_and(|lease| task(state, lease).phase == Phase::Gone)
        }),
        sometimes("a grant crosses its cancel", |_, state| {
            window(state).is_some_and(|lease| task(state, lease).number > lease.number)
        }),
        sometimes("a holder works on a message alone", |model, state| {
            believers(model, state).any(|(lease, _)| {
                matches!(task(state, lease).phase, Phase::Holding { confirmed: false, .. })
            })
        }),
        sometimes("a lease has the key and does not know", |_, state| {
            state.server.key.is_some_and(|held| {
                held.mark != Mark::Granted
                    && matches!(task(state, held.lease).phase, Phase::Waiting { look: 0, .. })
                    && task(state, held.lease).call.is_none()
            })
        }),
        sometimes("a grant comes for nobody", |_, state| {
            state.pushes.iter().any(|push| {
                matches!(push.news, News::Granted { .. })
                    && task(state, push.lease).number > push.lease.number
            })
        }),
        sometimes("two believe", |model, state| believers(model, state).count() > 1),
    ]
}

fn believers(model: &Lock, state: &State) -> impl Iterator<Item = (Lease, u8)> {
    let tasks = (0_u8..).zip(&state.tasks);
    tasks.filter_map(|(task, own)| {
        let token = State::believes(&model.config, own)?;
        Some((Lease { task, number: own.number }, token))
    })
}

fn has_key(state: &State, lease: Lease) -> bool {
    state.server.key.is_some_and(|held| held.lease == lease)
}

fn window(state: &State) -> Option<Lease> {
    state.server.key.filter(|held| held.mark == Mark::Granted).map(|held| held.lease)
}

fn task(state: &State, lease: Lease) -> &super::Task {
    &state.tasks[lease.task as usize]
}
