//! The design under test.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bidlock::ledger::{Fingerprint, Outcome, Verdict};
use bidlock::{Begin, BidGuard, BidOptions, Key, Locker, Placement, StoreUrl, Ttl, Wait};
use bidlock_core::Prefix;
use bidlock_history::{Call, History, Recorded};

use super::submit::{Answer, submit};
use super::watch::Watched;
use super::{SUBMIT, Shared, TTL, Tried, WAIT, machine};
use crate::event::Event;
use crate::feed::Feed;
use crate::market;

/// The marketplace's name in keys.
pub(crate) const MARKET: &str = "fake";
/// How long a marketplace knows an attempt id: longer than any run.
const KEYS_KEPT: Duration = Duration::from_hours(24);

pub(super) struct Ledgered {
    shared: Arc<Shared>,
    guard: BidGuard,
    ttl: Ttl,
}

impl Ledgered {
    pub(super) async fn open(shared: &Arc<Shared>) -> Result<Self> {
        let setup = &shared.setup;
        let platform = machine::platform(setup.host, &setup.clock)?;
        let config = bidlock_redis::Config::from_url(&setup.redis)?;
        let prefix = Prefix::default();
        let redis = bidlock_redis::Redis::connect(&config, &prefix, &platform).await?;
        let log = Arc::clone(&shared.log);
        let tell = move |key: &Key, number, call: Option<&Call>| {
            let posting = key.posting_encoded().to_owned();
            log.say(Event::Called { posting, number, call: call.copied() });
        };
        let history = History::telling(tell);
        let recorded = Recorded::new(Arc::new(redis), Arc::clone(&platform.clock), &history);
        let watched = Watched::new(Arc::new(recorded), &shared.log);
        let ledger = bidlock::open_ledger(&StoreUrl::ledger(&setup.ledger)?, &platform).await?;
        let locker = Locker::builder().platform(platform).backend(Arc::new(watched))?;
        let guard = BidGuard::new(locker, ledger);
        Ok(Self { shared: Arc::clone(shared), guard, ttl: Ttl::new(TTL)? })
    }

    pub(super) async fn bid(&self, number: u64) -> Tried {
        match self.try_bid(number).await {
            Ok(tried) => tried,
            Err(failed) => {
                let mut why = failed.to_string();
                let mut source = std::error::Error::source(&failed);
                while let Some(cause) = source {
                    why = format!("{why}: {cause}");
                    source = cause.source();
                }
                if !failed.is_retryable() {
                    why = format!("for good: {why}");
                }
                self.shared.failed(number, why)
            }
        }
    }

    async fn try_bid(&self, number: u64) -> Result<Tried, bidlock::Error> {
        let key = Key::new(MARKET, &Feed::name(number))?;
        let honours_keys = market::honours_keys(self.shared.setup.seed, &Feed::name(number));
        let options = self.options(number, honours_keys);
        let bid = match self.guard.begin(&key, &options).await? {
            Begin::Started(bid) => bid,
            Begin::Not(verdict) => {
                let posting = Feed::name(number);
                let name = verdict.as_str().to_owned();
                self.shared.log.say(Event::Not { posting, verdict: name });
                // What is in doubt may be sent again where its id is known.
                let open = matches!(verdict, Verdict::InProgress(_))
                    || honours_keys && matches!(verdict, Verdict::InDoubt(_));
                return Ok(if open { Tried::Again } else { Tried::Over });
            }
        };
        let submission = bid.submission().clone();
        let attempt = submission.attempt().to_string();
        let answer = submit(&self.shared, number, &attempt, || submission.left()).await;
        let again = matches!(answer, Answer::NotSent(_));
        let outcome = match answer {
            Answer::NotSent(why) => Outcome::NotSent { reason: Some(why) },
            Answer::Placed(reference) => Outcome::Placed { reference: Some(reference) },
            Answer::Refused(why) => Outcome::Refused { reason: Some(why) },
            Answer::Lost(why) => Outcome::Unknown { reason: Some(why) },
        };
        let placement = bid.finish(outcome.fitted()).await?;
        let late = matches!(placement, Placement::Late(_));
        Ok(if again && !late { Tried::Again } else { Tried::Over })
    }

    fn options(&self, number: u64, honours_keys: bool) -> BidOptions {
        let options =
            BidOptions::default().wait(Wait::For(WAIT)).ttl(self.ttl).submit_timeout(SUBMIT);
        let options = options.payload(Fingerprint::of(Feed::name(number).as_bytes()));
        if honours_keys { options.honours_keys(KEYS_KEPT) } else { options }
    }

    pub(super) const fn guard(&self) -> &BidGuard {
        &self.guard
    }

    pub(super) async fn close(&self) {
        self.guard.locker().close().await;
    }
}
