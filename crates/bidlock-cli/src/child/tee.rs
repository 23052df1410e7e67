use std::io::{self, Read, Write as _};
use std::process::ChildStdout;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bidlock::Clock;
use tokio::sync::oneshot;

/// The longest line that is kept, in bytes; the rest of a longer one is cut off.
const LINE_BYTES_MAX: usize = 512;
/// How long to wait for the end of the output after the command ended: a process that left its
/// group may keep the pipe open for ever.
pub(super) const END_PATIENCE: Duration = Duration::from_secs(1);

/// Passes a command's output through and keeps its last line.
#[derive(Debug)]
pub(super) struct Tee {
    last: Arc<Mutex<LastLine>>,
    ended: oneshot::Receiver<()>,
}

impl Tee {
    /// Starts a thread that passes the output through; it ends with the output.
    pub(super) fn start(output: ChildStdout) -> Self {
        let last = Arc::new(Mutex::new(LastLine::default()));
        let (end, ended) = oneshot::channel();
        let kept = Arc::clone(&last);
        let copy = move || {
            pass_through(output, &kept);
            drop(end);
        };
        if let Err(e) = thread::Builder::new().name("output".to_owned()).spawn(copy) {
            tracing::warn!(error = %e, "the command's output is lost");
        }
        Self { last, ended }
    }

    /// Waits for the end of the output, and returns its last line that was not empty.
    pub(super) async fn finish(self, clock: &dyn Clock) -> Option<String> {
        let patience = clock.sleep_until(clock.now() + END_PATIENCE);
        tokio::select! {
            // An error means that the sender was dropped: the thread has ended.
            _ = self.ended => {}
            () = patience => {}
        }
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get()
    }
}

fn pass_through(mut output: ChildStdout, last: &Mutex<LastLine>) {
    let mut piece = [0; 8192];
    let mut heard = true;
    loop {
        let read = match output.read(&mut piece) {
            Ok(0) => return,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        last.lock().unwrap_or_else(PoisonError::into_inner).take(&piece[..read]);
        if heard {
            // When nobody reads any more the command is not disturbed: it may be sending.
            let mut stdout = io::stdout().lock();
            heard = stdout.write_all(&piece[..read]).and_then(|()| stdout.flush()).is_ok();
        }
    }
}

/// Keeps the last line that holds more than white space.
#[derive(Debug, Default)]
struct LastLine {
    current: Vec<u8>,
    full: Vec<u8>,
}

impl LastLine {
    fn take(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|b| *b == b'\n') {
            let (text, ends) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            let room = LINE_BYTES_MAX.saturating_sub(self.current.len());
            self.current.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                if !self.current.trim_ascii().is_empty() {
                    std::mem::swap(&mut self.full, &mut self.current);
                }
                self.current.clear();
            }
        }
    }

    fn get(&self) -> Option<String> {
        let unfinished = self.current.trim_ascii();
        let line = if unfinished.is_empty() { self.full.trim_ascii() } else { unfinished };
        if line.is_empty() {
            return None;
        }
        let mut text = String::from_utf8_lossy(line).into_owned();
        while text.len() > LINE_BYTES_MAX {
            // Cutting a character apart, or replacing a bad byte, makes the text longer.
            text.pop();
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(pieces: &[&[u8]]) -> Option<String> {
        let mut last = LastLine::default();
        for piece in pieces {
            last.take(piece);
        }
        last.get()
    }

    #[test]
    fn the_last_line_that_is_not_empty_is_kept() {
        assert_eq!(last(&[]), None);
        assert_eq!(last(&[b"\n \r\n"]), None);
        assert_eq!(last(&[b"a\nb\r\n"]).as_deref(), Some("b"));
        assert_eq!(last(&[b"a\nb\n\n  \n"]).as_deref(), Some("b"));
        assert_eq!(last(&[b"a\nre", b"f-1"]).as_deref(), Some("ref-1"));
        assert_eq!(last(&[b"a", b"\n", b"b", b"\n"]).as_deref(), Some("b"));
    }

    #[test]
    fn a_long_line_is_cut_and_bad_bytes_are_replaced() {
        let long = "é".repeat(1_000);
        let kept = last(&[long.as_bytes()]).unwrap();
        assert!(kept.len() <= LINE_BYTES_MAX && kept.starts_with("éé"));
        assert_eq!(last(&[b"x\xff"]).as_deref(), Some("x\u{fffd}"));
    }
}
