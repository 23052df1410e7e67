//! Checks the models of bidlock's protocols and says how many states each has; `--json` says it in
//! lines of JSON, `--mutants` looks for mistakes instead, and any other word means the models whose
//! names begin with it. Exits with 1 when something is wrong.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bidlock_model::{Mutant, Report, Story};
use serde_json::json;

fn main() -> io::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| args.iter().any(|arg| arg == option);
    let good = if has("--mutants") && has("--table") {
        table()?
    } else if has("--mutants") {
        mutants()?
    } else {
        models(has("--json"), args.iter().find(|arg| !arg.starts_with('-')))?
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn models(json: bool, only: Option<&String>) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let mut reports: Vec<Report> = Vec::new();
    for report in bidlock_model::all(only.map_or("", String::as_str)) {
        if json {
            writeln!(out, "{}", as_json(&report))?;
        } else {
            let (name, states, depth) = (report.name, report.states, report.depth);
            let seconds = report.took.as_secs_f64();
            writeln!(out, "{states:>9} states, depth {depth:>2}, {seconds:>5.1} s  {name}")?;
            report.broken.iter().try_for_each(|story| tell(&mut out, story))?;
        }
        reports.push(report);
    }
    let unreached = bidlock_model::unreached(&reports);
    let broken = reports.iter().filter(|report| !report.broken.is_empty()).count();
    let states: usize = reports.iter().map(|report| report.states).sum();
    let seconds: f64 = reports.iter().map(|report| report.took.as_secs_f64()).sum();
    if !json {
        for what in &unreached {
            writeln!(out, "never reached: {what}")?;
        }
        let models = reports.len();
        writeln!(out, "{models} models, {states} states, {seconds:.1} s, {broken} broken")?;
    }
    Ok(broken == 0 && (unreached.is_empty() || only.is_some()))
}

fn mutants() -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let mut good = true;
    for Mutant { name, property, report } in bidlock_model::mutants() {
        let story = report.broken.iter().find(|story| story.property == property);
        good &= story.is_some();
        let (states, word) = (report.states, if story.is_some() { "found" } else { "MISSED" });
        writeln!(out, "{name}: {word} by «{property}» after {states} states")?;
        story.into_iter().try_for_each(|story| tell(&mut out, story))?;
    }
    Ok(good)
}

/// The mistakes as `docs/verification.md` lists them.
fn table() -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let mut good = true;
    writeln!(out, "{}\n|---|---|---|", bidlock_model::TABLE)?;
    for mutant in bidlock_model::mutants() {
        let steps = mutant.steps();
        good &= steps > 0;
        let (name, property) = (&mutant.name, mutant.property);
        writeln!(out, "| {name} | {property} | {steps} |")?;
    }
    Ok(good)
}

fn tell(out: &mut impl io::Write, story: &Story) -> io::Result<()> {
    writeln!(out, "    «{}» does not hold after", story.property)?;
    story.steps.iter().try_for_each(|step| writeln!(out, "      {step}"))
}

fn as_json(report: &Report) -> serde_json::Value {
    let told = |story: &Story| json!({ "property": story.property, "steps": story.steps });
    json!({
        "model": report.name,
        "states": report.states,
        "depth": report.depth,
        "ms": u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
        "broken": report.broken.iter().map(told).collect::<Vec<_>>(),
    })
}
