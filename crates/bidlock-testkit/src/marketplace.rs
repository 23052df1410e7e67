use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::process::now;
use crate::{Submission, SubmissionLog};

/// When a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Before the bid was taken: nothing happened.
    Before,
    /// After the bid was taken: its sender cannot know.
    After,
}

/// How a marketplace treats the next bids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Behaviour {
    /// Takes its time before it takes a bid.
    pub slow: Duration,
    /// Refuses all bids, with status 422.
    pub refuses: bool,
    /// Breaks the connection instead of an answer.
    pub cuts: Option<Cut>,
    /// Answers so long after it has taken or refused a bid.
    pub answers_after: Duration,
    /// Shows a bid to those who ask for it so long after it was taken.
    pub shows_after: Duration,
    /// Answers a bid with a known attempt id as it did the first time, and does not count it.
    pub honours_keys: bool,
    /// Does not show bids to those who ask for them.
    pub hides: bool,
}

/// One bid that came to a marketplace, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// What was bid on, and by which attempt.
    pub submission: Submission,
    /// When the whole request was there.
    pub arrived: Instant,
    /// How it was treated.
    pub behaviour: Behaviour,
    /// The reference, when it was taken.
    pub taken: Option<String>,
    /// Whether it was answered as one that was known before.
    pub repeated: bool,
}

/// Decides how a bid is treated that comes as the so-many-th of its posting, counted from zero.
type Judge = dyn Fn(&Submission, usize) -> Behaviour + Send + Sync;

/// A marketplace that takes bids over HTTP/1.1 on this machine, and counts them.
///
/// `POST /bids` with the headers `Posting` and `Idempotency-Key` is a bid, answered with 201 and
/// its reference; `GET /bids` with `Idempotency-Key` answers 200 and the reference, or 404.
/// Dropping it closes the port.
#[derive(Debug)]
pub struct Marketplace {
    address: SocketAddr,
    desk: Arc<Desk>,
    server: Option<JoinHandle<()>>,
}

/// What a marketplace answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketAnswer {
    /// The status code of HTTP.
    pub status: u16,
    /// The reference, or the reason of a refusal.
    pub body: String,
}

#[derive(Debug)]
struct Desk {
    book: Mutex<Book>,
    changed: Condvar,
    closed: AtomicBool,
    log: SubmissionLog,
}

#[derive(Default)]
struct Book {
    behaviour: Behaviour,
    judge: Option<Box<Judge>>,
    bids: Vec<Submission>,
    /// The reference of each attempt, and from when on it is shown.
    references: HashMap<String, (String, Instant)>,
    visits: Vec<Visit>,
    /// How many bids came for each posting.
    came: HashMap<String, usize>,
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book").field("behaviour", &self.behaviour).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Request {
    method: String,
    posting: String,
    attempt: String,
}

impl Marketplace {
    /// Opens on a free port; each bid is also appended to `file`, which outlives it.
    ///
    /// # Errors
    /// The operating system's, when there is no port or no thread to be had.
    pub fn open(file: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk {
            book: Mutex::default(),
            changed: Condvar::new(),
            closed: AtomicBool::new(false),
            log: SubmissionLog::new(file),
        });
        let shared = Arc::clone(&desk);
        let server = thread::Builder::new().name("marketplace".to_owned()).spawn(move || {
            for caller in listener.incoming().flatten() {
                if shared.closed.load(Ordering::Acquire) {
                    return;
                }
                let desk = Arc::clone(&shared);
                // A caller that breaks off is the caller's affair.
                thread::spawn(move || drop(desk.serve(&caller)));
            }
        })?;
        Ok(Self { address, desk, server: Some(server) })
    }

    /// Where bids go, such as `http://127.0.0.1:40123/bids`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/bids", self.address)
    }

    /// Treats the next bids like this; those that it is slow about are decided at once.
    pub fn behave(&self, behaviour: Behaviour) {
        self.desk.book().behaviour = behaviour;
        self.desk.changed.notify_all();
    }

    /// Treats each bid as `judge` says, whatever was said before.
    pub fn judge(&self, judge: impl Fn(&Submission, usize) -> Behaviour + Send + Sync + 'static) {
        self.desk.book().judge = Some(Box::new(judge));
    }

    /// Hands out all bids that came since the last call, also those that were not taken.
    #[must_use]
    pub fn take_visits(&self) -> Vec<Visit> {
        std::mem::take(&mut self.desk.book().visits)
    }

    /// All bids that were taken, in order.
    #[must_use]
    pub fn submissions(&self) -> Vec<Submission> {
        self.desk.book().bids.clone()
    }

    /// How many bids a posting has got.
    #[must_use]
    pub fn count(&self, posting: &str) -> usize {
        self.desk.book().bids.iter().filter(|bid| bid.posting == posting).count()
    }

    /// Sends a bid, as a bidder would.
    ///
    /// # Errors
    /// The operating system's; once the request was sent, the bid may have been taken.
    pub fn submit(&self, posting: &str, attempt: &str) -> io::Result<MarketAnswer> {
        let head = format!("POST /bids HTTP/1.1\r\nPosting: {posting}\r\n");
        self.ask(&head, attempt)
    }

    /// Asks for the bid of an attempt, as a reconciler would.
    ///
    /// # Errors
    /// The operating system's.
    pub fn find(&self, attempt: &str) -> io::Result<MarketAnswer> {
        self.ask("GET /bids HTTP/1.1\r\n", attempt)
    }

    fn ask(&self, head: &str, attempt: &str) -> io::Result<MarketAnswer> {
        let mut stream = TcpStream::connect(self.address)?;
        let rest = "Host: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        write!(stream, "{head}Idempotency-Key: {attempt}\r\n{rest}")?;
        let mut whole = String::new();
        stream.read_to_string(&mut whole)?;
        let status = whole.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = whole.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        Ok(MarketAnswer { status, body: body.unwrap_or_default() })
    }
}

