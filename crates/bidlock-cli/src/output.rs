//! What bidlock says, and where: data on stdout, everything else on stderr.

mod table;
pub(crate) mod time;
mod wrap;

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use crate::args::{Color, Global};
pub(crate) use table::{Cell, Table};
pub(crate) use wrap::wrapped;

/// Where and how to write.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "flags and facts that do not depend on another")]
pub(crate) struct Output {
    /// One JSON object per line.
    pub(crate) json: bool,
    quiet: bool,
    color_out: bool,
    color_err: bool,
    terminal: bool,
    /// How many columns stdout's terminal has.
    width: usize,
}

/// The width of a terminal that does not tell it.
const WIDTH: usize = 100;

impl Output {
    /// Looks at the flags, the terminal and the environment's wishes about colours.
    pub(crate) fn new(flags: &Global) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        // Source: no-color.org.
        let color = |terminal: bool| match flags.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !dumb && !set("NO_COLOR"),
        };
        let terminal = io::stdout().is_terminal();
        Self {
            json: flags.json,
            quiet: flags.quiet,
            color_out: color(terminal),
            color_err: color(io::stderr().is_terminal()),
            terminal,
            width: terminal_size::terminal_size_of(io::stdout())
                .map_or(WIDTH, |(width, _)| usize::from(width.0)),
        }
    }

    /// How many columns people see.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    /// Whether people look at stdout.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes data.
    ///
    /// # Errors
    /// The system's error when stdout takes nothing: a full disk, or a reader that has gone,
    /// which ends bidlock quietly.
    #[expect(clippy::unused_self, reason = "all writing goes through one place")]
    pub(crate) fn data(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Writes one object to stdout.
    ///
    /// # Errors
    /// As for [`Output::data`].
    pub(crate) fn object(&self, object: &Value) -> io::Result<()> {
        self.data(&format!("{object}\n"))
    }

    /// Writes a table: aligned for people, with tabs between for programs.
    ///
    /// # Errors
    /// As for [`Output::data`].
    pub(crate) fn table(&self, table: &Table) -> io::Result<()> {
        let text = if self.terminal { self.aligned(table) } else { table.tabbed() };
        self.data(&text)
    }

    /// Tells people on stderr what happened, unless they asked for silence or for JSON.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet && !self.json {
            self.stderr(&format!("{}\n", visible(text)));
        }
    }

    /// Tells on stderr how a command went that owns stdout: lines for people, or one object.
    /// Who asked for silence still hears what did not go well.
    pub(crate) fn report(&self, well: bool, lines: &[String], object: &Value) {
        if self.json {
            self.stderr(&format!("{object}\n"));
        } else if !(well && self.quiet) {
            for line in lines {
                self.stderr(&format!("{}\n", visible(line)));
            }
        }
    }

    /// Writes to stderr whatever it is; there is nobody to tell when that fails.
    #[expect(clippy::unused_self, reason = "all writing goes through one place")]
    pub(crate) fn stderr(&self, text: &str) {
        io::stderr().lock().write_all(text.as_bytes()).unwrap_or_default();
    }

    /// A table's text for people.
    pub(crate) fn aligned(&self, table: &Table) -> String {
        table.aligned(self.color_out)
    }

    /// Paints a word for stdout.
    pub(crate) fn paint_data(&self, style: &str, text: &str) -> String {
        if self.color_out { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Paints a word for stderr.
    pub(crate) fn paint(&self, style: &str, text: &str) -> String {
        if self.color_err { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The text in one line, without what could move the cursor or play with the terminal.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_bidi(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Characters that turn the direction of what follows. Source: UAX9 §2.
const fn is_bidi(c: char) -> bool {
    matches!(
        c,
        '\u{061C}' | '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plays_with_the_terminal_is_spelled_out() {
        assert_eq!(visible("job \x1b[31m\n"), "job \\u{1b}[31m\\u{a}");
        assert_eq!(visible("späť 🚀"), "späť 🚀");
    }
}
