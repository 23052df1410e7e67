use async_trait::async_trait;
use bidlock_core::{
    Browse, FencingToken, Key, LockInfo, LockQuery, Moment, News, Result, Revocation, Revoke,
    limits,
};

use super::Fault;
use super::queue::{Lock, State};
use super::reference::Client;

fn describe(state: &State, lock: &Lock, now: Moment) -> Option<LockInfo> {
    let grant = lock.grant.as_ref()?;
    let waiters = u32::try_from(lock.queue.len()).unwrap_or(u32::MAX);
    Some(LockInfo {
        key: lock.key.clone(),
        holder: state.shows(&grant.asker),
        token: Some(grant.token),
        age: Some(now.since(grant.since)),
        remaining: grant.until.since(now),
        waiters: if state.has(Fault::ListForgetsWaiters) { 0 } else { waiters },
        revoked: grant.revoked,
    })
}

#[async_trait]
impl Browse for Client {
    async fn list(&self, query: &LockQuery) -> Result<Vec<LockInfo>> {
        let prefix = query.prefix.as_str();
        let any_prefix = self.has(Fault::ListIgnoresThePrefix);
        let any_page = self.has(Fault::ListIgnoresThePage);
        let after = query.after.as_ref().filter(|_| !any_page).map(Key::as_str);
        let shown = self.keys().into_iter().filter(|key| {
            (key.prefix() == prefix || any_prefix) && after.is_none_or(|last| key.as_str() > last)
        });
        let mut page = Vec::new();
        for key in shown {
            page.extend(self.inspect(&key).await?);
        }
        page.truncate(query.limit.min(limits::PAGE_MAX) as usize);
        Ok(page)
    }

    async fn inspect(&self, key: &Key) -> Result<Option<LockInfo>> {
        if self.has(Fault::ListShowsExpired) {
            return Ok(self.peek(key, describe));
        }
        Ok(self.change(key, |state, lock, now| describe(state, lock, now)))
    }
}

#[async_trait]
impl Revoke for Client {
    async fn revoke(&self, key: &Key, token: FencingToken, now: bool) -> Result<Revocation> {
        Ok(self.change(key, |state, lock, at| {
            let current = lock.grant.as_ref().map(|grant| grant.token);
            let exact = current == Some(token) || state.has(Fault::RevokeIgnoresTheToken);
            let Some(grant) = lock.grant.as_mut().filter(|_| exact) else {
                return Revocation::NotHeld { current }; // I12
            };
            let (asker, remaining) = (grant.asker.clone(), grant.until.since(at));
            grant.revoked = true;
            state.tell(&lock.key, &asker, News::Look);
            if now && !state.has(Fault::NowOnlyMarks) {
                lock.taken.push((asker.lease.clone(), at + remaining));
                self.hand_over(state, lock, at, Fault::NowDoesNotHandOver);
                return Revocation::Freed;
            }
            if state.has(Fault::MarkFreesAtOnce) {
                self.hand_over(state, lock, at, Fault::MarkFreesAtOnce);
            }
            Revocation::Marked { remaining }
        }))
    }
}
