//! Makes a failing run small: with fewer faults and fewer clients, as long as the same rule breaks.

use crate::plan::{CLIENTS, Plan};

/// Leaves out whatever is not needed for `fails` to hold.
pub(crate) fn shrink(mut plan: Plan, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    for change in [without_locks, without_bids] {
        let smaller = change(plan.clone());
        if fails(&smaller) {
            plan = smaller;
        }
    }
    let mut size = plan.faults.len();
    while size > 0 {
        let mut at = 0;
        while at < plan.faults.len() {
            let mut smaller = plan.clone();
            let end = (at + size).min(smaller.faults.len());
            smaller.faults.drain(at..end);
            if fails(&smaller) {
                plan = smaller;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    for client in 0..CLIENTS {
        let mut smaller = plan.clone();
        smaller.idle.push(client);
        if fails(&smaller) {
            plan = smaller;
        }
    }
    plan
}

fn without_locks(plan: Plan) -> Plan {
    Plan { locks: false, ..plan }
}

fn without_bids(plan: Plan) -> Plan {
    Plan { bids: false, ..plan }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_is_left_out() {
        let plan = (1..100).map(Plan::new).find(|plan| plan.faults.len() > 8);
        let plan = plan.expect("some seed has many faults");
        let (first, last) = (plan.faults[1], plan.faults[6]);
        let small = shrink(plan, |plan| {
            plan.faults.contains(&first) && plan.faults.contains(&last) && plan.bids
        });
        assert_eq!(small.faults, [first, last]);
        assert!(!small.locks && small.bids);
        assert_eq!(small.idle, [0, 1, 2, 3, 4]);
    }
}
