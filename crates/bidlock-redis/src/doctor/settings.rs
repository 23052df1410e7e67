//! What a server's settings do to locks.

use bidlock_core::{Finding, Severity};

use super::cli::Cli;
use super::entry::Entered;
use super::info::{Info, bytes};
use super::line::Line;
use super::{Doctor, refused};

/// What is said of a setting that this user may not see; it is no warning, for that is how the
/// least rights are.
const NOT_SEEN: &str = "not seen: this user may not look at settings (CONFIG GET); run it once as \
                        an administrator";

/// Judges what `INFO` tells.
pub(super) async fn judge(
    doctor: &Doctor,
    line: &mut Line,
    entered: &Entered,
    info: &Info,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let save = setting(doctor, line, "save").await?;
    let fsync = setting(doctor, line, "appendfsync").await?;
    let cli = doctor.cli(Some(info));
    findings.push(eviction(&cli, info));
    findings.push(memory(&cli, info));
    findings.push(persistence(&cli, info, save.as_deref(), fsync.as_deref()));
    if entered.is_primary() {
        findings.push(replication(&cli, info));
    }
    findings.extend(cluster(info));
    Ok(())
}

/// Judges what becomes of connections on which nothing happens.
pub(super) async fn connections(
    doctor: &Doctor,
    line: &mut Line,
    entered: &Entered,
    info: Option<&Info>,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let cli = doctor.cli(info);
    let idle = setting(doctor, line, "timeout").await?.and_then(|text| text.parse().ok());
    let keepalive =
        setting(doctor, line, "tcp-keepalive").await?.and_then(|text| text.parse().ok());
    findings.push(timeout(&cli, idle, entered.version3));
    findings.push(probing(&cli, keepalive));
    Ok(())
}

/// One setting; nothing where this user may not see settings, or the server has none of it.
async fn setting(doctor: &Doctor, line: &mut Line, name: &str) -> Result<Option<String>, Finding> {
    let answer = line.ask(&[b"CONFIG", b"GET", name.as_bytes()]).await;
    let answer = answer.map_err(|trouble| doctor.broken_off("settings", &trouble))?;
    if refused(&answer).is_some() {
        return Ok(None);
    }
    let pair = answer.list().unwrap_or_default();
    Ok(pair.get(1).and_then(|value| value.text()).map(str::to_owned))
}

fn eviction(cli: &Cli, info: &Info) -> Finding {
    const CHECK: &str = "eviction";
    const WHY: &str = "an evicted lock is granted again while its holder still works";
    let (limit, policy) = (info.number("maxmemory"), info.get("maxmemory_policy"));
    let evicted = info.number("evicted_keys");
    let mend = cli.set(&[("maxmemory-policy", "noeviction")]);
    let past =
        if evicted == 0 { String::new() } else { format!("; {evicted} keys evicted so far") };
    if policy.is_empty() {
        return Finding::good(CHECK, "the server does not say whether it evicts keys");
    }
    if policy == "noeviction" {
        return Finding::good(CHECK, format!("noeviction{past}"));
    }
    if limit == 0 {
        let found = format!("{policy}, without a limit of memory{past}");
        let why = format!("as soon as somebody sets maxmemory, {WHY}");
        return Finding::warning(CHECK, found, why, mend);
    }
    let found = format!("{policy} above {}{past}", bytes(limit));
    let why = if policy.starts_with("volatile") {
        format!("{WHY}, and locks go first: only keys with an expiry may be evicted")
    } else {
        WHY.to_owned()
    };
    Finding::failure(CHECK, found, why, mend)
}

fn memory(cli: &Cli, info: &Info) -> Finding {
    const CHECK: &str = "memory";
    let (limit, used) = (info.number("maxmemory"), info.number("used_memory"));
    if limit == 0 {
        return Finding::good(CHECK, format!("{} used, no limit set", bytes(used)));
    }
    let percent = u128::from(used) * 100 / u128::from(limit);
    let found = format!("{} of {} used ({percent} %)", bytes(used), bytes(limit));
    let severity = match percent {
        0..90 => return Finding::good(CHECK, found),
        90..100 => Severity::Warning,
        _ => Severity::Failure,
    };
    let why = "with no memory left no key is acquired; renewing and releasing still work";
    let more = limit.max(used).saturating_mul(2).to_string();
    let mend = cli.set(&[("maxmemory", &more)]);
    Finding { severity, ..Finding::warning(CHECK, found, why, mend) }
}

