use std::io::{self, Read, Write as _};
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bidlock::Clock;
use tokio::sync::oneshot;

use super::tee::END_PATIENCE;

/// The most that is kept of an output, in bytes; the rest is read and forgotten.
pub(crate) const KEPT_BYTES_MAX: usize = 16 << 10;

/// Keeps what a command says, and passes it to nobody.
#[derive(Debug)]
pub(super) struct Capture {
    said: Arc<Mutex<Vec<u8>>>,
    ended: oneshot::Receiver<()>,
}

impl Capture {
    /// Starts a thread that reads the output; it ends with the output.
    pub(super) fn start(output: ChildStdout) -> Self {
        let said = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = oneshot::channel();
        let kept = Arc::clone(&said);
        let read = move || {
            keep(output, &kept);
            drop(end);
        };
        if let Err(e) = thread::Builder::new().name("answer".to_owned()).spawn(read) {
            tracing::warn!(error = %e, "the command's output is lost");
        }
        Self { said, ended }
    }

    /// Waits for the end of the output, and returns what was kept of it.
    pub(super) async fn finish(self, clock: &dyn Clock) -> String {
        let patience = clock.sleep_until(clock.now() + END_PATIENCE);
        tokio::select! {
            // An error means that the sender was dropped: the thread has ended.
            _ = self.ended => {}
            () = patience => {}
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }
}

fn keep(mut output: ChildStdout, said: &Mutex<Vec<u8>>) {
    let mut piece = [0; 8192];
    loop {
        match output.read(&mut piece) {
            Ok(0) => return,
            Ok(read) => {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                let room = KEPT_BYTES_MAX.saturating_sub(said.len());
                said.extend_from_slice(&piece[..read.min(room)]);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Hands a text to a command, which need not read it.
pub(super) fn tell(mut input: ChildStdin, text: String) {
    // A pipe holds only so much: whoever does not read keeps nobody waiting but this thread,
    // and that until it ends.
    let write = move || input.write_all(text.as_bytes()).unwrap_or_default();
    if let Err(e) = thread::Builder::new().name("question".to_owned()).spawn(write) {
        tracing::warn!(error = %e, "the command is told nothing");
    }
}
