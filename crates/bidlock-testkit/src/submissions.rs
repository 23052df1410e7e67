use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// One bid that reached a marketplace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Submission {
    /// What was bid on.
    pub posting: String,
    /// The attempt that the bid belongs to.
    pub attempt: String,
}

/// The simplest marketplace: a file with one line per bid, which shell commands append to.
///
/// # Examples
/// ```
/// use bidlock_testkit::{SubmissionLog, temp_dir};
///
/// let dir = temp_dir();
/// let log = SubmissionLog::new(&dir.path().join("bids"));
/// std::process::Command::new("sh")
///     .args(["-c", &log.shell_line()])
///     .env("BIDLOCK_POSTING", "job_1")
///     .env("BIDLOCK_ATTEMPT_ID", "a-1")
///     .status()?;
/// assert_eq!(log.count("job_1")?, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SubmissionLog {
    path: PathBuf,
}

impl SubmissionLog {
    /// Names the file; it is made with the first bid.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The shell command that submits what `bidlock bid` put into its environment.
    #[must_use]
    pub fn shell_line(&self) -> String {
        let quoted = self.path.to_string_lossy().replace('\'', r"'\''");
        format!(r#"echo "$BIDLOCK_POSTING $BIDLOCK_ATTEMPT_ID" >> '{quoted}'"#)
    }

    /// Adds one bid, in one write, so that bids of many processes do not mix.
    ///
    /// # Errors
    /// The operating system's, when the file cannot be written.
    pub fn append(&self, submission: &Submission) -> io::Result<()> {
        let line = format!("{} {}\n", submission.posting, submission.attempt);
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(line.as_bytes())
    }

    /// All bids, in the order of arrival; none before the file is there.
    ///
    /// # Errors
    /// The operating system's when the file cannot be read, or [`io::ErrorKind::InvalidData`]
    /// when a line is not a bid.
    pub fn all(&self) -> io::Result<Vec<Submission>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let read = |line: &str| {
            // A posting may hold spaces, an attempt id never does.
            let (posting, attempt) = line.rsplit_once(' ')?;
            Some(Submission { posting: posting.to_owned(), attempt: attempt.to_owned() })
        };
        let bad = |line| io::Error::new(io::ErrorKind::InvalidData, format!("not a bid: {line:?}"));
        text.lines().map(|line| read(line).ok_or_else(|| bad(line))).collect()
    }

    /// How many bids a posting has got.
    ///
    /// # Errors
    /// As [`SubmissionLog::all`].
    pub fn count(&self, posting: &str) -> io::Result<usize> {
        Ok(self.all()?.iter().filter(|submission| submission.posting == posting).count())
    }

    /// The postings that got more than one bid, with their bids.
    ///
    /// # Errors
    /// As [`SubmissionLog::all`].
    pub fn doubles(&self) -> io::Result<BTreeMap<String, Vec<Submission>>> {
        let mut postings = BTreeMap::<_, Vec<_>>::new();
        for submission in self.all()? {
            postings.entry(submission.posting.clone()).or_default().push(submission);
        }
        postings.retain(|_, bids| bids.len() > 1);
        Ok(postings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp_dir;

    fn bid(posting: &str, attempt: &str) -> Submission {
        Submission { posting: posting.to_owned(), attempt: attempt.to_owned() }
    }

    #[test]
    fn bids_are_counted_by_posting() {
        let dir = temp_dir();
        let log = SubmissionLog::new(&dir.path().join("bids"));
        assert_eq!(log.all().unwrap(), []);
        let bids = [bid("job_1", "a"), bid("job with spaces", "b"), bid("job_1", "c")];
        for bid in &bids {
            log.append(bid).unwrap();
        }
        assert_eq!(log.all().unwrap(), bids);
        assert_eq!(log.count("job_1").unwrap(), 2);
        assert_eq!(log.count("job with spaces").unwrap(), 1);
        assert_eq!(log.count("job").unwrap(), 0, "part of a name is not the name");
        let doubles = log.doubles().unwrap();
        assert_eq!(doubles.keys().collect::<Vec<_>>(), ["job_1"]);
    }

    #[test]
    fn what_is_not_a_bid_is_reported() {
        let dir = temp_dir();
        let log = SubmissionLog::new(&dir.path().join("bids"));
        fs::write(log.path(), "torn").unwrap();
        assert_eq!(log.all().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_shell_line_survives_quotes_in_the_path() {
        let dir = temp_dir();
        let log = SubmissionLog::new(&dir.path().join("it's a log"));
        let status = std::process::Command::new("sh")
            .args(["-c", &log.shell_line()])
            .env("BIDLOCK_POSTING", "$(exit) job")
            .env("BIDLOCK_ATTEMPT_ID", "a-1")
            .status();
        assert!(status.unwrap().success());
        assert_eq!(log.all().unwrap(), [bid("$(exit) job", "a-1")]);
    }
}
