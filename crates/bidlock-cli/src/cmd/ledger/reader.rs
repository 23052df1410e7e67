use std::io::{self, BufRead, Read as _};

use bidlock::ledger::{AuditEntry, Dossier};
use serde_json::Value;

use super::format::{End, Head, Line, VERSION};
use crate::exit::{Failure, code};

/// The longest line; a posting with a hundred thousand steps is shorter.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Reads an export line by line, and passes on only what a ledger can have written.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    /// For messages: the file's name, or standard input.
    name: String,
    /// What is to be said besides where something is wrong.
    hint: &'static str,
    number: u64,
    seen: End,
    /// The posting of the line before: they are in order, and none is there twice.
    last: Option<(String, String)>,
    ended: bool,
}

/// A line that is sound by itself.
#[derive(Debug)]
pub(super) enum Checked {
    Posting(Box<Dossier>),
    Audit(Box<AuditEntry>),
}

impl<R: BufRead> Reader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`Failure`] when it is no export, or one of a newer format.
    pub(super) fn open(
        input: R,
        name: String,
        hint: &'static str,
    ) -> Result<(Self, Head), Failure> {
        let (seen, last) = (End::default(), None);
        let mut reader = Self { input, name, hint, number: 0, seen, last, ended: false };
        let Some(line) = reader.line()? else {
            return Err(reader.bad("it is empty"));
        };
        let object: Option<Value> = serde_json::from_slice(&line).ok();
        let version = object.as_ref().and_then(|object| object.get("bidlock_ledger"));
        let Some(version) = version.and_then(Value::as_u64) else {
            return Err(reader.bad("this is no export of a ledger: its first line is no head"));
        };
        if version > VERSION {
            let why = format!("format {version}, but this bidlock reads up to {VERSION}");
            return Err(reader.bad(&why).hint("use the bidlock that wrote it, or a later one"));
        }
        let head: Head = serde_json::from_slice(&line).map_err(|e| reader.unread(&e))?;
        Ok((reader, head))
    }

    /// For messages: where it is read from.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Says something else from now on where something is wrong.
    pub(super) const fn hint(&mut self, hint: &'static str) {
        self.hint = hint;
    }

    /// The number of the line that was read last.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// How much was read so far.
    pub(super) const fn seen(&self) -> End {
        self.seen
    }

    /// The next line; `None` after the end, which must say how much there was.
    pub(super) fn next(&mut self) -> Result<Option<Checked>, Failure> {
        let Some(line) = self.line()? else {
            if self.ended {
                return Ok(None);
            }
            let End { postings, audit } = self.seen;
            let why = format!(
                "its end is missing: it was cut off, after {postings} postings and {audit} lines \
                 of the audit"
            );
            return Err(self.bad(&why));
        };
        if self.ended {
            return Err(self.bad("something follows the end"));
        }
        match serde_json::from_slice(&line).map_err(|e| self.unread(&e))? {
            Line::Posting(posting) => {
                let dossier = posting.read().map_err(|e| self.bad(&e.to_string()))?;
                self.in_order(&dossier)?;
                self.seen.postings += 1;
                Ok(Some(Checked::Posting(Box::new(dossier))))
            }
            Line::Audit(entry) => {
                let entry = entry.read().map_err(|e| self.bad(&e.to_string()))?;
                self.seen.audit += 1;
                Ok(Some(Checked::Audit(Box::new(entry))))
            }
            Line::End(end) if end == self.seen => {
                self.ended = true;
                self.next()
            }
            Line::End(end) => {
                let End { postings, audit } = self.seen;
                Err(self.bad(&format!(
                    "lines are missing, or there are too many: {postings} postings and {audit} \
                     lines of the audit are here, and the end tells of {} and {}",
                    end.postings, end.audit
                )))
            }
        }
    }

    fn in_order(&mut self, dossier: &Dossier) -> Result<(), Failure> {
        let name = (dossier.marketplace.clone(), dossier.posting_encoded.clone());
        if self.seen.audit > 0 {
            return Err(self.bad("a posting follows the audit"));
        }
        if self.last.as_ref().is_some_and(|last| *last >= name) {
            return Err(self.bad("the postings are not in order, or one is there twice"));
        }
        self.last = Some(name);
        Ok(())
    }

    /// The next line, without what ends it.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        let mut input = io::Read::by_ref(&mut self.input).take(LINE_BYTES_MAX);
        let read = input.read_until(b'\n', &mut line);
        self.number += 1;
        read.map_err(|e| self.bad(&format!("cannot be read: {e}")))?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.pop_if(|last| *last == b'\n').is_none() && line.len() as u64 >= LINE_BYTES_MAX {
            return Err(self.bad(&format!("longer than {} MiB", LINE_BYTES_MAX >> 20)));
        }
        Ok(Some(line))
    }

    fn unread(&self, error: &serde_json::Error) -> Failure {
        // What it says of a place counts within the line.
        let why = error.to_string();
        let why = why.split(" at line ").next().unwrap_or(&why);
        self.bad(&format!("{why} (column {})", error.column()))
    }

    /// What is wrong with the line that was read last.
    pub(super) fn bad(&self, why: &str) -> Failure {
        let message = format!("{}, line {}: {why}", self.name, self.number);
        Failure::new(code::USAGE, "bad_export", message).hint(self.hint)
    }
}
