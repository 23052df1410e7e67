use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The folders that were made for a file, outermost first. They go again unless it was opened.
#[derive(Debug, Default)]
#[must_use = "what is not kept is removed"]
pub(crate) struct Folders(Vec<PathBuf>);

impl Folders {
    /// Makes what is missing, for its owner alone.
    pub(crate) fn make(folder: &Path) -> io::Result<Self> {
        let mut made = Self::default();
        let above = folder.ancestors().filter(|above| !above.as_os_str().is_empty());
        let missing: Vec<&Path> = above.take_while(|above| !above.is_dir()).collect();
        for folder in missing.into_iter().rev() {
            match DirBuilder::new().mode(0o700).create(folder) {
                Ok(()) => made.0.push(folder.to_owned()),
                // Another process was faster, or `..` leads to one that was there.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    /// Leaves them: the file was opened.
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        // Only what is still empty goes: another process may have put its own file there.
        self.0.iter().rev().all(|folder| fs::remove_dir(folder).is_ok());
    }
}
