//! What lies under the prefix.

use std::collections::BTreeSet;
use std::time::Duration;

use bidlock_core::{BackendError, Finding, Key, Op};

use super::cli::Cli;
use super::info::Info;
use super::line::Line;
use super::{Doctor, refused, told};
use crate::cleanup::{Kind, Left, left_among, way_out};
use crate::config::Config;
use crate::names::lock_of;
use crate::resp::Value;
use crate::rights::glob;
use crate::store::Redis;

/// Names are looked for among so many keys.
const KEYS_MAX: u64 = 100_000;
const PIECE: u64 = 1_000;
/// Looking for them takes no longer.
const TIME_MAX: Duration = Duration::from_secs(5);
/// So many names are asked about before the first answer.
const AT_ONCE: usize = 128;
/// So many are named in one finding.
const SHOWN: usize = 3;
/// Other databases are looked into only where there are few.
const DATABASES_MAX: usize = 16;

/// What was found, and how much was looked at.
struct Found {
    names: BTreeSet<String>,
    looked_at: u64,
    whole: bool,
}

pub(super) async fn judge(
    doctor: &Doctor,
    store: &Redis,
    line: &mut Line,
    info: Option<&Info>,
    findings: &mut Vec<Finding>,
) {
    findings.extend(elsewhere(doctor, line, info).await);
    let prefix = doctor.prefix.as_str();
    let looked = async {
        let names = names(doctor, store).await?;
        let foreign = foreign(doctor, store, &names.names).await?;
        let left = left_among(&store.core, &doctor.prefix, &names.names).await?;
        Ok::<_, BackendError>((names, foreign, left))
    };
    let (names, foreign, left) = match looked.await {
        Ok(looked) => looked,
        // Without the right to look, of which there is a finding already, or with it.
        Err(error) => {
            let found = format!("not looked at: {}", told(&error));
            return findings.push(Finding::good("names", found));
        }
    };
    let (count, among) = (names.names.len(), keys_of(doctor, info, &names));
    let extent = format!("{count} names under {prefix} among {among}");
    findings.push(if foreign.is_empty() {
        Finding::good("names", format!("{extent}, none of another kind"))
    } else {
        Finding::failure(
            "names",
            format!("{} ({extent})", some(&foreign)),
            "another program's data lies under a name of ours: that key cannot be acquired",
            format!(
                "{}, or let bidlock use names of its own: --prefix NAME",
                doctor.cli(info).on_keys(&["RENAME", &foreign[0].0, "OTHER"])
            ),
        )
    });
    // What is of the wrong type was named just now.
    let reported = |left: &Left| foreign.iter().any(|(name, _)| *name == left.name);
    let left = left.into_iter().filter(|left| left.kind != Kind::WrongType && !reported(left));
    findings.push(leftovers(&doctor.cli(info), &left.collect::<Vec<_>>(), &extent));
}

/// What nothing would end by itself, and what ends it: ours, `cleanup`; another's, nobody but
/// its owner, or who knows that the owner is gone.
fn leftovers(cli: &Cli, left: &[Left], extent: &str) -> Finding {
    if left.is_empty() {
        return Finding::good("leftovers", format!("none ({extent})"));
    }
    let mut mend = Vec::new();
    if left.iter().any(|left| left.kind != Kind::Foreign) {
        mend.push("bidlock cleanup, then bidlock cleanup --yes --because TEXT".to_owned());
    }
    let foreign = left.iter().filter(|left| left.kind == Kind::Foreign).take(SHOWN);
    mend.extend(foreign.map(|left| way_out(cli, &left.name)));
    let shown: Vec<_> = left.iter().map(|left| (left.name.clone(), left.what.clone())).collect();
    Finding::warning(
        "leftovers",
        format!("{} left: {} ({extent})", left.len(), some(&shown)),
        "a lock without an end keeps its key for ever",
        mend.join("; "),
    )
}

/// How much was looked through.
fn keys_of(doctor: &Doctor, info: Option<&Info>, found: &Found) -> String {
    let here = doctor.config.database;
    let databases = info.map(Info::databases);
    let own = |all: Vec<(u32, u64)>| all.iter().find(|(n, _)| *n == here).map_or(0, |(_, k)| *k);
    match (databases.map(own), found.whole) {
        (Some(keys), true) => format!("{keys} keys"),
        (None, true) => "all keys".to_owned(),
        (Some(keys), false) => format!("the first {} of {keys} keys", found.looked_at),
        (None, false) => format!("the first {} keys", found.looked_at),
    }
}

