use bidlock::{Diagnose, Finding, Severity, Ttl};
use serde_json::json;

use super::context::Context;
use crate::args::DoctorArgs;
use crate::exit::{Failure, code};
use crate::output::{Output, visible, wrapped};

/// Looks at the lock store for what could harm locks.
pub(crate) async fn run(args: DoctorArgs, context: &Context) -> Result<u8, Failure> {
    let config = &context.config;
    let url = config.lock.built()?;
    let Some(doctor) = bidlock::doctor(url, &config.prefix.value, &context.platform) else {
        let message = format!("{url} keeps no locks");
        return Err(Failure::new(code::CONFIG, "unsupported", message));
    };
    if args.acl {
        return rights(&*doctor, context);
    }
    let ttl = Ttl::new(args.ttl)?;
    context.say_default();
    let findings = doctor.diagnose(ttl).await;
    if context.output.json {
        for finding in &findings {
            context.output.object(&object(finding))?;
        }
    } else if context.output.is_terminal() {
        context.output.data(&for_people(&findings, &context.output))?;
    } else {
        context.output.data(&for_programs(&findings))?;
    }
    let worst = findings.iter().map(|finding| finding.severity).max();
    let code = match worst {
        Some(Severity::Failure) => code_of_failure(context).await,
        Some(Severity::Warning) if args.strict => code::CONFIG,
        _ => 0,
    };
    summary(&findings, code, context);
    Ok(code)
}

/// Prints the least rights; nothing is contacted.
fn rights(doctor: &dyn Diagnose, context: &Context) -> Result<u8, Failure> {
    let Some(rights) = doctor.rights() else {
        let message = format!("{} has no users to give rights to", context.config.lock);
        return Err(Failure::new(code::CONFIG, "no_users", message)
            .hint("--acl is for Redis and Valkey: name a server with --url redis://HOST"));
    };
    if context.output.json {
        context.output.object(&json!({ "rights": rights }))?;
    } else {
        context.output.data(&format!("{}\n", rights.trim_end()))?;
    }
    Ok(0)
}

/// The code that any other command ends with on this store; 78 where it would still work.
async fn code_of_failure(context: &Context) -> u8 {
    let answer = async { Ok::<_, Failure>(context.locker().await?.ping().await?) };
    match answer.await {
        Ok(_) => code::CONFIG,
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
fn for_programs(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let told = [&finding.found, &finding.why, &finding.mend].map(|text| visible(text));
        format!("{}\t{}\t{}\n", finding.severity, finding.check, told.join("\t"))
    };
    findings.iter().map(line).collect()
}

fn summary(findings: &[Finding], code: u8, context: &Context) {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let [good, warnings, failures] =
        [Severity::Good, Severity::Warning, Severity::Failure].map(count);
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let store = context.config.lock.to_string();
    let line = format!(
        "{store}: {good} good, {warnings} warning{}, {failures} failure{}",
        plural(warnings),
        plural(failures)
    );
    let object = json!({
        "store": store,
        "good": good,
        "warnings": warnings,
        "failures": failures,
        "code": code,
    });
    context.output.report(code == 0, &[line], &object);
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
        let text = for_programs(&sample());
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
