//! The marketplace: takes bids, late or never, and knows what nobody else knows for sure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::exec::Queue;
use crate::facts::{Earlier, Watch};
use crate::ledger::WORLD;
use crate::rand::Rand;
use crate::time::Time;

/// How long a bid may take to show, at most.
pub(crate) const VISIBLE: u64 = 400_000;

/// What became of a bid that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It will be there.
    UnderWay,
    /// It is there.
    Placed,
    /// It was not wanted.
    Refused,
    /// It never arrives.
    Lost,
}

/// A bid that was sent.
#[derive(Debug, Clone)]
struct Sent {
    attempt: String,
    fate: Fate,
    /// Taken back by its bidder.
    withdrawn: bool,
}

/// What a bidder hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Placed,
    Refused,
}

/// The marketplace.
#[derive(Debug, Clone)]
pub(crate) struct Market {
    book: Arc<Mutex<BTreeMap<String, Vec<Sent>>>>,
    rand: Arc<Mutex<Rand>>,
    time: Time,
    queue: Queue,
    watch: Watch,
}

impl Market {
    pub(crate) fn new(seed: u64, time: &Time, queue: &Queue, watch: &Watch) -> Self {
        Self {
            book: Arc::default(),
            rand: Arc::new(Mutex::new(Rand::new(seed, "market"))),
            time: time.clone(),
            queue: queue.clone(),
            watch: watch.clone(),
        }
    }

    fn book(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Sent>>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first byte of a bid leaves its sender. What comes back is the marketplace's answer, or
    /// never comes.
    pub(crate) fn send(&self, posting: &str, attempt: &str) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        let (fate, there, back, silent) = {
            let mut rand = self.rand.lock().unwrap_or_else(PoisonError::into_inner);
            let fate = match rand.below(20) {
                0 => Fate::Lost,
                1 | 2 => Fate::Refused,
                _ => Fate::Placed,
            };
            let there = if rand.chance(200) {
                rand.range(50_000, VISIBLE)
            } else {
                rand.range(500, 20_000)
            };
            (fate, there, rand.range(500, 30_000), rand.chance(80))
        };
        let known = {
            let mut book = self.book();
            let sent = book.entry(posting.to_owned()).or_default();
            let earlier = sent.iter().map(|sent| Earlier {
                attempt: sent.attempt.clone(),
                stands: matches!(sent.fate, Fate::UnderWay | Fate::Placed) && !sent.withdrawn,
            });
            self.watch.sent(posting, attempt, earlier.collect());
            let fate = if fate == Fate::Placed { Fate::UnderWay } else { fate };
            // The attempt id is an idempotency key: a bid that has arrived is not taken twice.
            match sent.iter_mut().find(|sent| sent.attempt == attempt) {
                Some(sent) if sent.fate == Fate::Lost => {
                    sent.fate = fate;
                    false
                }
                Some(_) => true,
                None => {
                    let attempt = attempt.to_owned();
                    sent.push(Sent { attempt, fate, withdrawn: false });
                    false
                }
            }
        };
        if fate == Fate::Lost && !known {
            return answered;
        }
        let (market, posting, attempt) = (self.clone(), posting.to_owned(), attempt.to_owned());
        self.queue.spawn(
            WORLD,
            Box::pin(async move {
                market.time.after(there).await;
                let said = market.decide(&posting, &attempt);
                market.time.after(back).await;
                if !silent {
                    // Whoever asked may have gone.
                    let _gone = answer.send(said);
                }
            }),
        );
        answered
    }

    fn decide(&self, posting: &str, attempt: &str) -> Answer {
        let mut book = self.book();
        let sent =
            book.get_mut(posting).and_then(|all| all.iter_mut().find(|s| s.attempt == attempt));
        match sent {
            Some(sent) if sent.fate == Fate::Refused => Answer::Refused,
            Some(sent) => {
                sent.fate = Fate::Placed;
                Answer::Placed
            }
            None => Answer::Refused,
        }
    }

    /// What an operator sees who looks for a bid.
    pub(crate) fn look(&self, posting: &str, attempt: &str) -> Option<Fate> {
        let book = self.book();
        let sent = book.get(posting)?.iter().find(|sent| sent.attempt == attempt)?;
        matches!(sent.fate, Fate::Placed | Fate::Refused).then_some(sent.fate)
    }

    /// A bid is taken back.
    pub(crate) fn withdraw(&self, posting: &str, attempt: &str) {
        let mut book = self.book();
        if let Some(sent) =
            book.get_mut(posting).and_then(|all| all.iter_mut().find(|s| s.attempt == attempt))
        {
            sent.withdrawn = true;
        }
    }
}
