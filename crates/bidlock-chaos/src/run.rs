//! The run: bidlock and each control in turn, under the same plan.

mod kept;
mod part;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bidlock_testkit::servers::ServerKind;

use crate::market;
use crate::options::Options;
use crate::report::{Line, Outcome, judge, say, table};
use crate::scenario::{Design, Scenario};
use crate::time;
use crate::world::World;

use part::Part;

/// Runs what was asked for; returns whether all designs did what they must.
pub(crate) fn run(options: &Options) -> Result<Outcome> {
    let begin = time::boot();
    let minutes = options.length.as_secs_f64() / 60.0;
    let (seed, scenario) = (options.seed, options.scenario);
    say(options.json, &format!("chaos: --seed {seed} --minutes {minutes} --scenario {scenario}"));
    let kind = if seed.is_multiple_of(2) { ServerKind::Redis70 } else { ServerKind::Valkey9 };
    let world = Arc::new(World::start(kind, scenario)?);
    world.market.judge(move |bid, before| market::judge(seed, scenario, bid, before));
    let mut verdicts = Vec::new();
    let mut share = 0.0;
    let all: f64 = options.designs.iter().map(|design| weight(*design, scenario)).sum();
    for design in &options.designs {
        share += weight(*design, scenario);
        let end = begin + time::micros(options.length.mul_f64((share / all).min(1.0)));
        let left = Duration::from_micros(end.saturating_sub(time::boot()));
        let verdict = Part::new(options, *design, left, &world).run()?;
        if options.json {
            println!("{}", serde_json::to_string(&Line::of(*design, scenario, &verdict))?);
        } else {
            println!("{design}: faults {:?}; slowest {}", verdict.faults, verdict.slowest);
        }
        verdicts.push((*design, verdict));
    }
    if !options.json {
        println!("{}", table(&verdicts));
    }
    Ok(judge(options.json, scenario, &verdicts))
}

/// What part of the time a design gets.
const fn weight(design: Design, scenario: Scenario) -> f64 {
    match (design, scenario) {
        (Design::Bidlock, Scenario::Mixed) => 55.0,
        (Design::Bidlock, _) => 40.0,
        (_, Scenario::Mixed) => 15.0,
        _ => 20.0,
    }
}
