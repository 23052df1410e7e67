use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};

use crate::args::{Cli, EXIT_CODES};
use crate::exit::{Failure, code};
use crate::output::Output;

/// Prints a shell's completions.
pub(crate) fn completions(shell: clap_complete::Shell, output: &Output) -> Result<u8, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bidlock", &mut text);
    output.data(&String::from_utf8_lossy(&text))?;
    Ok(0)
}

/// Prints the manual page, or writes one per command.
pub(crate) fn man(folder: Option<&Path>, output: &Output) -> Result<u8, Failure> {
    let definition = Cli::command().after_help(EXIT_CODES);
    let Some(folder) = folder else {
        output.data(&page(definition)?)?;
        return Ok(0);
    };
    let write = || {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(definition, folder)
    };
    write().map_err(|e| {
        let message = format!("cannot write to {}: {e}", folder.display());
        Failure::new(Failure::from(e).code, "system", message).hint("name another folder")
    })?;
    output.say(&format!("the manual pages are in {}", folder.display()));
    Ok(0)
}

fn page(command: Command) -> io::Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Explains a command, one of its own commands, or the exit codes.
pub(crate) fn help(topic: &[String], output: &Output) -> Result<u8, Failure> {
    let mut definition = Cli::command();
    definition.build();
    if topic == ["exit-codes"] {
        output.data(&format!("{EXIT_CODES}\n"))?;
        return Ok(0);
    }
    let mut command = &mut definition;
    for name in topic {
        let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
        let (names, of) = (names.join(", "), command.get_name().to_owned());
        command = command.find_subcommand_mut(name).ok_or_else(|| {
            let hint = match (of.as_str(), names.as_str()) {
                ("bidlock", _) => format!("there are exit-codes, {names}"),
                (_, "") => format!("{of} has no commands of its own"),
                _ => format!("{of} has {names}"),
            };
            Failure::new(code::USAGE, "usage", format!("no help on {name:?}")).hint(hint)
        })?;
    }
    output.data(&command.render_long_help().to_string())?;
    Ok(0)
}