/// `save` and `fsync` are settings that a user may not be allowed to see.
fn persistence(cli: &Cli, info: &Info, save: Option<&str>, fsync: Option<&str>) -> Finding {
    const CHECK: &str = "persistence";
    const FORGETS: &str = "a restart forgets who holds what: a key is granted again while its old \
                           holder still works";
    let append = info.number("aof_enabled") == 1;
    let snapshots = save.map(|save| !save.trim().is_empty());
    if append && info.get("aof_last_write_status") == "err" {
        let why = "until it can write its file, the server refuses all writes (MISCONF)";
        let folder = cli.run(&["CONFIG", "GET", "dir"]);
        let mend = format!("the server's log says why: make room on its disk ({folder})");
        return Finding::failure(CHECK, "the last write to the AOF failed", why, mend);
    }
    if snapshots != Some(false) && info.get("rdb_last_bgsave_status") == "err" {
        let why = "until a snapshot succeeds, the server refuses all writes (MISCONF)";
        return Finding::failure(CHECK, "the last snapshot (RDB) failed", why, saving(cli));
    }
    let on = cli.set(&[("appendonly", "yes")]);
    let fsync = match (append, fsync) {
        (true, Some("no")) => {
            let found = "AOF, with appendfsync no";
            let why = "the system writes when it likes: a power cut forgets the grants of the \
                       last half minute";
            let mend = cli.set(&[("appendfsync", "everysec")]);
            return Finding::warning(CHECK, found, why, mend);
        }
        (true, Some(fsync)) => fsync,
        (true, None) => NOT_SEEN,
        (false, _) => "",
    };
    match (append, snapshots) {
        (true, _) => Finding::good(CHECK, format!("AOF (appendfsync {fsync})")),
        (false, Some(true)) => {
            let changes = info.number("rdb_changes_since_last_save");
            let found = format!("snapshots (RDB) only; {changes} changes since the last one");
            let why = "a crash goes back to the last snapshot: newer locks are forgotten, and old \
                       ones come back";
            Finding::warning(CHECK, found, why, on)
        }
        (false, Some(false)) => Finding::warning(CHECK, "nothing is kept on disk", FORGETS, on),
        (false, None) => Finding::warning(CHECK, "no AOF; snapshots (RDB) at most", FORGETS, on),
    }
}

fn replication(cli: &Cli, info: &Info) -> Finding {
    const CHECK: &str = "replication";
    let replicas = info.number("connected_slaves");
    let plural = if replicas == 1 { "replica" } else { "replicas" };
    if info.has("min_slaves_good_slaves") {
        let good = info.number("min_slaves_good_slaves");
        let found = format!(
            "{replicas} {plural}, {good} of them close behind, and min-replicas-to-write set"
        );
        // As seen on 6.2.5: SET is refused without replicas, a script that calls it is not.
        if info.get("redis_version").starts_with("6.") {
            let why = "before Redis 7 it does not bind scripts, and every grant is one: a primary \
                       that is cut off goes on granting";
            return Finding::warning(CHECK, found, why, "move to Redis 7 or later, or to Valkey");
        }
        return Finding::good(CHECK, format!("{found}: a primary that is cut off stops granting"));
    }
    if replicas == 0 {
        return Finding::good(CHECK, "no replica: nothing fails over");
    }
    let why = "replicas follow a little later: a failover forgets the last grants, and a primary \
               that is cut off goes on granting; only what checks fencing tokens is safe then";
    let mend = cli.set(&[("min-replicas-to-write", "1"), ("min-replicas-max-lag", "2")]);
    Finding::warning(CHECK, format!("{replicas} {plural}, and no least number"), why, mend)
}

