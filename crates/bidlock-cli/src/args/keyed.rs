//! `bidlock lock --key NAME CMD …`: with a name there is no MARKETPLACE POSTING, so the first
//! word that is no option begins the command.

use std::ffi::OsString;

use clap::Command;

/// Puts `--` before the command of `lock --key NAME CMD …`, where it is missing, and tells
/// whether all words that are left belong to the command.
pub(super) fn separate(
    definition: &Command,
    mut arguments: Vec<OsString>,
) -> (Vec<OsString>, bool) {
    let Some(lock) = definition.find_subcommand("lock") else { return (arguments, false) };
    let mut inside = false;
    let mut named = false;
    let mut at = 1;
    while let Some(word) = arguments.get(at) {
        let word = word.to_string_lossy();
        if word == "--" {
            return (arguments, inside && named);
        }
        if word == "-" || !word.starts_with('-') {
            if inside {
                if named {
                    arguments.insert(at, "--".into());
                }
                return (arguments, named);
            }
            if word != "lock" {
                return (arguments, false);
            }
            inside = true;
        } else {
            named |= inside && (word == "--key" || word.starts_with("--key="));
            if takes_next(definition, lock, &word) {
                at += 1;
            }
        }
        at += 1;
    }
    (arguments, false)
}

/// Whether the word is an option whose value is the next word.
fn takes_next(definition: &Command, lock: &Command, option: &str) -> bool {
    let mut known = definition.get_arguments().chain(lock.get_arguments());
    if let Some(long) = option.strip_prefix("--") {
        return known.any(|a| a.get_long() == Some(long) && a.get_action().takes_values());
    }
    // In `-qE 5` only the last letter can take the next word; in `-E5` none does.
    let mut letters = option.chars().skip(1).peekable();
    while let Some(letter) = letters.next() {
        let mut known = definition.get_arguments().chain(lock.get_arguments());
        if known.any(|a| a.get_short() == Some(letter) && a.get_action().takes_values()) {
            return letters.peek().is_none();
        }
    }
    false
}
