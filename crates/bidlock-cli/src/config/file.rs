//! The file of `NAME=value` lines.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::ConfigError;

type Pairs = (PathBuf, HashMap<String, String>);

/// What is said of a line that cannot be read.
const FORM: &str = "not of the form NAME=value (a value with a space, $, #, a quote or a \
                    backslash stands in single quotes)";

/// Reads a file of `NAME=value` lines; `None` when it is not there.
pub(super) fn read_file(path: &Path) -> Result<Option<Pairs>, ConfigError> {
    const HINT: &str = "correct the file, or ignore it with --no-env-file";
    let refuse = |why: String| ConfigError::File { path: path.to_owned(), why, hint: HINT };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(refuse(format!("cannot be read: {e}"))),
    };
    let text = String::from_utf8(bytes).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = before.split(|b| *b == b'\n').count();
        refuse(format!("line {line}: not UTF-8"))
    })?;
    Ok(Some((path.to_owned(), pairs(&text).map_err(refuse)?)))
}

/// Reads the lines. What is wrong names a line's number, and not the line: it may hold a password.
fn pairs(text: &str) -> Result<HashMap<String, String>, String> {
    let read = Cell::new(0);
    let mut from = 0;
    let mut pairs = HashMap::new();
    for pair in dotenvy::from_read_iter(Lines { text, read: &read }) {
        // Where the pair starts: what was read before it are empty lines and comments.
        let skipped: usize = text[from..]
            .split_inclusive('\n')
            .take_while(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
            .map(str::len)
            .sum();
        let start = from + skipped;
        let line = text[..start].matches('\n').count() + 1;
        from = read.get();
        match pair {
            Ok((name, value)) => {
                if is_ours(&name) && is_expanded(text.get(start..from).unwrap_or_default()) {
                    return Err(format!(
                        "line {line}: the $ in {name} would stand for a variable: put the value \
                         in single quotes"
                    ));
                }
                // The first of two lines counts, as in the tools that also read this file.
                pairs.entry(name).or_insert(value);
            }
            Err(dotenvy::Error::LineParse(..)) => return Err(format!("line {line}: {FORM}")),
            Err(e) => return Err(format!("cannot be read: {e}")),
        }
    }
    Ok(pairs)
}

/// Whether bidlock looks at such a variable. The others of the file are another program's.
fn is_ours(name: &str) -> bool {
    name.starts_with("BIDLOCK_") || name.starts_with("REDIS_")
}

/// Whether the parser, which cannot be told not to, puts a variable's value in place of a `$`:
/// one that no backslash is before, outside single quotes and comments.
fn is_expanded(pair: &str) -> bool {
    let value = pair.split_once('=').map_or("", |(_, value)| value);
    let (mut strong, mut weak, mut blank) = (false, false, true);
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' if !weak => strong = !strong,
            _ if strong => {}
            '"' => weak = !weak,
            '\\' => drop(chars.next()),
            '$' => return true,
            '#' if blank && !weak => return false,
            _ => {}
        }
        blank = c.is_whitespace();
    }
    false
}

/// A text that is handed out line by line, so that it is known how far somebody has read.
struct Lines<'a> {
    text: &'a str,
    read: &'a Cell<usize>,
}

impl Read for Lines<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = &self.text.as_bytes()[self.read.get()..];
        let line = rest.split_inclusive(|b| *b == b'\n').next().unwrap_or_default();
        let length = line.len().min(into.len());
        into[..length].copy_from_slice(&line[..length]);
        self.read.set(self.read.get() + length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_cannot_be_read_is_named_by_where_it_starts() {
        for (text, line) in [
            ("A=1\n\n# it's a note\nREDIS_PASSWORD=two words\nB=2\n", 4),
            ("A=1\nREDIS_PASSWORD=back\\slash\n", 2),
            ("A='1\n2'\n\nREDIS_PASSWORD='open\nB=2\n", 4),
            ("A=1\r\nREDIS_PASSWORD=\"open\r\n", 2),
            ("A=1\nnonsense\nB=2\nnonsense", 2),
            ("nonsense", 1),
            ("A=1\nREDIS_PASSWORD=\"a$b\"\nB=2\n", 2),
        ] {
            let why = pairs(text).unwrap_err();
            assert!(why.starts_with(&format!("line {line}: ")), "{text:?}: {why}");
            assert!(why.contains("single quotes"), "{why}");
        }
    }

    /// What Python reads as well, in the tests of its package.
    #[test]
    fn samples_are_read_as_python_reads_them() {
        let samples = include_str!("../../../bidlock-python/tests/settings.json");
        let samples: Vec<serde_json::Value> = serde_json::from_str(samples).unwrap();
        assert!(samples.len() > 15);
        for sample in samples {
            let text = sample["text"].as_str().unwrap();
            let read = pairs(text);
            if let Some(line) = sample["line"].as_u64() {
                let why = read.unwrap_err();
                assert!(why.starts_with(&format!("line {line}: ")), "{text:?}: {why}");
                continue;
            }
            let ours = read.unwrap().into_iter().filter(|(name, _)| is_ours(name));
            let ours: serde_json::Map<_, _> = ours.map(|(n, v)| (n, v.into())).collect();
            assert_eq!(serde_json::Value::from(ours), sample["values"], "{text:?}");
        }
    }

    #[test]
    fn a_dollar_is_never_replaced_in_silence() {
        for value in ["a$HOME", "${HOME}", "\"${b}\"", "'a'$b", "a$"] {
            let why = pairs(&format!("# $x\nA=1\nexport REDIS_PASSWORD={value}\n")).unwrap_err();
            assert!(why.starts_with("line 3: ") && why.contains("REDIS_PASSWORD"), "{why}");
            assert!(why.contains("single quotes") && !why.contains("HOME"), "{why}");
            // Another program may mean it.
            assert!(pairs(&format!("THEIRS={value}\n")).is_ok());
        }
        for (value, meant) in [
            ("'a$HOME \"x\" #\\n'", "a$HOME \"x\" #\\n"),
            ("a\\$HOME", "a$HOME"),
            ("\"a\\$b\"", "a$b"),
            ("a # costs $5", "a"),
        ] {
            let read = pairs(&format!("BIDLOCK_X={value}\n")).unwrap();
            assert_eq!(read["BIDLOCK_X"], meant, "{value}");
        }
    }
}
