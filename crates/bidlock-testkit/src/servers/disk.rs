use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::preload::library;

const SOURCE: &str = include_str!("disk.c");

/// The disk of one server: whether it is full is in a file that the server has mapped.
#[derive(Debug)]
pub(super) struct SmallDisk {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl SmallDisk {
    /// Makes a disk with room, with its files in `folder`, where the server's account reads them.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let own = folder.join("disk.so");
        fs::copy(library("disk", SOURCE)?, &own)?;
        let path = folder.join("disk");
        let file = File::create(&path)?;
        file.write_all_at(&[0], 0)?;
        Ok(Self { library: own, path, file })
    }

    /// Makes a server that is about to start write to this disk.
    pub(super) fn give(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("BIDLOCK_TEST_DISK", &self.path);
    }

    /// Takes all room, or gives it back, also while a server runs.
    pub(super) fn fill(&self, full: bool) -> io::Result<()> {
        self.file.write_all_at(&[u8::from(full)], 0)
    }
}
