//! Measures bidlock beside the least that the same store could do: rounds of each in turn, so
//! that a machine that is busy with other things spoils both; medians and spread are printed.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

mod ledger;
mod lock;
mod pin;
mod redis;
mod round;

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::redis::server::{Kind, Server};
use crate::round::{Bench, Effort, print_head};

const USAGE: &str = "usage: bidlock-bench [--quick] [--json] [--unpinned] \
                     [--server redis62|redis70|valkey9] [--who NAME] [NAME …]";

/// What the benches share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) json: bool,
    /// The only contender that runs, for a profiler to see it alone.
    pub(crate) who: Option<String>,
    kind: Kind,
    server: OnceCell<Rc<Server>>,
}

impl Context {
    /// The server, started by the first bench that wants one, without any key.
    pub(crate) fn server(&self) -> Result<Rc<Server>> {
        if self.server.get().is_none() {
            // Nobody else fills it meanwhile: there is one thread.
            let started = Rc::new(Server::start(self.kind)?);
            self.server.get_or_init(|| started);
        }
        let server = self.server.get().context("it was just started")?;
        server.empty()?;
        Ok(Rc::clone(server))
    }
}

#[derive(Debug)]
struct Options {
    quick: bool,
    unpinned: bool,
    names: Vec<String>,
    context: Context,
}

fn options() -> Result<Options> {
    let (mut quick, mut unpinned, mut json) = (false, false, false);
    let (mut kind, mut who, mut names) = (Kind::Redis70, None, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--unpinned" => unpinned = true,
            "--json" => json = true,
            "--server" => kind = Kind::named(&words.next().context("--server without a name")?)?,
            "--who" => who = Some(words.next().context("--who without a name")?),
            flag if flag.starts_with('-') => bail!("{flag}: unknown option; {USAGE}"),
            name => names.push(name.to_owned()),
        }
    }
    let context = Context { json, who, kind, server: OnceCell::new() };
    Ok(Options { quick, unpinned, names, context })
}

/// Whether a bench has this name, or belongs to the group of it: `redis` means all of Redis.
fn is_meant(bench: &Bench, name: &str) -> bool {
    bench.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn main() -> Result<()> {
    let Options { quick, unpinned, names, context } = options()?;
    let (rounds, length) = if quick { (5, 300) } else { (15, 1_000) };
    let effort = Effort { rounds, length: Duration::from_millis(length) };
    let sqlite = lock::benches().into_iter().chain(ledger::benches());
    let benches: Vec<Bench> = sqlite.chain(redis::benches()).collect();
    if let Some(name) = names.iter().find(|name| !benches.iter().any(|b| is_meant(b, name))) {
        let known: Vec<_> = benches.iter().map(|b| b.name).collect();
        bail!("{name}: no such benchmark; there are {}", known.join(", "));
    }
    if !context.json {
        println!(
            "{rounds} rounds of {:?} each, in turn; Redis benches on {}, {}",
            effort.length,
            context.kind.name(),
            if unpinned { "on any core" } else { "all processes on one core" }
        );
        print_head();
    }
    let mut pinned = None;
    for bench in benches {
        if !names.is_empty() && !names.iter().any(|name| is_meant(&bench, name)) {
            continue;
        }
        if bench.name.starts_with("redis/") && !unpinned && pinned.is_none() {
            // Threads and processes that are started from here on inherit it.
            pinned = Some(pin::to_one_core()?);
        }
        bench.run(&context, effort).with_context(|| bench.name)?;
    }
    Ok(())
}
