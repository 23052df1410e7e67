//! House rules that neither compiler nor linter knows.

mod cites;
mod imports;
mod lexer;
mod rust;
mod text;

use std::fmt::{self, Display};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::metadata;
use crate::run::Project;
use crate::say;
use crate::stages::Found;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// Counted from 1; 0 when the whole file is meant.
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &SourceFile, line: usize, what: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, what: what.into() }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A file of the project, with its path from the root.
#[derive(Debug, Clone)]
struct SourceFile {
    path: String,
    text: String,
}

impl SourceFile {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|own| own == extension)
    }
}

/// Prints what breaks a rule; returns whether nothing does.
pub(crate) fn task() -> Result<bool> {
    let findings = findings(&Project::find()?)?;
    for finding in &findings {
        say(&finding.to_string());
    }
    say(&format!("tidy: {} to mend", findings.len()));
    Ok(findings.is_empty())
}

/// The same as a stage of the test run.
pub(crate) fn stage(project: &Project) -> Result<Found> {
    let findings = findings(project)?;
    if findings.is_empty() {
        return Ok(Found::good());
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    bail!("{}", lines.join("\n"))
}

fn findings(project: &Project) -> Result<Vec<Finding>> {
    let files = files(&project.root)?;
    let mut findings = imports::check(&metadata::packages(project)?);
    for file in &files {
        findings.extend(text::check(file));
        if file.is("rs") {
            findings.extend(rust::check(file));
        }
    }
    findings.extend(text::dead_links(&files));
    findings.extend(cites::check(&files));
    findings.sort();
    Ok(findings)
}

/// All text files of the project. What is built, kept by git or private to a checkout is not.
fn files(root: &Path) -> Result<Vec<SourceFile>> {
    const SKIPPED: &[&str] = &["target", ".git", ".env"];
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let entry = entry?;
            let path = entry.path();
            if SKIPPED.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if let Ok(text) = String::from_utf8(std::fs::read(&path)?) {
                let path = path.strip_prefix(root)?.to_string_lossy().into_owned();
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
fn sample(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.to_owned(), text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_and_private_files_are_not_read() {
        let project = Project::find().unwrap();
        let root = project.empty_folder("tidy-sample").unwrap();
        for path in ["src/lib.rs", "target/x.rs", ".git/config", ".env", ".ci/run"] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "text").unwrap();
        }
        std::fs::write(root.join("data.bin"), [0xff, 0xfe]).unwrap();
        let paths: Vec<String> = files(&root).unwrap().into_iter().map(|f| f.path).collect();
        assert_eq!(paths, [".ci/run", "src/lib.rs"]);
    }

    #[test]
    fn a_finding_reads_as_editors_open_it() {
        let finding = Finding::new(&sample("a/b.rs", ""), 7, "too long");
        assert_eq!(finding.to_string(), "a/b.rs:7: too long");
    }
}
