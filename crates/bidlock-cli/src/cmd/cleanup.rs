use bidlock::ledger::{AuditAct, Ledger, OperatorNote};
use bidlock::{Cleanup, Key, Leftover, Prefix};
use serde_json::json;

use super::context::Context;
use crate::args::CleanupArgs;
use crate::exit::Failure;
use crate::output::{Cell, Output, Table, visible, wrapped};

/// Lists what nothing will end by itself, or removes it; never a live lease (R19).
pub(crate) async fn run(args: CleanupArgs, context: &Context) -> Result<u8, Failure> {
    context.say_default();
    let locker = context.locker_to_read().await?;
    let Some(cleanup) = locker.cleanup() else {
        let told =
            format!("nothing to clean up: everything in {} ends by itself", locker.endpoint());
        context.output.say(&told);
        return Ok(0);
    };
    let prefix = locker.prefix();
    let leftovers = cleanup.leftovers(prefix).await?;
    if leftovers.is_empty() {
        context.output.say(&format!("nothing is left behind under {}", prefix.as_str()));
        return Ok(0);
    }
    let removable = leftovers.iter().filter(|leftover| !leftover.remedy.is_empty()).count();
    let Some(because) = args.because.filter(|_| args.yes) else {
        let results: Vec<_> = leftovers.iter().map(|leftover| (leftover, Done::Listed)).collect();
        show(&results, context)?;
        context.output.say(&match removable {
            0 => "none of it is bidlock's: it is left alone".to_owned(),
            some => format!("to mend {some} of them: bidlock cleanup --yes --because TEXT"),
        });
        return Ok(0);
    };
    let mut results = Vec::new();
    let failed = if removable > 0 {
        // Opened before anything is removed: what cannot be audited is not done.
        let audit = Audit { ledger: context.ledger().await?, prefix, note: context.note(because) };
        mend_all(&*cleanup, &audit, &leftovers, &mut results).await
    } else {
        results.extend(leftovers.iter().map(|leftover| (leftover, Done::LeftAlone)));
        Ok(())
    };
    show(&results, context)?;
    let count = |done| results.iter().filter(|(_, result)| *result == done).count();
    let (mended, changed) = (count(Done::Mended), count(Done::Changed));
    let alone = count(Done::LeftAlone);
    context
        .output
        .say(&format!("{mended} done; {changed} had changed meanwhile; {alone} left alone"));
    failed.map(|()| 0)
}

/// What became of one leftover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Nothing was to be done.
    Listed,
    /// What its remedy says was done.
    Mended,
    /// It was not as it was any more, and was not touched.
    Changed,
    /// It is another program's.
    LeftAlone,
}

impl Done {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Mended => "done",
            Self::Changed => "changed",
            Self::LeftAlone => "left_alone",
        }
    }
}

/// Where each act is kept, before it is done and after.
struct Audit<'a> {
    ledger: Ledger,
    prefix: &'a Prefix,
    note: OperatorNote,
}

impl Audit<'_> {
    fn act(&self, leftover: &Leftover, act: &str) -> AuditAct {
        let because = format!("{} ({})", self.note.because, visible(&leftover.name));
        AuditAct {
            act: act.to_owned(),
            key: key_of(self.prefix, &leftover.name),
            attempt: None,
            token: None,
            note: OperatorNote { because, ..self.note.clone() },
        }
    }
}

/// Mends what has a remedy, one after the other, until the first failure; what was done is in
/// `results`.
async fn mend_all<'a>(
    cleanup: &dyn Cleanup,
    audit: &Audit<'_>,
    leftovers: &'a [Leftover],
    results: &mut Vec<(&'a Leftover, Done)>,
) -> Result<(), Failure> {
    for leftover in leftovers {
        if leftover.remedy.is_empty() {
            results.push((leftover, Done::LeftAlone));
            continue;
        }
        // An act without a result in the audit is one of which nobody knows whether it took
        // effect.
        audit.ledger.audit_append(&audit.act(leftover, "cleanup")).await?;
        let removed = cleanup.remove(leftover).await?;
        let (done, result) = if removed {
            (Done::Mended, "cleanup_done")
        } else {
            (Done::Changed, "cleanup_changed")
        };
        results.push((leftover, done));
        audit.ledger.audit_append(&audit.act(leftover, result)).await.map_err(|error| {
            let under = Failure::from(error);
            let name = &leftover.name;
            let message = format!(
                "{name}: {}, but the audit did not take that: {}",
                done.as_str(),
                under.message
            );
            Failure { message, hint: Some("see `bidlock cleanup`".to_owned()), ..under }
        })?;
    }
    Ok(())
}

