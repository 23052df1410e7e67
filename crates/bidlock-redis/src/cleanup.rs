//! What nothing would end by itself.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bidlock_core::{BackendError, Cleanup, Key, Leftover, Op, Prefix, Refusal, Result};

use crate::browse::{belongings, scan};
use crate::core::Core;
use crate::doctor::cli::Cli;
use crate::failure::About;
use crate::holding::Holding;
use crate::names::{Names, lock_of};
use crate::resp::Value;
use crate::rights::glob;
use crate::scripts;
use crate::store::Redis;

/// So many names are looked at before the first is answered.
const AT_ONCE: usize = 128;

const ENDS: &str = "its holder is told to renew it, which ends it in time; where nobody hears, it \
                    ends in 24 hours, or at once by `bidlock revoke`";
const ENDS_LATE: &str = "it ends in 24 hours, when nobody can need it any more";
const REMOVED: &str = "it is removed";

/// What is left behind, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    /// The store's own name of it.
    pub(crate) name: String,
    /// What it is, to be read after «is».
    pub(crate) what: String,
    pub(crate) kind: Kind,
}

/// What ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A lease of ours: its holder, or a day.
    Lease,
    /// What is kept of revoked leases: a day.
    Revoked,
    /// A queue of the dead: it is removed.
    Queue,
    /// The lock of another kind of client: nobody but its owner.
    Foreign,
    /// No lock at all, under a lock's name.
    WrongType,
}

impl Left {
    fn told(self, cli: &Cli) -> Leftover {
        let Self { name, what, kind } = self;
        let (why, remedy) = match kind {
            Kind::Lease => (what, ENDS),
            Kind::Revoked => (what, ENDS_LATE),
            Kind::Queue => (what, REMOVED),
            Kind::Foreign => (format!("{what}: {}", way_out(cli, &name)), ""),
            Kind::WrongType => (what, ""),
        };
        Leftover { name, why, remedy }
    }
}

/// How people end a lock that no program of ours may touch.
pub(crate) fn way_out(cli: &Cli, name: &str) -> String {
    format!("{}, when its owner is gone", cli.on_keys(&["DEL", name]))
}

#[async_trait]
impl Cleanup for Redis {
    async fn leftovers(&self, prefix: &Prefix) -> Result<Vec<Leftover>> {
        let core = &*self.core;
        let mut names = scan(core, &format!("{}:*", glob(prefix.as_str()))).await?;
        names.extend(scan(core, &belongings(prefix)).await?);
        let cli = Cli::to_endpoint(&core.endpoint);
        let left = left_among(core, prefix, &names).await?;
        Ok(left.into_iter().map(|left| left.told(&cli)).collect())
    }

