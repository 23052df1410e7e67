//! What nothing would end by itself.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bidlock_core::{Cleanup, Key, Leftover, Op, Prefix, Result};

use crate::browse::{belongings, scan};
use crate::core::Core;
use crate::failure::About;
use crate::holding::Holding;
use crate::names::{Names, lock_of};
use crate::resp::Value;
use crate::rights::glob;
use crate::scripts;
use crate::store::Redis;

const ENDS: &str = "its holder is told to renew it; it ends in 5 minutes unless that happens";
const REMOVED: &str = "it is removed";

#[async_trait]
impl Cleanup for Redis {
    async fn leftovers(&self, prefix: &Prefix) -> Result<Vec<Leftover>> {
        let core = &*self.core;
        let mut found = Vec::new();
        for name in scan(core, &format!("{}:*", glob(prefix.as_str()))).await? {
            found.extend(lock_without_end(core, prefix, &name).await?);
        }
        let mut queues = BTreeSet::new();
        for name in scan(core, &belongings(prefix)).await? {
            queues.extend(lock_of(&name).map(|key| key.as_str().to_owned()));
        }
        for lock in queues {
            if let Ok(key) = Key::read(&lock) {
                found.extend(dead_queue(core, &key).await?);
            }
        }
        Ok(found)
    }

    async fn remove(&self, leftover: &Leftover) -> Result<bool> {
        let core = &*self.core;
        let Some(key) = lock_of(&leftover.name) else { return Ok(false) };
        let about = core.about(Op::Cleanup, Some(&key));
        let what = match leftover.remedy {
            ENDS => "lease",
            REMOVED => "queue",
            _ => return Ok(false),
        };
        let names = Names::of(&key);
        let keys = [names.get(0), names.get(1), names.get(2), names.get(4)];
        let mut args: Vec<&[u8]> = vec![b"EVAL", scripts::CLEANUP.as_bytes(), b"4"];
        args.extend(keys);
        args.extend([what.as_bytes(), core.channels.as_bytes()]);
        let reply = core.command(about, core.soon(), &args).await?;
        Ok(reply.value.int() == Some(1))
    }
}

async fn lock_without_end(core: &Core, prefix: &Prefix, name: &str) -> Result<Option<Leftover>> {
    let about = core.about(Op::List, None);
    let Ok(key) = Key::parse(prefix, name) else { return Ok(None) };
    if number(core, about, &[b"PTTL", name.as_bytes()]).await? != -1 {
        return Ok(None);
    }
    let held = core.command(about, core.soon(), &[b"GET", key.as_str().as_bytes()]).await;
    let (why, remedy) = match held {
        Ok(reply) => match reply.value.text().map(Holding::read) {
            Some(Holding { holder, token: Some(_), .. }) => {
                (format!("a lease of {holder} that has no end"), ENDS)
            }
            Some(Holding { holder, .. }) => {
                (format!("a lock of a {holder} that has no end: its owner has to delete it"), "")
            }
            None => return Ok(None),
        },
        Err(bidlock_core::BackendError::Refused { .. }) => {
            ("something that is no lock, under the name of one".to_owned(), "")
        }
        Err(failed) => return Err(failed),
    };
    Ok(Some(Leftover { name: name.to_owned(), why, remedy }))
}

async fn dead_queue(core: &Core, key: &Key) -> Result<Option<Leftover>> {
    let about = core.about(Op::List, Some(key));
    let names = Names::of(key);
    let places = core.command(about, core.soon(), &[b"HGETALL", names.get(2)]).await?;
    let fields = places.value.list().unwrap_or_default();
    let now = core.command(about, core.soon(), &[b"TIME"]).await?;
    let now = crate::driver::time_of(&now.value).ok_or_else(|| about.odd(&now.value))?;
    let alive = fields.chunks(2).any(|field| {
        let client = field[0].text().is_some_and(|name| name.starts_with('@'));
        client && field.get(1).and_then(Value::int).is_some_and(|until| until > now)
    });
    let waiters = number(core, about, &[b"ZCARD", names.get(1)]).await?;
    if alive || (waiters == 0 && fields.is_empty()) {
        return Ok(None);
    }
    let name = String::from_utf8_lossy(names.get(1)).into_owned();
    let why = format!("a queue of {waiters} in which nobody lives");
    Ok(Some(Leftover { name, why, remedy: REMOVED }))
}

async fn number(core: &Core, about: About<'_>, args: &[&[u8]]) -> Result<i64> {
    let reply = core.command(about, core.soon(), args).await?;
    reply.value.int().ok_or_else(|| about.odd(&reply.value))
}
