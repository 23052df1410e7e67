//! Histories that a correct lock has made always pass, and bad ones of each kind never do.

mod made;

use bidlock_history::{Call, Did, NEVER, Verdict, order, search};
use made::{MS, calls, without_waits};
use proptest::prelude::*;

const TTL: u64 = 300 * MS;

fn call(lease: u64, invoked: u64, returned: u64, did: Did) -> Call {
    Call { lease, invoked: invoked * MS, returned: returned * MS, did }
}

fn granted(lease: u64, invoked: u64, returned: u64, token: u64) -> Call {
    call(lease, invoked, returned, Did::Granted { token, ttl: TTL })
}

fn passes(history: &[Call]) {
    assert_eq!(order(history), Ok(()), "{history:#?}");
    assert_eq!(search(history), Verdict::Linearizable, "{history:#?}");
}

fn fails_by_order(history: &[Call]) {
    assert!(order(history).is_err(), "{history:#?}");
    fails_by_search(history);
}

fn fails_by_search(history: &[Call]) {
    assert!(matches!(search(history), Verdict::Not(_)), "{history:#?}");
}

#[test]
fn what_a_lock_does_passes() {
    passes(&[]);
    // One after the other, by release and by expiry.
    passes(&[
        granted(1, 0, 2, 10),
        call(2, 3, 4, Did::Held { waits: false }),
        call(1, 5, 6, Did::Released),
        granted(3, 6, 8, 11),
        granted(4, 307, 309, 12),
        call(3, 310, 311, Did::Lost),
        call(3, 312, 313, Did::NotOurs),
    ]);
    // A repeat has the same token, and a renewal carries on.
    passes(&[
        granted(1, 0, 2, 10),
        granted(1, 3, 5, 10),
        call(1, 100, 101, Did::Renewed { ttl: TTL }),
        call(2, 350, 360, Did::Held { waits: false }),
    ]);
    // The release begins in the microsecond in which its grant is answered.
    passes(&[
        granted(1, 0, 2, 10),
        call(2, 3, 4, Did::Held { waits: true }),
        call(1, 5, 6, Did::Released),
        granted(2, 7, 9, 11),
        call(2, 9, 10, Did::Released),
        granted(3, 11, 12, 12),
    ]);
    // Passed on to a waiter, by a message that came before the answer to the release.
    passes(&[
        granted(1, 0, 2, 10),
        call(2, 3, 5, Did::Held { waits: true }),
        call(1, 10, 20, Did::Released),
        call(2, 3, 15, Did::Pushed { token: 11, until: 200 * MS }),
        call(3, 16, 17, Did::Held { waits: false }),
        call(2, 18, 19, Did::Renewed { ttl: TTL }),
        call(2, 30, 31, Did::Released),
    ]);
}

#[test]
fn what_nobody_heard_of_may_have_happened_or_not() {
    let maybe = Did::MaybeAcquired { ttl: TTL, waits: false };
    passes(&[call(1, 0, 50, maybe), call(2, 5, 6, Did::Held { waits: false })]);
    passes(&[call(1, 0, 50, maybe), granted(2, 5, 6, 10)]);
    passes(&[
        granted(1, 0, 2, 10),
        Call { returned: NEVER, ..call(1, 5, 0, Did::MaybeReleased) },
        granted(2, 10, 12, 11),
    ]);
    // But not after its time.
    fails_by_search(&[call(1, 0, 50, maybe), call(2, 400, 401, Did::Held { waits: false })]);
    fails_by_search(&[
        granted(2, 0, 2, 10),
        call(2, 60, 61, Did::Released),
        call(1, 3, 50, maybe),
        call(3, 62, 63, Did::Held { waits: false }),
    ]);
}

#[test]
fn two_holders_are_found() {
    fails_by_order(&[granted(1, 0, 2, 10), granted(2, 50, 52, 11)]);
    fails_by_order(&[
        granted(1, 0, 2, 10),
        call(1, 200, 201, Did::Renewed { ttl: TTL }),
        granted(2, 320, 330, 11),
    ]);
    fails_by_order(&[
        granted(1, 0, 2, 10),
        call(2, 1, 20, Did::Pushed { token: 11, until: 90 * MS }),
    ]);
}