impl Drop for Marketplace {
    fn drop(&mut self) {
        self.desk.closed.store(true, Ordering::Release);
        self.desk.changed.notify_all();
        // The server waits for callers, so it is called.
        let called = TcpStream::connect(self.address).is_ok();
        if let Some(server) = self.server.take().filter(|_| called) {
            drop(server.join());
        }
    }
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, caller: &TcpStream) -> io::Result<()> {
        let request = Request::read(caller)?;
        let answer = match request.method.as_str() {
            "POST" => self.take(request)?,
            _ => Some(self.look_up(&request)),
        };
        let Some((status, body)) = answer else { return caller.shutdown(Shutdown::Both) };
        let length = body.len();
        let mut caller = caller;
        write!(
            caller,
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
    }

    /// Takes a bid, or not; `None` when the connection shall break.
    fn take(&self, bid: Request) -> io::Result<Option<(&'static str, String)>> {
        let arrived = now();
        let submission = Submission { posting: bid.posting, attempt: bid.attempt };
        let (mut book, behaviour) = self.wait(&submission);
        let answers_after = behaviour.answers_after;
        let mut visit = Visit { submission, arrived, behaviour, taken: None, repeated: false };
        let answer = book.decide(&mut visit, &self.log)?;
        book.visits.push(visit);
        drop(self.pause(book, answers_after));
        Ok(answer)
    }

    /// Takes its time; closing, or other behaviour, ends that. Returns how the bid is treated.
    fn wait(&self, bid: &Submission) -> (MutexGuard<'_, Book>, Behaviour) {
        let mut book = self.book();
        if let Some(judged) = book.judge(bid) {
            let slow = judged.slow;
            return (self.pause(book, slow), judged);
        }
        let asked = book.behaviour.clone();
        let open =
            |book: &mut Book| book.behaviour == asked && !self.closed.load(Ordering::Acquire);
        let waited = self.changed.wait_timeout_while(book, asked.slow, open);
        let book = waited.unwrap_or_else(PoisonError::into_inner).0;
        let behaviour = book.behaviour.clone();
        (book, behaviour)
    }

    /// Lets time pass, in which others use the book; closing ends that.
    fn pause<'a>(&'a self, book: MutexGuard<'a, Book>, time: Duration) -> MutexGuard<'a, Book> {
        let open = |_: &mut Book| !self.closed.load(Ordering::Acquire);
        let waited = self.changed.wait_timeout_while(book, time, open);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn look_up(&self, request: &Request) -> (&'static str, String) {
        let book = self.book();
        let shown = |(_, from): &&(String, Instant)| !book.behaviour.hides && *from <= now();
        match book.references.get(&request.attempt).filter(shown) {
            Some((reference, _)) => ("200 OK", reference.clone()),
            None => ("404 Not Found", String::new()),
        }
    }
}

impl Book {
    /// How a bid is treated by the judge, where there is one.
    fn judge(&mut self, bid: &Submission) -> Option<Behaviour> {
        let judge = self.judge.as_ref()?;
        let before = self.came.entry(bid.posting.clone()).or_default();
        *before += 1;
        Some(judge(bid, *before - 1))
    }

    /// Takes a bid as it is to be treated; `None` when the connection shall break.
    fn decide(
        &mut self,
        visit: &mut Visit,
        log: &SubmissionLog,
    ) -> io::Result<Option<(&'static str, String)>> {
        let (bid, behaviour) = (&visit.submission, &visit.behaviour);
        if behaviour.cuts == Some(Cut::Before) {
            return Ok(None);
        }
        let known = self.references.get(&bid.attempt).filter(|_| behaviour.honours_keys);
        if let Some((reference, _)) = known {
            visit.repeated = true;
            return Ok(Some(("200 OK", reference.clone())));
        }
        if behaviour.refuses {
            return Ok(Some(("422 Unprocessable Content", "the posting is closed".to_owned())));
        }
        log.append(bid)?;
        let reference = format!("bid-{}", self.bids.len() + 1);
        let shown_from = now() + behaviour.shows_after;
        self.references.insert(bid.attempt.clone(), (reference.clone(), shown_from));
        self.bids.push(bid.clone());
        visit.taken = Some(reference.clone());
        Ok((behaviour.cuts != Some(Cut::After)).then_some(("201 Created", reference)))
    }
}

impl Request {
    fn read(caller: &TcpStream) -> io::Result<Self> {
        const BYTES_MAX: u64 = 1 << 20;
        caller.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut lines = BufReader::new(caller.take(BYTES_MAX));
        let mut request = Self::default();
        let mut line = String::new();
        lines.read_line(&mut line)?;
        line.split(' ').next().unwrap_or_default().clone_into(&mut request.method);
        let mut length = 0;
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                // Its sender is gone: half a request is none.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "posting" => value.clone_into(&mut request.posting),
                "idempotency-key" => value.clone_into(&mut request.attempt),
                "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        io::copy(&mut lines.take(length), &mut io::sink())?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests;