fn some(found: &[(String, String)]) -> String {
    let shown = found.iter().take(SHOWN).map(|(name, what)| format!("{name} is {what}"));
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if found.len() > SHOWN {
        text = format!("{text}; and {} more", found.len() - SHOWN);
    }
    text
}

/// The names under the prefix, in braces or not.
async fn names(doctor: &Doctor, store: &Redis) -> Result<Found, BackendError> {
    let core = &*store.core;
    let about = core.about(Op::List, None);
    let (prefix, end) = (format!("{}:", doctor.prefix.as_str()), core.clock.now() + TIME_MAX);
    let pattern = format!("*{}*", glob(&prefix));
    let piece = PIECE.to_string();
    let mut found = Found { names: BTreeSet::new(), looked_at: 0, whole: false };
    let mut cursor = "0".to_owned();
    while found.looked_at < KEYS_MAX && core.clock.now() < end {
        let args: [&[u8]; 6] =
            [b"SCAN", cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", piece.as_bytes()];
        let reply = core.command(about, core.soon(), &args).await?;
        let Some([next, names]) = reply.value.list() else { return Err(about.odd(&reply.value)) };
        let names = names.list().unwrap_or_default().iter().filter_map(Value::text);
        let own = names.filter(|name| name.trim_start_matches('{').starts_with(&prefix));
        found.names.extend(own.map(str::to_owned));
        found.looked_at += PIECE;
        match next.text() {
            Some("0") => {
                found.whole = true;
                break;
            }
            Some(next) => next.clone_into(&mut cursor),
            None => return Err(about.odd(next)),
        }
    }
    Ok(found)
}

/// Names that bidlock uses, with something else behind them.
async fn foreign(
    doctor: &Doctor,
    store: &Redis,
    names: &BTreeSet<String>,
) -> Result<Vec<(String, String)>, BackendError> {
    let core = &*store.core;
    let about = core.about(Op::List, None);
    let own: Vec<(&String, &str)> =
        names.iter().filter_map(|name| Some((name, kind_of(doctor, name)?))).collect();
    let mut foreign = Vec::new();
    for piece in own.chunks(AT_ONCE) {
        let commands: Vec<[&[u8]; 2]> =
            piece.iter().map(|(name, _)| [b"TYPE".as_slice(), name.as_bytes()]).collect();
        let asked = commands.iter().map(|args| core.command(about, core.soon(), args));
        let mut asked: Vec<_> = asked.map(Box::pin).collect();
        let answers = crate::join::all(&mut asked).await;
        for ((name, kind), answer) in piece.iter().zip(answers) {
            let reply = answer?;
            let is = reply.value.text().unwrap_or_default();
            // `none` has ended meanwhile.
            if is != *kind && is != "none" {
                foreign.push(((*name).clone(), format!("a {is}, not a {kind}")));
            }
        }
    }
    Ok(foreign)
}

/// What lies behind a name of ours.
fn kind_of(doctor: &Doctor, name: &str) -> Option<&'static str> {
    let prefix = &doctor.prefix;
    if name == format!("{}:#tokens", prefix.as_str()) || Key::parse(prefix, name).is_ok() {
        return Some("string");
    }
    lock_of(name).filter(|key| key.prefix() == prefix.as_str())?;
    match name.rsplit_once("}:")?.1 {
        "waiters" | "revoked" => Some("zset"),
        "places" => Some("hash"),
        _ => None,
    }
}

/// Whether locks are granted in another database, and none ever was in this one.
async fn elsewhere(doctor: &Doctor, line: &mut Line, info: Option<&Info>) -> Option<Finding> {
    let tokens = format!("{}:#tokens", doctor.prefix.as_str());
    let exists: [&[u8]; 2] = [b"EXISTS", tokens.as_bytes()];
    let here = doctor.config.database;
    let others = info?.databases();
    let others: Vec<u32> =
        others.into_iter().map(|(number, _)| number).filter(|number| *number != here).collect();
    if others.is_empty() || others.len() > DATABASES_MAX {
        return None;
    }
    if line.ask(&exists).await.ok()?.int()? != 0 {
        return None;
    }
    for number in others {
        let selected = line.ask(&[b"SELECT", number.to_string().as_bytes()]).await.ok()?;
        // Who may not select another database uses this one.
        if refused(&selected).is_some() {
            return None;
        }
        if line.ask(&exists).await.ok()?.int() == Some(1) {
            let other = Config { database: number, ..doctor.config.clone() };
            return Some(Finding::warning(
                "database",
                format!("no lock was ever granted in database {here}, but some were in {number}"),
                "locks in different databases keep nobody out",
                format!("--url '{other}', if that is where the others are"),
            ));
        }
    }
    None
}