/// The key that a leftover belongs to, where its name says it: as it is, or in braces.
fn key_of(prefix: &Prefix, name: &str) -> Option<Key> {
    let tag = || name.split_once('{')?.1.split_once('}').map(|(tag, _)| tag);
    Key::parse(prefix, name).ok().or_else(|| Key::parse(prefix, tag()?).ok())
}

/// What is said of a leftover that has no remedy.
const FOREIGN: &str = "another program's: left alone";

fn show(results: &[(&Leftover, Done)], context: &Context) -> Result<(), Failure> {
    let output = &context.output;
    if output.json {
        for (leftover, done) in results {
            output.object(&json!({
                "name": leftover.name,
                "result": done.as_str(),
                "why": leftover.why,
                "remedy": (!leftover.remedy.is_empty()).then_some(leftover.remedy),
            }))?;
        }
    } else if output.is_terminal() {
        output.data(&for_people(results, output))?;
    } else {
        output.table(&for_programs(results))?;
    }
    Ok(())
}

fn remedy(leftover: &Leftover) -> &str {
    if leftover.remedy.is_empty() { FOREIGN } else { leftover.remedy }
}

fn result_cell(done: Done) -> Cell {
    let style = match done {
        Done::Mended => "32",
        Done::Changed => "33",
        Done::Listed | Done::LeftAlone => "",
    };
    Cell::colored(done.as_str().replace('_', " "), style)
}

fn for_programs(results: &[(&Leftover, Done)]) -> Table {
    let mut table = Table::new(&["NAME", "RESULT", "WHY", "REMEDY"]);
    for (leftover, done) in results {
        let (name, why) = (leftover.name.as_str(), leftover.why.as_str());
        table.row(vec![name.into(), result_cell(*done), why.into(), remedy(leftover).into()]);
    }
    table
}

