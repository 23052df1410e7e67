use bidlock::{Diagnose, Finding, Severity, StoreUrl, Ttl};
use serde_json::json;

use super::context::Context;
use crate::args::DoctorArgs;
use crate::config::Origin;
use crate::exit::{Failure, code};
use crate::output::{Output, visible, wrapped};

/// What was found in one store.
struct Section {
    /// `lock` or `ledger`.
    store: &'static str,
    /// Where it is.
    place: String,
    findings: Vec<Finding>,
}

/// Looks at the lock store for what could harm locks, and at the ledger for what could lose or
/// repeat a bid.
pub(crate) async fn run(args: DoctorArgs, context: &Context) -> Result<u8, Failure> {
    let config = &context.config;
    let url = config.lock.built()?;
    let Some(doctor) = bidlock::doctor(url, &config.prefix.value, &context.platform) else {
        let message = format!("{url} keeps no locks");
        return Err(Failure::new(code::CONFIG, "unsupported", message));
    };
    let ledger_doctor = bidlock::ledger_doctor(config.ledger.built()?, &context.platform);
    if args.acl {
        let ledger = ledger_doctor.as_ref().and_then(|doctor| doctor.rights());
        return rights(doctor.rights(), ledger, context);
    }
    let ttl = Ttl::new(args.ttl)?;
    context.say_default();
    let mut findings = match not_there(context) {
        Some(finding) => vec![finding],
        None => doctor.diagnose(ttl).await,
    };
    let old = config.also.as_ref().and_then(|old| old.value.doctor(&context.platform));
    if let Some(old) = old {
        findings.extend(old.diagnose(ttl).await);
    }
    let mut sections = vec![Section { store: "lock", place: config.lock.to_string(), findings }];
    if let Some(doctor) = ledger_doctor.filter(|_| is_there(context)) {
        let findings = ledger(&*doctor, ttl, context).await;
        let place = config.ledger.to_string();
        sections.push(Section { store: "ledger", place, findings });
    }
    show(&sections, context)?;
    let mut code = 0;
    for section in &sections {
        let worst = section.findings.iter().map(|finding| finding.severity).max();
        let its = match worst {
            Some(Severity::Failure) => code_of_failure(section, context).await,
            Some(Severity::Warning) if args.strict => code::CONFIG,
            _ => 0,
        };
        code = if code == 0 { its } else { code };
    }
    summary(&sections, code, context);
    Ok(code)
}

/// A file for locks that was named, and is made by no look.
fn not_there(context: &Context) -> Option<Finding> {
    context.config.lock.missing_file().map(|path| {
        let found = format!("{} is not there", path.display());
        let why = "with another name than the other bidders', locks keep nobody out";
        let mend = "nothing, where no lock was taken yet: the first one makes it; else correct \
                    the name";
        Finding::warning("reach", found, why, mend)
    })
}

/// Whether there is a ledger to look at: a file that nobody has named, and that no bid has made
/// yet, is none.
fn is_there(context: &Context) -> bool {
    let ledger = &context.config.ledger;
    let named = !matches!(ledger.origin, Origin::Default | Origin::Locks);
    match &ledger.value {
        StoreUrl::Sqlite(path) => named || path.exists(),
        _ => true,
    }
}

/// What the ledger's own doctor finds, and whether it is the one that it was (L12).
async fn ledger(doctor: &dyn Diagnose, ttl: Ttl, context: &Context) -> Vec<Finding> {
    let mut findings = doctor.diagnose(ttl).await;
    let sound = findings.iter().all(|finding| finding.severity < Severity::Failure);
    if !(sound && is_made(&findings)) {
        return findings;
    }
    findings.push(marks(context).await.unwrap_or_else(|failure| {
        let harm = "no bid can be made with it";
        let mend = failure.hint.clone().unwrap_or_default();
        Finding::failure("marks", failure.with_causes(), harm, mend)
    }));
    findings
}

