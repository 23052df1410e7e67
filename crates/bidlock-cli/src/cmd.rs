//! One file per subcommand.

mod attempts;
mod bench;
mod bid;
mod cleanup;
mod context;
mod doctor;
mod health;
mod lease;
mod ledger;
mod lock;
mod locks;
mod manual;
mod operator;
mod reconcile;
mod revoke;
mod senders;

use std::future::Future;

use crate::args::{Cli, Command};
use crate::exit::Failure;
use crate::output::Output;
use context::Context;

/// Does what the command line asks, and returns the exit code.
///
/// # Errors
/// [`Failure`] carries its own exit code.
pub(crate) fn run(cli: Cli, output: &Output) -> Result<u8, Failure> {
    match cli.command {
        Command::Completions { shell } => return manual::completions(shell, output),
        Command::Man { out } => return manual::man(out.as_deref(), output),
        Command::Help { topic } => return manual::help(&topic, output),
        _ => {}
    }
    let context = Context::new(&cli.global, output.clone())?;
    match cli.command {
        Command::Bid(args) => on_runtime(bid::run(args, &context)),
        Command::Lock(args) => on_runtime(lock::run(args, &context)),
        Command::Acquire(args) => on_runtime(lease::acquire(args, &context)),
        Command::Renew(args) => on_runtime(lease::renew(args, &context)),
        Command::Release(args) => on_runtime(lease::release(args, &context)),
        Command::Locks(args) => on_runtime(locks::run(args, &context)),
        Command::Bids(args) => on_runtime(attempts::run(args, &context)),
        Command::Resolve(args) => on_runtime(operator::resolve(args, &context)),
        Command::Withdraw(args) => on_runtime(operator::withdraw(args, &context)),
        Command::Reopen(args) => on_runtime(operator::reopen(args, &context)),
        Command::Audit(args) => on_runtime(operator::audit(args, &context)),
        Command::Reconcile(args) => on_runtime(reconcile::run(args, &context)),
        Command::Ledger(args) => on_runtime(ledger::run(args, &context)),
        Command::Revoke(args) => on_runtime(revoke::run(args, &context)),
        Command::Health => on_runtime(health::run(&context)),
        Command::Doctor(args) => on_runtime(doctor::run(args, &context)),
        Command::Cleanup(args) => on_runtime(cleanup::run(args, &context)),
        Command::Bench(args) => on_runtime(bench::run(args, &context)),
        Command::Completions { .. } | Command::Man { .. } | Command::Help { .. } => Ok(0),
    }
}

/// Runs a command on the main thread: what must not be starved has the library's own thread.
fn on_runtime(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(command)
}
