use std::collections::BTreeMap;

use crate::{Call, Did};

/// Checks the calls of one key by the order of their tokens, in O(n log n): tokens rise in real
/// time, each belongs to one lease, the times for which different leases could believe that they
/// had the key do not meet, and nothing comes of a lease that is over.
///
/// # Errors
/// The calls that cannot be, in words.
pub fn order(calls: &[Call]) -> Result<(), String> {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| (call.invoked, call.returned));
    let stays = stays(&calls)?;
    tokens_rise(&calls)?;
    apart(&stays)?;
    nothing_after_the_end(&calls, &stays)
}

/// The time in which one lease could believe that it had the key by one token.
#[derive(Debug, Clone, Copy)]
struct Stay {
    lease: u64,
    token: u64,
    from: u64,
    until: u64,
}

/// Works out all stays, by token.
fn stays(calls: &[Call]) -> Result<Vec<Stay>, String> {
    let mut stays: BTreeMap<u64, Stay> = BTreeMap::new();
    let mut latest: BTreeMap<u64, u64> = BTreeMap::new();
    let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
    let mut seen: Vec<&Call> = calls.iter().collect();
    // What a client knows, it knows from the answer on; what it gives up, from the request on.
    seen.sort_by_key(|call| match call.did {
        Did::Released | Did::NotOurs | Did::MaybeReleased => call.invoked,
        _ => call.returned,
    });
    for call in seen {
        let until = call.believed_until().unwrap_or_default();
        match call.did {
            Did::Granted { token, .. } | Did::Pushed { token, .. } => {
                // Nobody believes in a grant that is heard of after the lease was given up.
                let over = ends.get(&call.lease).is_some_and(|end| *end <= call.returned);
                let until = if over { call.returned } else { until };
                let new = Stay { lease: call.lease, token, from: call.returned, until };
                let stay = stays.entry(token).or_insert(new);
                if stay.lease != call.lease {
                    return Err(format!("two leases have token {token}: {stay:?} and {call:?}"));
                }
                if !over {
                    stay.until = stay.until.max(until);
                }
                let known = latest.entry(call.lease).or_insert(token);
                *known = (*known).max(token);
            }
            Did::Renewed { .. } if !ends.contains_key(&call.lease) => {
                if let Some(stay) = latest.get(&call.lease).and_then(|token| stays.get_mut(token)) {
                    stay.until = stay.until.max(until);
                }
            }
            Did::Released | Did::NotOurs | Did::MaybeReleased | Did::Lost => {
                let at = if call.did == Did::Lost { call.returned } else { call.invoked };
                ends.entry(call.lease).or_insert(at);
                if let Some(stay) = latest.get(&call.lease).and_then(|token| stays.get_mut(token)) {
                    stay.until = stay.until.min(at);
                }
            }
            _ => {}
        }
    }
    Ok(stays.into_values().collect())
}

/// A grant that was asked for after another one was known has the higher token, or is a repeat of
/// it (I1, I8).
fn tokens_rise(calls: &[Call]) -> Result<(), String> {
    let mut known: Vec<&Call> = calls.iter().filter(|call| call.token().is_some()).collect();
    let asked = known.clone();
    known.sort_by_key(|call| call.returned);
    let mut known = known.into_iter().peekable();
    let mut highest: Option<&Call> = None;
    for call in asked {
        while let Some(before) = known.next_if(|before| before.returned < call.invoked) {
            if highest.is_none_or(|highest| before.token() > highest.token()) {
                highest = Some(before);
            }
        }
        if let Some(before) = highest
            && (call.token() < before.token()
                || call.token() == before.token() && call.lease != before.lease)
        {
            return Err(format!("tokens fell: {before:?}, then {call:?}"));
        }
    }
    Ok(())
}

/// No two leases believe at once (P2).
fn apart(stays: &[Stay]) -> Result<(), String> {
    let mut last: Option<&Stay> = None;
    for stay in stays.iter().filter(|stay| stay.until > stay.from) {
        if let Some(before) = last
            && before.lease != stay.lease
            && before.until > stay.from
        {
            return Err(format!("two believe at once: {before:?} and {stay:?}"));
        }
        if last.is_none_or(|before| stay.until > before.until) {
            last = Some(stay);
        }
    }
    Ok(())
}

/// A lease that somebody else's grant has ended is renewed no more (I5).
fn nothing_after_the_end(calls: &[Call], stays: &[Stay]) -> Result<(), String> {
    let highest: BTreeMap<u64, u64> = stays.iter().map(|stay| (stay.lease, stay.token)).collect();
    // By token, the earliest moment at which it or a higher one was known.
    let mut known: Vec<(u64, u64)> = stays.iter().map(|stay| (stay.token, stay.from)).collect();
    for at in (1..known.len()).rev() {
        known[at - 1].1 = known[at - 1].1.min(known[at].1);
    }
    for call in calls {
        let Did::Renewed { .. } = call.did else { continue };
        let Some(own) = highest.get(&call.lease) else {
            return Err(format!("renewed, and never granted: {call:?}"));
        };
        let next = known.partition_point(|(token, _)| token <= own);
        if let Some((token, since)) = known.get(next).filter(|(_, since)| *since < call.invoked) {
            return Err(format!("renewed after {since}, when token {token} was known: {call:?}"));
        }
    }
    Ok(())
}