/// Whether the ledger knows what this machine saw started in it (L12).
async fn marks(context: &Context) -> Result<Finding, Failure> {
    let ledger = context.ledger_to_read().await?;
    if let Some(why) = ledger.forgotten().await? {
        let harm = "bids that it has forgotten would be made again: it gives nothing out";
        let mend = "bidlock ledger import FILE (the newest export), or ask the marketplaces, \
                    then bidlock ledger accept --because TEXT";
        return Ok(Finding::failure("marks", why, harm, mend));
    }
    if let Some(why) = ledger.marks_unreadable().await? {
        let harm = "should the ledger be an older copy, this machine would not notice";
        let mend = "mend its rights, or remove it: the next bid writes it anew";
        return Ok(Finding::warning("marks", why, harm, mend));
    }
    Ok(Finding::good("marks", "it knows what this machine saw started"))
}

fn show(sections: &[Section], context: &Context) -> Result<(), Failure> {
    let output = &context.output;
    for section in sections {
        if output.json {
            for finding in &section.findings {
                let mut object = object(finding);
                object["store"] = section.store.into();
                output.object(&object)?;
            }
        } else if output.is_terminal() {
            if sections.len() > 1 {
                let head = format!("{}: {}", section.store, visible(&section.place));
                output.data(&format!("{}\n", output.paint_data("1", &head)))?;
            }
            output.data(&for_people(&section.findings, output))?;
        } else {
            output.data(&for_programs(section))?;
        }
    }
    Ok(())
}

/// Prints the least rights; nothing is contacted.
fn rights(lock: Option<String>, ledger: Option<String>, context: &Context) -> Result<u8, Failure> {
    let output = &context.output;
    if lock.is_none() && ledger.is_none() {
        let message = format!("{} has no users to give rights to", context.config.lock);
        return Err(Failure::new(code::CONFIG, "no_users", message)
            .hint("--acl is for Redis and Valkey, and for PostgreSQL: name a server with --url"));
    }
    for (store, rights) in [("lock", lock), ("ledger", ledger)] {
        let Some(rights) = rights else { continue };
        if output.json {
            output.object(&json!({ "store": store, "rights": rights }))?;
        } else {
            output.data(&format!("{}\n", rights.trim_end()))?;
        }
    }
    Ok(0)
}

/// Whether there is a ledger of this version: opening one that is yet to be made, or to be brought
/// up to date, would do that, and a doctor changes nothing.
fn is_made(findings: &[Finding]) -> bool {
    findings.iter().filter(|finding| finding.check == "schema").any(|finding| {
        let told = [&finding.found, &finding.why];
        !told.iter().any(|text| text.contains("the first bid") || text.contains("the next bid"))
    })
}

/// The code that any other command ends with on this store; 78 where it would still work.
async fn code_of_failure(section: &Section, context: &Context) -> u8 {
    let fails = |check: &str| {
        let mut findings = section.findings.iter();
        findings.any(|finding| finding.severity == Severity::Failure && finding.check == check)
    };
    if section.store == "ledger" {
        let looked_inside = section.findings.iter().any(|finding| finding.check == "schema");
        match () {
            () if fails("rights") => return code::PERMISSION,
            () if fails("failover") => return code::UNAVAILABLE,
            () if looked_inside && !is_made(&section.findings) => return code::CONFIG,
            () => {}
        }
    }
    let answer = async {
        match section.store {
            "lock" => context.locker_to_read().await?.ping().await?,
            _ => context.ledger_to_read().await?.ping().await?,
        };
        Ok::<_, Failure>(())
    };
    match answer.await {
        Ok(()) => code::CONFIG,
        Err(failure) => failure.code,
    }
}

fn object(finding: &Finding) -> serde_json::Value {
    let told = |text: &String| (!text.is_empty()).then(|| text.clone());
    json!({
        "check": finding.check,
        "severity": finding.severity.as_str(),
        "found": finding.found,
        "why": told(&finding.why),
        "mend": told(&finding.mend),
    })
}