/// How a server learns to save again.
pub(super) fn saving(cli: &Cli) -> String {
    format!(
        "the server's log says why it cannot save: make room on its disk, or let it write to its \
         folder ({}), then {}",
        cli.run(&["CONFIG", "GET", "dir"]),
        cli.run(&["BGSAVE"])
    )
}

fn cluster(info: &Info) -> Option<Finding> {
    (info.number("cluster_enabled") == 1).then(|| {
        Finding::failure(
            "cluster",
            "the server is part of a cluster",
            "a lock and the counter of fencing tokens lie in different slots, and a script may \
             touch only one: no key can be acquired",
            "name a server that is no cluster: --url redis://HOST",
        )
    })
}

/// A connection that has subscribed is cut by no server's `timeout`, however short it is;
/// tests/operate/settings.rs has seen it. With RESP3 there is no other.
fn timeout(cli: &Cli, seconds: Option<u64>, version3: bool) -> Finding {
    const CHECK: &str = "timeout";
    match (seconds, version3) {
        (None, _) => Finding::good(CHECK, NOT_SEEN),
        (Some(0), _) => Finding::good(CHECK, "no idle connection is cut"),
        (Some(seconds), true) => Finding::good(
            CHECK,
            format!(
                "{seconds} s; no connection that has subscribed is cut, and ours all have (RESP3)"
            ),
        ),
        (Some(seconds), false) => Finding::warning(
            CHECK,
            format!("idle connections are cut after {seconds} s"),
            "without RESP3 requests go by a connection that hears no messages: it is cut, and what \
             is sent just then has no answer",
            cli.set(&[("timeout", "0")]),
        ),
    }
}

fn probing(cli: &Cli, seconds: Option<u64>) -> Finding {
    const CHECK: &str = "tcp-keepalive";
    match seconds {
        None => Finding::good(CHECK, NOT_SEEN),
        Some(0) => Finding::warning(
            CHECK,
            "the server never finds out that a client's machine is gone",
            "a key is handed over to waiters that are gone, 3 s for each machine, for as long as \
             the server believes in them",
            cli.set(&[("tcp-keepalive", "60")]),
        ),
        Some(seconds) => {
            Finding::good(CHECK, format!("a client that is gone is noticed after {seconds} s"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn cli() -> Cli {
        Cli::to(&Config::from_url("redis://h").unwrap())
    }

    fn severity(finding: &Finding) -> Severity {
        finding.severity
    }

    #[test]
    fn memory_is_judged_by_its_limit() {
        let judge = |used: u64, limit: u64| {
            memory(&cli(), &Info::read(&format!("used_memory:{used}\nmaxmemory:{limit}")))
        };
        assert_eq!(severity(&judge(1_000_000, 0)), Severity::Good);
        assert_eq!(severity(&judge(899, 1_000)), Severity::Good);
        assert_eq!(severity(&judge(900, 1_000)), Severity::Warning);
        let full = judge(1_500, 1_000);
        assert_eq!(severity(&full), Severity::Failure);
        assert!(full.mend.contains("maxmemory 3000"), "{full:?}");
    }

    #[test]
    fn what_cannot_be_provoked_on_a_test_s_server_is_judged_too() {
        let failed = Info::read("aof_enabled:1\naof_last_write_status:err");
        assert_eq!(severity(&persistence(&cli(), &failed, None, None)), Severity::Failure);
        let failed = Info::read("aof_enabled:1\naof_last_write_status:ok");
        let lazy = persistence(&cli(), &failed, Some(""), Some("no"));
        assert_eq!(severity(&lazy), Severity::Warning);
        assert_eq!(severity(&persistence(&cli(), &failed, None, None)), Severity::Good);
        let cut = timeout(&cli(), Some(30), false);
        assert_eq!(severity(&cut), Severity::Warning);
        assert!(cut.mend.contains("CONFIG SET timeout 0"));
        let silent = Info::read("");
        assert_eq!(severity(&eviction(&cli(), &silent)), Severity::Good);
    }
}
