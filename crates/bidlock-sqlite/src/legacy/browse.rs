//! What a bridge shows, and what operators do over it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{
    Browse, FencingToken, Key, LockInfo, LockQuery, Op, Prefix, Result, Revocation, Revoke,
};

use super::bridge::{Bridge, holder};
use super::{OldLocks, Seen, key_of};

/// The locks of both stores. Where an old worker has a key, whoever has it in the new store waits.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) inner: Arc<dyn Browse>,
    pub(super) old: Arc<OldLocks>,
    pub(super) prefix: Prefix,
}

impl Listing {
    /// The locks of old workers, by bidlock's keys.
    async fn old_locks(&self) -> Result<BTreeMap<Key, Seen>> {
        let all = self.old.all(Op::List).await?.into_iter();
        let foreign = all.filter(|(_, token)| token.is_none());
        let named = foreign.filter_map(|(seen, _)| Some((key_of(&seen.lock_key)?, seen)));
        Ok(named.map(|(key, seen)| (key.with_prefix(&self.prefix), seen)).collect())
    }

    fn shown(&self, key: Key, seen: &Seen, inner: Option<&LockInfo>) -> LockInfo {
        LockInfo {
            key,
            holder: holder(seen, &self.old),
            token: None,
            // Seconds of the wall clock, which are nobody's promise.
            age: None,
            remaining: seen.remaining,
            waiters: inner.map_or(0, |inner| inner.waiters.saturating_add(1)),
            revoked: false,
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Browse for Listing {
    async fn list(&self, query: &LockQuery) -> Result<Vec<LockInfo>> {
        let page = self.inner.list(query).await?;
        if query.prefix != self.prefix {
            return Ok(page);
        }
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let end = if page.len() < limit { None } else { page.last().map(|last| last.key.clone()) };
        let mut locks: BTreeMap<Key, LockInfo> =
            page.into_iter().map(|lock| (lock.key.clone(), lock)).collect();
        for (key, seen) in self.old_locks().await? {
            let before = query.after.as_ref().is_some_and(|after| key <= *after);
            if !before && end.as_ref().is_none_or(|end| key <= *end) {
                let shown = self.shown(key.clone(), &seen, locks.get(&key));
                locks.insert(key, shown);
            }
        }
        Ok(locks.into_values().take(limit).collect())
    }

    async fn inspect(&self, key: &Key) -> Result<Option<LockInfo>> {
        let inner = self.inner.inspect(key).await?;
        if key.prefix() != self.prefix.as_str() || key.marketplace().is_empty() {
            return Ok(inner);
        }
        let deadline = self.old.deadline(WITHIN);
        let seen = self.old.look(key, deadline).await?;
        Ok(match seen {
            Some(seen) => Some(self.shown(key.clone(), &seen, inner.as_ref())),
            None => inner,
        })
    }
}

const WITHIN: Duration = crate::WITHIN_DEFAULT;

/// Takes keys from their holders, in both stores.
#[derive(Debug)]
pub(super) struct Revoking {
    pub(super) inner: Arc<dyn Revoke>,
    pub(super) bridge: Arc<Bridge>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Revoke for Revoking {
    async fn revoke(&self, key: &Key, token: FencingToken, now: bool) -> Result<Revocation> {
        let answer = self.inner.revoke(key, token, now).await?;
        if answer == Revocation::Freed {
            self.bridge.free(key, token).await?;
        }
        Ok(answer)
    }
}
