//! What holds in every state, each with its number in `docs/protocol.md`.

use bidlock_ledger::{Event, State as Stored};
use stateright::Property;

use super::{Broken, Ledger, Market, Phase, State};

fn always(name: &'static str, holds: fn(&Ledger, &State) -> bool) -> Property<Ledger> {
    Property::always(name, holds)
}

fn sometimes(name: &'static str, is_so: fn(&Ledger, &State) -> bool) -> Property<Ledger> {
    Property::sometimes(name, is_so)
}

/// With a sender that stalls and a person who vouches for its end without knowing, two bids are
/// possible: `docs/protocol.md` names that hole, and here it has to be found.
pub(super) fn all(has_hole: bool) -> Vec<Property<Ledger>> {
    let mut all = rules();
    if has_hole {
        all.push(sometimes("the hole that nothing closes", |_, state| {
            state.broken == Some(Broken::SecondSubmission)
        }));
        return all;
    }
    all.push(always("P1 one bid", |_, state| state.bids() <= 1));
    all.push(always("P1 nothing starts while another may have happened", |_, state| {
        state.broken != Some(Broken::SecondSubmission)
    }));
    all.push(always("P1 one attempt at most is uncertain", |model, state| {
        let uncertain = |row: &u8| state.may_have_happened(&model.config, *row);
        (0..).take(state.rows.len()).filter(uncertain).count() <= 1
    }));
    all.extend(reached());
    all
}

fn rules() -> Vec<Property<Ledger>> {
    vec![
        always("L1 one open attempt", |_, state| {
            state.rows.iter().filter(|row| row.state != Stored::Abandoned).count() <= 1
        }),
        always("L2 start is answered yes once", |_, state| {
            state.rows.iter().all(|row| row.starts <= 1)
        }),
        always("L3 old tokens are turned away", |_, state| {
            state.broken != Some(Broken::OldTokenTaken)
        }),
        always("L4, L6 no way back, and no way out by age", |_, state| {
            state.broken != Some(Broken::WayBack)
        }),
        always("L5 silence is doubt", |_, state| {
            let late = |left: Option<i8>| left.is_some_and(|left| left <= 0);
            state.rows.iter().all(|row| !late(row.left) || row.read() != Stored::Started)
        }),
        always("L8 outcomes need no lease", |_, state| {
            state.broken != Some(Broken::OutcomeRefused)
        }),
        always("L9 the payload is fixed at the start", |_, state| {
            state.broken != Some(Broken::OtherPayload)
        }),
        always("L10 only what is over is pruned", |_, state| {
            state.broken != Some(Broken::OpenOnePruned)
        }),
        always("a bid that is known is at the marketplace", |_, state| {
            state.rows.iter().all(|row| {
                row.state != Stored::Placed || matches!(row.market, Market::Placed { .. })
            })
        }),
    ]
}

fn reached() -> Vec<Property<Ledger>> {
    vec![
        sometimes("a reserved attempt is taken over", |_, state| {
            state.rows.iter().any(|row| row.event == Event::TakenOver)
        }),
        sometimes("a higher token meets a started attempt", |_, state| {
            state.rows.iter().any(|row| row.event == Event::Doubted)
        }),
        sometimes("a bid in doubt is found", |_, state| {
            state.rows.iter().any(|row| row.event == Event::ResolvedPlaced)
        }),
        sometimes("a person opens a posting whose sender is dead", |_, state| {
            let by_hand = [Event::ResolvedNotSent, Event::ResolvedSenderGone];
            state.rows.iter().any(|row| by_hand.contains(&row.event))
        }),
        sometimes("an outcome comes for an attempt that is closed", |_, state| {
            state.bidders.iter().any(|bidder| match bidder.phase {
                Phase::Sent { row, .. } => state.rows[row as usize].state == Stored::Abandoned,
                _ => false,
            })
        }),
        sometimes("an attempt is sent again and placed", |_, state| {
            state.rows.iter().any(|row| row.resent && row.state == Stored::Placed)
        }),
        sometimes("a placed bid is forgotten", |_, state| state.forgotten > 0),
        sometimes("a withdrawn posting is bid on again", |_, state| {
            let mut rows = state.rows.iter();
            rows.any(|row| row.market == Market::Withdrawn) && state.bids() > 0
        }),
    ]
}