    async fn remove(&self, leftover: &Leftover) -> Result<bool> {
        let core = &*self.core;
        let Some(key) = lock_of(&leftover.name) else { return Ok(false) };
        let about = core.about(Op::Cleanup, Some(&key));
        let what = match leftover.remedy {
            ENDS => "lease",
            ENDS_LATE => "revoked",
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

/// What is left behind among these names.
pub(crate) async fn left_among(
    core: &Core,
    prefix: &Prefix,
    names: &BTreeSet<String>,
) -> Result<Vec<Left>> {
    let (inner, plain): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.starts_with('{'));
    let mut found = Vec::new();
    for piece in plain.chunks(AT_ONCE) {
        let asked = piece.iter().map(|name| Box::pin(lock_without_end(core, prefix, name)));
        found.extend(of_all(asked.collect()).await?);
    }
    // Inside the braces a name may be of another prefix that begins alike.
    let own = |name: &&String| lock_of(name).filter(|key| key.prefix() == prefix.as_str());
    let keys: BTreeSet<Key> = inner.iter().filter_map(own).collect();
    let keys: Vec<Key> = keys.into_iter().collect();
    for piece in keys.chunks(AT_ONCE) {
        let asked = piece.iter().map(|key| Box::pin(dead_queue(core, key)));
        found.extend(of_all(asked.collect()).await?);
        let asked = piece.iter().map(|key| Box::pin(revoked_without_end(core, key)));
        found.extend(of_all(asked.collect()).await?);
    }
    Ok(found)
}

async fn of_all<F>(mut looks: Vec<std::pin::Pin<Box<F>>>) -> Result<Vec<Left>>
where
    F: Future<Output = Result<Option<Left>>>,
{
    let looked: Result<Vec<_>> = crate::join::all(&mut looks).await.into_iter().collect();
    Ok(looked?.into_iter().flatten().collect())
}

async fn lock_without_end(core: &Core, prefix: &Prefix, name: &str) -> Result<Option<Left>> {
    let about = core.about(Op::List, None);
    let Ok(key) = Key::parse(prefix, name) else { return Ok(None) };
    if number(core, about, &[b"PTTL", name.as_bytes()]).await? != -1 {
        return Ok(None);
    }
    // By the script that shows no lease's secret.
    let (names, script) = (Names::of(&key), &core.scripts.inspect);
    let shown = core.run(about, core.soon(), script, &names, &[0, 1], &[]).await;
    let (what, kind) = match shown {
        Ok(reply) => match reply.value.list() {
            Some([Value::Text(held), left, ..]) if left.int() == Some(-1) => {
                let Holding { holder, token, .. } = Holding::read(&String::from_utf8_lossy(held));
                if token.is_some() {
                    (format!("a lease of {holder} that has no end"), Kind::Lease)
                } else {
                    (format!("a lock of a {holder} that has no end"), Kind::Foreign)
                }
            }
            _ => return Ok(None),
        },
        Err(BackendError::Refused { reason: Refusal::WrongType(_), .. }) => {
            let what = "something that is no lock, under the name of one";
            (what.to_owned(), Kind::WrongType)
        }
        Err(failed) => return Err(failed),
    };
    Ok(Some(Left { name: name.to_owned(), what, kind }))
}

async fn dead_queue(core: &Core, key: &Key) -> Result<Option<Left>> {
    let about = core.about(Op::List, Some(key));
    let names = Names::of(key);
    let places = core.command(about, core.soon(), &[b"HGETALL", names.get(2)]).await;
    let places = match places {
        // It is no queue of ours; whoever looks for foreign types finds it.
        Err(BackendError::Refused { reason: Refusal::WrongType(_), .. }) => return Ok(None),
        places => places?,
    };
    let fields = places.value.list().unwrap_or_default();
    let now = core.command(about, core.soon(), &[b"TIME"]).await?;
    let now = crate::driver::time_of(&now.value).ok_or_else(|| about.odd(&now.value))?;
    let alive = fields.chunks(2).any(|field| {
        let client = field[0].text().is_some_and(|name| name.starts_with('@'));
        client && field.get(1).and_then(Value::int).is_some_and(|until| until > now)
    });
    let waiters = match number(core, about, &[b"ZCARD", names.get(1)]).await {
        Err(BackendError::Refused { reason: Refusal::WrongType(_), .. }) => return Ok(None),
        waiters => waiters?,
    };
    if alive || (waiters == 0 && fields.is_empty()) {
        return Ok(None);
    }
    let name = String::from_utf8_lossy(names.get(1)).into_owned();
    let what = format!("a queue of {waiters} in which nobody lives");
    Ok(Some(Left { name, what, kind: Kind::Queue }))
}

async fn revoked_without_end(core: &Core, key: &Key) -> Result<Option<Left>> {
    let about = core.about(Op::List, Some(key));
    let names = Names::of(key);
    if number(core, about, &[b"PTTL", names.get(4)]).await? != -1 {
        return Ok(None);
    }
    // Another program's data would be given an end.
    match number(core, about, &[b"ZCARD", names.get(4)]).await {
        Err(BackendError::Refused { reason: Refusal::WrongType(_), .. }) => return Ok(None),
        kept => kept.map(drop)?,
    }
    let name = String::from_utf8_lossy(names.get(4)).into_owned();
    let what = "what is kept of revoked leases, without an end".to_owned();
    Ok(Some(Left { name, what, kind: Kind::Revoked }))
}

async fn number(core: &Core, about: About<'_>, args: &[&[u8]]) -> Result<i64> {
    let reply = core.command(about, core.soon(), args).await?;
    reply.value.int().ok_or_else(|| about.odd(&reply.value))
}
