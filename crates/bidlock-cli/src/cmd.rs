//! One file per subcommand.

mod manual;

use crate::args::{Cli, Command};
use crate::exit::Failure;
use crate::output::Output;

/// Does what the command line asks, and returns the exit code.
///
/// # Errors
/// [`Failure`] carries its own exit code.
pub(crate) fn run(cli: Cli, output: &Output) -> Result<u8, Failure> {
    match cli.command {
        Command::Completions { shell } => manual::completions(shell, output),
        Command::Man { out } => manual::man(out.as_deref(), output),
        Command::Help { topic } => manual::help(topic.as_deref(), output),
        _ => unreachable!(),
    }
}
