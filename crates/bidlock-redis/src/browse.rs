//! Lists locks. The server is asked for names in pieces, so that no other client waits for long.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bidlock_core::{
    BackendError, Browse, Key, LockInfo, LockQuery, Op, Prefix, Refusal, Result, limits,
};
use std::time::Duration;

use crate::core::Core;
use crate::holding::Holding;
use crate::names::Names;
use crate::resp::Value;
use crate::rights::glob;
use crate::store::{Redis, left_of};

#[async_trait]
impl Browse for Redis {
    async fn list(&self, query: &LockQuery) -> Result<Vec<LockInfo>> {
        let pattern = format!("{}:*", glob(query.prefix.as_str()));
        let names = scan(&self.core, &pattern).await?;
        let keys = names.iter().filter_map(|name| Key::parse(&query.prefix, name).ok());
        let keys: Vec<Key> = keys.filter(|key| query.after.as_ref() < Some(key)).collect();
        let limit = query.limit.min(limits::PAGE_MAX) as usize;
        let mut page = Vec::new();
        for piece in keys.chunks(limit.max(1)) {
            for lock in look(&self.core, piece).await? {
                page.extend(lock);
                if page.len() == limit {
                    return Ok(page);
                }
            }
        }
        Ok(page)
    }

    async fn inspect(&self, key: &Key) -> Result<Option<LockInfo>> {
        inspect(&self.core, key).await
    }
}

/// All names that match a pattern, in order.
pub(crate) async fn scan(core: &Core, pattern: &str) -> Result<BTreeSet<String>> {
    let about = core.about(Op::List, None);
    let mut names = BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let args: [&[u8]; 6] =
            [b"SCAN", cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", b"1000"];
        let reply = core.command(about, core.soon(), &args).await?;
        let Some([next, found]) = reply.value.list() else { return Err(about.odd(&reply.value)) };
        let found = found.list().unwrap_or_default();
        names.extend(found.iter().filter_map(|name| name.text().map(str::to_owned)));
        match next.text() {
            Some("0") => return Ok(names),
            Some(next) => next.clone_into(&mut cursor),
            None => return Err(about.odd(next)),
        }
    }
}

/// Looks at several locks at once; what is no lock is left out.
async fn look(core: &Core, keys: &[Key]) -> Result<Vec<Option<LockInfo>>> {
    let mut asked: Vec<_> = keys.iter().map(|key| Box::pin(inspect(core, key))).collect();
    let mut locks = Vec::with_capacity(asked.len());
    // All are sent before the first is answered.
    let mut answers = crate::join::all(&mut asked).await;
    for answer in answers.drain(..) {
        locks.push(match answer {
            Err(BackendError::Refused { reason: Refusal::WrongType(_), .. }) => None,
            answer => answer?,
        });
    }
    Ok(locks)
}

async fn inspect(core: &Core, key: &Key) -> Result<Option<LockInfo>> {
    let about = core.about(Op::List, Some(key));
    let names = Names::of(key);
    let script = &core.scripts.inspect;
    let reply = core.run(about, core.soon(), script, &names, &[0, 1], &[]).await?;
    let Value::List(parts) = &reply.value else { return Ok(None) };
    let [Value::Text(holder), left, waiters, now] = &parts[..] else {
        return Err(about.odd(&reply.value));
    };
    let (left, waiters, now) = (left.int(), waiters.int(), now.int());
    let (Some(left), Some(waiters), Some(now)) = (left, waiters, now) else {
        return Err(about.odd(&reply.value));
    };
    core.learn(&reply, now);
    let Holding { holder, token, revoked } = Holding::read(&String::from_utf8_lossy(holder));
    // A token is the time of its grant, unless the clock was set back.
    let age = token.and_then(|token| u64::try_from(now).ok()?.checked_sub(token.get()));
    Ok(Some(LockInfo {
        key: key.clone(),
        holder,
        token,
        age: age.map(Duration::from_micros),
        remaining: left_of(left),
        waiters: u32::try_from(waiters).unwrap_or(u32::MAX),
        revoked,
    }))
}

/// The pattern of everything that this module keeps under a prefix in a lock's slot.
pub(crate) fn belongings(prefix: &Prefix) -> String {
    format!("{{{}:*", glob(prefix.as_str()))
}