#[test]
fn tokens_that_fall_or_are_shared_are_found() {
    let free = |lease, at| call(lease, at, at + 1, Did::Released);
    fails_by_order(&[granted(1, 0, 2, 10), free(1, 3), granted(2, 5, 6, 9)]);
    fails_by_order(&[granted(1, 0, 2, 10), free(1, 3), granted(2, 5, 6, 10)]);
    fails_by_order(&[granted(1, 0, 2, 10), granted(1, 3, 4, 9)]);
    // A repeat with a new token, while the lease lives.
    fails_by_search(&[granted(1, 0, 2, 10), granted(1, 3, 4, 11)]);
}

#[test]
fn life_after_the_end_is_found() {
    fails_by_order(&[
        granted(1, 0, 2, 10),
        granted(2, 310, 312, 11),
        call(1, 320, 321, Did::Renewed { ttl: TTL }),
    ]);
    fails_by_order(&[call(1, 0, 1, Did::Renewed { ttl: TTL })]);
    fails_by_search(&[
        granted(1, 0, 2, 10),
        call(1, 5, 6, Did::Released),
        call(1, 7, 8, Did::Renewed { ttl: TTL }),
    ]);
    fails_by_search(&[granted(1, 0, 2, 10), call(1, 5, 6, Did::Lost)]);
}

#[test]
fn refusals_and_releases_without_cause_are_found() {
    fails_by_search(&[call(1, 0, 1, Did::Held { waits: false })]);
    fails_by_search(&[granted(1, 0, 2, 10), call(2, 400, 401, Did::Held { waits: false })]);
    fails_by_search(&[call(1, 0, 1, Did::Released)]);
    fails_by_search(&[granted(1, 0, 2, 10), call(1, 5, 6, Did::NotOurs)]);
    let twice = call(1, 7, 8, Did::Released);
    fails_by_search(&[granted(1, 0, 2, 10), call(1, 5, 6, Did::Released), twice]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_history_of_a_correct_lock_passes(history in calls(300)) {
        prop_assert_eq!(order(&history), Ok(()));
        prop_assert_eq!(search(&history), Verdict::Linearizable);
    }

    #[test]
    fn tokens_of_two_grants_changed_are_found(history in calls(120), pick in any::<usize>()) {
        let is_grant = |call: &Call| matches!(call.did, Did::Granted { .. });
        let grants: Vec<usize> = (0..history.len()).filter(|at| is_grant(&history[*at])).collect();
        let pairs: Vec<(usize, usize)> = grants.windows(2).map(|pair| (pair[0], pair[1]))
            .filter(|(one, two)| history[*one].lease != history[*two].lease)
            .filter(|(one, two)| history[*one].returned < history[*two].invoked)
            .collect();
        prop_assume!(!pairs.is_empty());
        let (one, two) = pairs[pick % pairs.len()];
        let mut bad = history;
        (bad[one].did, bad[two].did) = (bad[two].did, bad[one].did);
        prop_assert!(order(&bad).is_err());
        prop_assert!(matches!(search(&bad), Verdict::Not(_)));
    }

    #[test]
    fn a_grant_beside_a_holder_is_found(history in calls(120), pick in any::<usize>()) {
        // Only stays that nothing ended before their time, and that go on a while.
        let stays: Vec<&Call> = history.iter().filter(|call| {
            matches!(call.did, Did::Granted { .. })
                && !history.iter().any(|other| {
                    other.lease == call.lease
                        && !matches!(other.did, Did::Granted { .. } | Did::Renewed { .. })
                        && other.invoked < call.returned + 20 * MS
                        && other.returned > call.invoked
                })
        }).collect();
        prop_assume!(!stays.is_empty());
        let stay = stays[pick % stays.len()];
        let token = history.iter().filter_map(|call| match call.did {
            Did::Granted { token, .. } => Some(token),
            _ => None,
        }).max().unwrap_or(0) + 1;
        let (invoked, returned) = (stay.returned + MS, stay.returned + 2 * MS);
        let did = Did::Granted { token, ttl: TTL };
        let mut bad = history.clone();
        bad.push(Call { lease: u64::MAX, invoked, returned, did });
        prop_assert!(matches!(search(&bad), Verdict::Not(_)));
        prop_assert!(order(&bad).is_err());
    }

    #[test]
    fn a_refusal_of_a_free_lock_is_found(history in without_waits(100)) {
        let last = history.iter().map(|call| call.returned).filter(|at| *at != NEVER).max();
        let invoked = last.unwrap_or(0) + 10_000 * MS;
        let did = Did::Held { waits: false };
        let mut bad = history;
        bad.push(Call { lease: u64::MAX, invoked, returned: invoked + MS, did });
        prop_assert!(matches!(search(&bad), Verdict::Not(_)));
    }
}
