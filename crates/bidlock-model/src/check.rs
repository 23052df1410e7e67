//! Runs one model to its end.

use std::fmt::Debug;
use std::hash::Hash;
use std::num::NonZero;
use std::time::{Duration, Instant};

use stateright::{Checker as _, Expectation, HasDiscoveries, Model};

/// What came of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its name.
    pub name: &'static str,
    /// How many different states it has.
    pub states: usize,
    /// The number of steps to the one that is farthest away.
    pub depth: usize,
    /// How long the check took.
    pub took: Duration,
    /// Properties that do not hold, each with the shortest way there.
    pub broken: Vec<Story>,
    /// What has to be possible for the rest to mean anything, and is not.
    pub unreached: Vec<&'static str>,
}

/// A way to a state in which a property does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// The property.
    pub property: &'static str,
    /// The steps, in order.
    pub steps: Vec<String>,
}

/// Looks at every state, up to the first that breaks a property.
pub(crate) fn check<M>(name: &'static str, model: M) -> Report
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    run(name, model, threads, HasDiscoveries::AnyFailures, None)
}

/// Looks for the shortest way to a state that breaks one property.
pub(crate) fn find<M>(property: &'static str, model: &M) -> Report
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    /// The way there is to be short, so the depth is raised by one until there is one.
    const DEEPEST: usize = 40;
    let finish = || HasDiscoveries::AllOf([property].into());
    let mut report = run(property, model.clone(), 1, finish(), Some(1));
    for depth in 2..=DEEPEST {
        if report.broken.iter().any(|story| story.property == property) {
            break;
        }
        report = run(property, model.clone(), 1, finish(), Some(depth));
    }
    report
}

fn run<M>(
    name: &'static str,
    model: M,
    threads: usize,
    finish: HasDiscoveries,
    depth: Option<usize>,
) -> Report
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let began = now();
    let mut checker = model.checker().threads(threads).finish_when(finish);
    if let Some(depth) = depth {
        checker = checker.target_max_depth(depth);
    }
    let checker = checker.spawn_bfs().join();
    let found = checker.discoveries();
    let properties = checker.model().properties();
    let mut report = Report {
        name,
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: now().duration_since(began),
        broken: Vec::new(),
        unreached: Vec::new(),
    };
    for property in properties {
        match (property.expectation, found.get(property.name)) {
            (Expectation::Sometimes, None) => report.unreached.push(property.name),
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                let steps = path.clone().into_actions().iter().map(|a| format!("{a:?}")).collect();
                report.broken.push(Story { property: property.name, steps });
            }
            _ => {}
        }
    }
    report
}

#[expect(clippy::disallowed_methods, reason = "how long a check took, which nothing depends on")]
fn now() -> Instant {
    Instant::now()
}