/// A line for each finding, and below it what is to be done.
fn for_people(findings: &[Finding], output: &Output) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut text = String::new();
    for finding in findings {
        let (mark, style) = match finding.severity {
            Severity::Good => ("✓", "32"),
            Severity::Warning => ("!", "33"),
            Severity::Failure => ("✗", "1;31"),
        };
        // Painted after it was wrapped: colours take no room.
        let head = format!("{mark} {:width$}  ", finding.check);
        let line = wrapped(&head, &finding.found, output.width());
        text.push_str(&line.replacen(mark, &output.paint_data(style, mark), 1));
        for (word, told) in [("why", &finding.why), ("mend", &finding.mend)] {
            if !told.is_empty() {
                let head = format!("  {:width$}  {word}: ", "");
                text.push_str(&wrapped(&head, told, output.width()));
            }
        }
    }
    text
}

/// A line for each finding, with tabs between: severity, check, found, why, mend.
fn for_programs(section: &Section) -> String {
    let of = if section.store == "ledger" { "ledger " } else { "" };
    let line = |finding: &Finding| {
        let told = [&finding.found, &finding.why, &finding.mend].map(|text| visible(text));
        format!("{}\t{of}{}\t{}\n", finding.severity, finding.check, told.join("\t"))
    };
    section.findings.iter().map(line).collect()
}

fn summary(sections: &[Section], code: u8, context: &Context) {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let mut total = [0; 3];
    let mut lines = Vec::new();
    for section in sections {
        let count = |severity| section.findings.iter().filter(|f| f.severity == severity).count();
        let counts = [Severity::Good, Severity::Warning, Severity::Failure].map(count);
        let [good, warnings, failures] = counts;
        lines.push(format!(
            "{} {}: {good} good, {warnings} warning{}, {failures} failure{}",
            section.store,
            section.place,
            plural(warnings),
            plural(failures),
        ));
        for (total, count) in total.iter_mut().zip(counts) {
            *total += count;
        }
    }
    let [good, warnings, failures] = total;
    let failed =
        |section: &&Section| section.findings.iter().any(|f| f.severity == Severity::Failure);
    let failed: Vec<&str> = sections.iter().filter(failed).map(|section| section.store).collect();
    let object = json!({
        "store": context.config.lock.to_string(),
        "ledger": sections.iter().find(|it| it.store == "ledger").map(|it| it.place.clone()),
        "failed": failed,
        "good": good,
        "warnings": warnings,
        "failures": failures,
        "code": code,
    });
    context.output.report(code == 0, &lines, &object);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Color, Global};

    fn sample() -> [Finding; 3] {
        [
            Finding::good("reach", "redis://h answers"),
            Finding::warning("persistence", "nothing is\nwritten", "a restart forgets", "CONFIG x"),
            Finding::failure("eviction", "allkeys-lru", "locks are evicted", "CONFIG y"),
        ]
    }

    #[test]
    fn people_see_a_mark_and_below_it_what_to_do() {
        let plain = Output::new(&Global::bare(false, Color::Never));
        let text = for_people(&sample(), &plain);
        assert_eq!(
            text,
            "✓ reach        redis://h answers\n\
             ! persistence  nothing is\\u{a}written\n\
             \x20              why: a restart forgets\n\
             \x20              mend: CONFIG x\n\
             ✗ eviction     allkeys-lru\n\
             \x20              why: locks are evicted\n\
             \x20              mend: CONFIG y\n"
        );
        let colored = for_people(&sample(), &Output::new(&Global::bare(false, Color::Always)));
        assert!(colored.contains("\x1b[1;31m✗\x1b[0m eviction"), "{colored}");
    }

    #[test]
    fn programs_get_a_line_each_in_words() {
        let findings = sample().into();
        let text = for_programs(&Section { store: "lock", place: String::new(), findings });
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
        assert_eq!(lines[0], ["good", "reach", "redis://h answers", "", ""]);
        assert_eq!(
            lines[2],
            ["failure", "eviction", "allkeys-lru", "locks are evicted", "CONFIG y"]
        );
        assert_eq!(lines.len(), 3);
        let [good, _, failure] = sample().map(|finding| object(&finding));
        assert!(good["why"].is_null() && good["mend"].is_null() && good["severity"] == "good");
        assert_eq!(failure["mend"], "CONFIG y");
    }
}
