use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use super::kind::tools_folder;

/// Compiles what is preloaded into servers, unless that was done before.
///
/// Many tests may do so at once: each gives its own result the name in one step.
pub(super) fn library(name: &str, source: &str) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    let folder = tools_folder();
    let finished = folder.join(format!("{name}-{:016x}.so", hasher.finish()));
    if finished.is_file() {
        return Ok(finished);
    }
    fs::create_dir_all(&folder)?;
    let own = tempfile::Builder::new().prefix(name).tempdir_in(&folder)?;
    let (text, built) = (own.path().join("preload.c"), own.path().join("preload.so"));
    fs::write(&text, source)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&built).arg(&text);
    let output = compiler.output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    fs::rename(&built, &finished)?;
    Ok(finished)
}
