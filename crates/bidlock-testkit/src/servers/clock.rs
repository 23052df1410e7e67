use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::preload::library;

const SOURCE: &str = include_str!("clock.c");

/// The wall clock of one server: an offset in a file that the server has mapped.
#[derive(Debug)]
pub(super) struct StepClock {
    library: PathBuf,
    path: PathBuf,
    file: File,
    offset: Mutex<i64>,
}

impl StepClock {
    /// Makes a clock that goes right, with its file in `folder`.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.join("clock");
        let file = File::create(&path)?;
        file.write_all_at(&0_i64.to_ne_bytes(), 0)?;
        Ok(Self { library: library("clock", SOURCE)?, path, file, offset: Mutex::new(0) })
    }

    /// Makes a server that is about to start read this clock.
    pub(super) fn give(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("BIDLOCK_TEST_CLOCK", &self.path);
    }

    /// Steps the clock, also of a server that runs.
    pub(super) fn step(&self, micros: i64) -> io::Result<()> {
        let mut offset = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        *offset = offset.saturating_add(micros);
        // Eight aligned bytes in one page: the server sees the old offset or the new one.
        self.file.write_all_at(&offset.to_ne_bytes(), 0)
    }

    /// By how much the clock differs from the right one.
    pub(super) fn offset(&self) -> i64 {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
