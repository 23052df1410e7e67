//! A fleet of bidders under faults: real processes, servers and a marketplace, spoiled by the
//! plan of a seed, and a checker that counts what went wrong; the same for designs of old, which
//! must be caught.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]
#![allow(clippy::print_stderr, reason = "so are the words of its processes")]

mod bidder;
mod draw;
mod event;
mod faults;
mod feed;
mod fleet;
mod history;
mod market;
mod options;
mod plan;
mod report;
mod run;
mod scenario;
mod theory;
mod time;
mod verdict;
mod world;

use std::process::ExitCode;

use anyhow::Result;

use crate::report::Outcome;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match start(&words) {
        Ok(outcome) => ExitCode::from(outcome as u8),
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(words: &[String]) -> Result<Outcome> {
    match words {
        [role, setup] if role == "bidder" => bidder::main(setup).map(|()| Outcome::Good),
        [role, options @ ..] if role == "run" => run::run(&read(options)),
        options => run::run(&read(options)),
    }
}

/// Reads the options; says what is wrong with them, or the help that was asked for, and ends.
fn read(words: &[String]) -> options::Options {
    options::Options::read(words).unwrap_or_else(|error| error.exit())
}