/// Names and results in columns, and what takes more room below each.
fn for_people(results: &[(&Leftover, Done)], output: &Output) -> String {
    let mut table = Table::new(&["NAME", "RESULT"]);
    for (leftover, done) in results {
        table.row(vec![leftover.name.as_str().into(), result_cell(*done)]);
    }
    let rows = output.aligned(&table);
    let mut rows = rows.split_inclusive('\n');
    let mut text = rows.next().unwrap_or_default().to_owned();
    for (row, (leftover, _)) in rows.zip(results) {
        text.push_str(row);
        text.push_str(&wrapped("  why: ", &leftover.why, output.width()));
        text.push_str(&wrapped("  remedy: ", remedy(leftover), output.width()));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bidlock::ledger::AuditQuery;
    use bidlock::{BackendError, Endpoint, Op, StoreUrl};
    use tempfile::TempDir;

    use super::*;
    use crate::args::{Color, Global};

    /// Leftovers whose removal goes as their `why` says.
    #[derive(Debug, Default)]
    struct Rubbish(Mutex<Vec<String>>);

    #[async_trait]
    impl Cleanup for Rubbish {
        async fn leftovers(&self, _prefix: &Prefix) -> Result<Vec<Leftover>, BackendError> {
            Ok(Vec::new())
        }

        async fn remove(&self, leftover: &Leftover) -> Result<bool, BackendError> {
            self.0.lock().unwrap().push(leftover.name.clone());
            match leftover.why.as_str() {
                "changes" => Ok(false),
                "fails" => Err(BackendError::Unreachable {
                    op: Op::Cleanup,
                    key: None,
                    endpoint: Endpoint::new("redis://h"),
                    source: "gone".into(),
                }),
                _ => Ok(true),
            }
        }
    }

    fn leftover(name: &str, why: &str, remedy: &'static str) -> Leftover {
        Leftover { name: name.to_owned(), why: why.to_owned(), remedy }
    }

    async fn ledger(folder: &TempDir) -> Ledger {
        let url = StoreUrl::Sqlite(folder.path().join("x.db"));
        let platform = bidlock::platform::system().unwrap();
        bidlock::open_ledger(&url, &platform).await.unwrap()
    }

    async fn acts(ledger: &Ledger) -> Vec<(String, String)> {
        let mut acts = ledger.audit(&AuditQuery::default()).await.unwrap();
        acts.reverse();
        acts.into_iter().map(|entry| (entry.act, entry.because)).collect()
    }

    #[tokio::test]
    async fn what_is_removed_is_audited_before_and_after_and_what_is_foreign_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (store, prefix) = (Rubbish::default(), Prefix::default());
        let note = OperatorNote { actor: "ann@h".to_owned(), because: "old".to_owned() };
        let audit = Audit { ledger: ledger(&folder).await, prefix: &prefix, note };
        let leftovers = [
            leftover("bid_lock:upwork:a", "stays", "DEL"),
            leftover("theirs", "foreign", ""),
            leftover("{bid_lock:upwork:b}:waiters", "changes", "DEL"),
            leftover("bid_lock:upwork:c", "fails", "DEL"),
            leftover("bid_lock:upwork:d", "stays", "DEL"),
        ];
        let mut results = Vec::new();
        let failed = mend_all(&store, &audit, &leftovers, &mut results).await.unwrap_err();
        assert_eq!(failed.code, 69);
        let done: Vec<Done> = results.iter().map(|(_, done)| *done).collect();
        assert_eq!(done, [Done::Mended, Done::LeftAlone, Done::Changed]);
        // What comes after a failure is not begun, and what is foreign is not touched.
        let touched = store.0.into_inner().unwrap();
        assert_eq!(
            touched,
            ["bid_lock:upwork:a", "{bid_lock:upwork:b}:waiters", "bid_lock:upwork:c"]
        );
        let acts = acts(&audit.ledger).await;
        let told: Vec<&str> = acts.iter().map(|(act, _)| act.as_str()).collect();
        assert_eq!(told, ["cleanup", "cleanup_done", "cleanup", "cleanup_changed", "cleanup"]);
        assert_eq!(acts[0].1, "old (bid_lock:upwork:a)");
    }

    #[tokio::test]
    async fn what_cannot_be_audited_is_not_done() {
        let folder = tempfile::tempdir().unwrap();
        let (store, prefix) = (Rubbish::default(), Prefix::default());
        let note = OperatorNote { actor: "ann@h".to_owned(), because: "x".repeat(2_000) };
        let audit = Audit { ledger: ledger(&folder).await, prefix: &prefix, note };
        let leftovers = [leftover("bid_lock:upwork:a", "stays", "DEL")];
        let mut results = Vec::new();
        assert!(mend_all(&store, &audit, &leftovers, &mut results).await.is_err());
        assert!(results.is_empty() && store.0.into_inner().unwrap().is_empty());
    }

    #[test]
    fn people_see_names_and_below_them_what_to_do_in_the_width_of_a_terminal() {
        let lease = leftover("bid_lock:upwork:a", "a lease of h:7 that has no end", "it is ended");
        let theirs = leftover("bid_lock:upwork:bcd", &"foreign ".repeat(30), "");
        let results = [(&lease, Done::Mended), (&theirs, Done::LeftAlone)];
        let plain = Output::new(&Global::bare(false, Color::Never));
        let text = for_people(&results, &plain);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "NAME                 RESULT",
                "bid_lock:upwork:a    done",
                "  why: a lease of h:7 that has no end",
                "  remedy: it is ended",
                "bid_lock:upwork:bcd  left alone",
            ]
        );
        assert_eq!(lines.last(), Some(&"  remedy: another program's: left alone"));
        assert!(lines.iter().all(|line| line.len() <= plain.width()), "{text}");
        assert_eq!(for_programs(&results).tabbed().lines().count(), 2);
    }

    #[test]
    fn a_name_tells_its_key() {
        let prefix = Prefix::default();
        let key = Some(Key::new("upwork", "a").unwrap());
        assert_eq!(key_of(&prefix, "bid_lock:upwork:a"), key);
        assert_eq!(key_of(&prefix, "{bid_lock:upwork:a}:waiters"), key);
        for other in ["theirs", "{x}:waiters", "bid_lock", "{", "other:upwork:a"] {
            assert_eq!(key_of(&prefix, other), None, "{other}");
        }
    }
}
