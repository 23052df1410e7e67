use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use bidlock_core::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::resp::{self, Value};
use crate::wire::Stream;

/// How long an answer is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// One connection on which one thing after the other is asked.
pub(super) struct Line {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
    clock: Arc<dyn Clock>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nothing came.
    Late,
    /// The other end closed the connection.
    Closed,
    /// The operating system, or TLS, said so.
    Failed(String),
    /// Something came that is no answer: what it begins with.
    Foreign(Vec<u8>),
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => write!(f, "no answer within {PATIENCE:?}"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Failed(text) => f.write_str(text),
            Self::Foreign(bytes) => {
                let shown = String::from_utf8_lossy(bytes);
                write!(f, "what answers is no Redis or Valkey server: {shown:?}")
            }
        }
    }
}

impl Line {
    pub(super) fn new(stream: Box<dyn Stream>, clock: Arc<dyn Clock>) -> Self {
        Self { stream, unread: Vec::new(), clock }
    }

    /// Sends one command; returns what came next, whatever it is.
    pub(super) async fn ask(&mut self, args: &[&[u8]]) -> Result<Value, Trouble> {
        let end = self.clock.now() + PATIENCE;
        let late = self.clock.sleep_until(end);
        tokio::select! {
            biased;
            answer = self.exchange(args) => answer,
            () = late => Err(Trouble::Late),
        }
    }

    async fn exchange(&mut self, args: &[&[u8]]) -> Result<Value, Trouble> {
        let mut out = Vec::new();
        resp::encode(&mut out, args);
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::BrokenPipe
            | std::io::ErrorKind::UnexpectedEof => Trouble::Closed,
            _ => Trouble::Failed(error.to_string()),
        };
        // A server that has closed may have said why before: what it said is read all the same.
        let written = self.stream.write_all(&out).await;
        let written = if written.is_ok() { self.stream.flush().await } else { written };
        loop {
            match resp::decode(&self.unread) {
                Ok(Some((value, length))) => {
                    self.unread.drain(..length);
                    return Ok(value);
                }
                Ok(None) => {}
                Err(_) => return Err(self.foreign()),
            }
            match self.stream.read_buf(&mut self.unread).await {
                Ok(0) if self.unread.is_empty() => return Err(Trouble::Closed),
                Ok(0) => return Err(self.foreign()),
                Ok(_) => {}
                Err(_) if !self.unread.is_empty() => return Err(self.foreign()),
                Err(error) => return Err(failed(written.err().unwrap_or(error))),
            }
        }
    }

    fn foreign(&self) -> Trouble {
        Trouble::Foreign(self.unread.iter().copied().take(40).collect())
    }
}
