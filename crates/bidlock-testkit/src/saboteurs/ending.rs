use bidlock_core::{LeaseId, Moment, Ownership, RenewRequest, Renewal};

use super::Fault;
use super::queue::{Asker, Lock, State};
use super::reference::Client;

impl Client {
    /// Extends the live grant of that very lease, and no other (I5).
    pub(super) fn extend(
        &self,
        request: &RenewRequest,
        state: &mut State,
        lock: &mut Lock,
        now: Moment,
    ) -> Renewal {
        let asked = now + request.ttl.get();
        let was_taken = lock.taken.iter().any(|(lease, end)| *lease == request.lease && *end > now);
        if was_taken && !state.has(Fault::NowIsNotTold) {
            return Renewal::Revoked; // I12
        }
        let Some(grant) = &mut lock.grant else {
            return self.extend_nothing(request, state, lock, now);
        };
        if grant.asker.lease != request.lease && !state.has(Fault::RenewDoesNotCompare) {
            return Renewal::Taken;
        }
        if grant.revoked && !state.has(Fault::RevokedIsNotTold) {
            if state.has(Fault::RevokedLivesOn) {
                grant.until = asked;
            }
            return Renewal::Revoked; // I12
        }
        grant.until = match state.fault {
            Some(Fault::RenewShortens) => asked,
            Some(Fault::RenewDoesNothing) => grant.until,
            _ => grant.until.max(asked),
        };
        grant.confirmed = true;
        Renewal::Renewed
    }

    fn extend_nothing(
        &self,
        request: &RenewRequest,
        state: &mut State,
        lock: &mut Lock,
        now: Moment,
    ) -> Renewal {
        // The two differ in what is left of the lease: something after expiry, nothing after
        // release. In this store neither leaves anything, so both faults grant anew.
        if state.has(Fault::RenewRevives) || state.has(Fault::RenewRecreates) {
            self.grant_again(request, state, lock, now);
            return Renewal::Renewed;
        }
        Renewal::Expired
    }

    /// Gives up the key, or the place in its queue (I11).
    pub(super) fn give_up(
        &self,
        lease: &LeaseId,
        state: &mut State,
        lock: &mut Lock,
        now: Moment,
    ) -> Ownership {
        let same = |asker: &Asker| match state.fault {
            Some(Fault::ReleaseDoesNotCompare) => true,
            Some(Fault::ReleaseComparesTheProcess) => asker.lease.pid() == lease.pid(),
            _ => asker.lease == *lease,
        };
        if let Some(grant) = lock.grant.as_ref().filter(|grant| same(&grant.asker)) {
            let crossed = !grant.confirmed && state.has(Fault::CancelForgetsTheCrossedGrant);
            if crossed || state.has(Fault::ReleaseDoesNothing) {
                return Ownership::Ours;
            }
            self.hand_over(state, lock, now, Fault::ReleaseDoesNotHandOver);
            return Ownership::Ours;
        }
        let place = lock.queue.iter().position(|waiter| waiter.asker.lease == *lease);
        match place.filter(|_| !state.has(Fault::CancelKeepsThePlace)) {
            Some(place) => {
                lock.queue.remove(place);
                Ownership::Ours
            }
            None => Ownership::NotOurs, // I2
        }
    }
}
