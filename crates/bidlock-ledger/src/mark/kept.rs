use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bidlock_core::{Endpoint, Rng};

use super::Mark;
use crate::values::{Fingerprint, LedgerId};

/// How many hex digits of an endpoint's hash name its mark.
const PLACE_DIGITS: usize = 32;

/// The marks in a folder: one for each ledger, and one for each place where a ledger was.
///
/// A ledger that was lost and made anew has another id, and knows nothing: the mark of its place is
/// what tells it from one that has never been bid with.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) folder: PathBuf,
    place: String,
}

impl Kept {
    pub(super) fn new(folder: PathBuf, endpoint: &Endpoint) -> Self {
        let hash = Fingerprint::of(endpoint.as_str().as_bytes()).to_string();
        let digits: String = hash.chars().skip("sha256:".len()).take(PLACE_DIGITS).collect();
        Self { folder, place: format!("at-{digits}") }
    }

    /// What earlier processes have left for a ledger, and for what was in its place; for each that
    /// cannot be read, why.
    pub(super) fn marks(&self, ledger: LedgerId) -> [Result<Option<Mark>, String>; 2] {
        [&ledger.to_string(), &self.place].map(|name| read(&self.folder.join(name)))
    }

    /// Puts a mark in the place of the one before. It needs not outlive a power cut: the ledger
    /// does, and an older mark is only a weaker witness.
    pub(super) fn put(&self, ledger: LedgerId, mark: Mark, rng: &dyn Rng) -> io::Result<()> {
        self.write(&self.place, mark, rng)?;
        self.write(&ledger.to_string(), mark, rng)
    }

    fn write(&self, name: &str, mark: Mark, rng: &dyn Rng) -> io::Result<()> {
        let new = self.folder.join(format!("{name}.{:016x}", rng.next_u64()));
        let put = || {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
            file?.write_all(mark.line().as_bytes())
        };
        let written = put().or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            // As the folder of the embedded ledger, which may come to lie in it.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            put()
        });
        let placed = written.and_then(|()| fs::rename(&new, self.folder.join(name)));
        if placed.is_err() {
            // It may not be there; what is left of it harms nobody.
            drop(fs::remove_file(&new));
        }
        placed
    }
}

/// A mark that an earlier process has left.
fn read(path: &Path) -> Result<Option<Mark>, String> {
    let unreadable = |why: &dyn Display| {
        let path = path.display();
        format!("{path}, which says what bid was the last, cannot be read: {why}")
    };
    match fs::read_to_string(path) {
        Ok(text) => Mark::read(&text)
            .map(Some)
            .ok_or_else(|| unreadable(&"it is not a line of an attempt id and a time")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&error)),
    }
}
