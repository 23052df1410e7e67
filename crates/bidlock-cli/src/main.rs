//! The command line of bidlock.

mod args;
mod child;
mod cmd;
mod config;
mod exit;
mod log;
mod output;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Cli, Color, Global};
use exit::{Failure, code};
use output::Output;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::read(arguments.clone()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
    };
    let output = Output::new(&cli.global);
    log::to_stderr(&cli.global);
    match cmd::run(cli, &output) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.report(&output);
            ExitCode::from(failure.code)
        }
    }
}

/// Prints the help or the version that was asked for, or what is wrong with the command line.
fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let json = arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    if error.use_stderr() && json {
        let output = Output::new(&Global::bare(true, Color::Never));
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        // What follows the first paragraph is the usage.
        let message = text.split("\n\n").next().unwrap_or(text).trim_end();
        let failure = Failure::new(code::USAGE, "usage", message).hint("see `bidlock help`");
        failure.report(&output);
    } else {
        // There is nobody to tell when neither stream takes it.
        error.print().unwrap_or_default();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(code::USAGE))
}
