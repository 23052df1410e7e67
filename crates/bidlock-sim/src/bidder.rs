//! Bids by the real `BidGuard`, and operators who settle what is left in doubt.

use std::sync::Arc;
use std::time::Duration;

use bidlock::{BidGuard, BidOptions, Error, Locker, Placement, Submission, Wait};
use bidlock_core::{Key, Platform, Ttl};
use bidlock_ledger::{
    AttemptInfo, BidQuery, Fingerprint, Ledger, OperatorNote, Outcome, Resolution, ResolveRequest,
    State, Verdict,
};

use crate::client::Env;
use crate::market::{Answer, Fate, VISIBLE};
use crate::rand::Rand;
use crate::time::Micros;
use crate::trace::note;

/// How many postings there are.
pub(crate) const POSTINGS: u64 = 20;
/// The last of them appears by then.
const LAST: Micros = 8_000_000;
/// A bidder that was started again looks back so far.
const LOOKS_BACK: Micros = 2_500_000;
/// Until when operators work.
const DESK_CLOSES: Micros = 20_000_000;
/// When bidders look at all postings again.
const AGAIN: Micros = 13_000_000;
/// By how much the wall clocks of a sender and of an operator differ at most, and a little more.
const CLOCKS_DIFFER: u64 = 1_500_000;

/// When a posting appears.
fn appears(seed: u64, posting: u64) -> Micros {
    Rand::new(seed, &format!("posting {posting}")).range(300_000, LAST)
}

/// Whether a posting's marketplace takes the attempt id for an idempotency key.
const fn honours_keys(posting: u64) -> bool {
    posting.is_multiple_of(4)
}

/// Bids on all postings as they appear.
pub(crate) async fn bid_on_all(env: Env, locker: Locker) {
    let ledger = Ledger::new(Arc::new(env.way.clone()), locker.platform());
    let guard = BidGuard::new(locker, ledger);
    let mut rand = env.rand("bids");
    let mut postings: Vec<(Micros, u64)> =
        (0..POSTINGS).map(|posting| (appears(env.seed, posting), posting)).collect();
    postings.extend((0..POSTINGS).map(|posting| (AGAIN, posting)));
    postings.sort_unstable();
    for (at, posting) in postings {
        let draw = rand.next();
        if at + LOOKS_BACK < env.time.now() || !rand.chance(700) {
            continue;
        }
        env.time.until(at + rand.below(200_000)).await;
        let bid = bid(env.clone(), guard.clone(), posting, Rand::new(draw, "bid"));
        env.queue.spawn(env.process, Box::pin(bid));
    }
}

/// One bid of one client.
async fn bid(env: Env, guard: BidGuard, posting: u64, mut rand: Rand) {
    let Ok(key) = Key::new("upwork", &format!("job_{posting}")) else { return };
    let Ok(ttl) = Ttl::new(Duration::from_millis(rand.range(1_000, 3_000))) else { return };
    let mut options = BidOptions::default()
        .wait(Wait::For(Duration::from_millis(rand.range(200, 3_000))))
        .ttl(ttl)
        .submit_timeout(Duration::from_millis(rand.range(200, 1_500)))
        .payload(Fingerprint::of(b"offer"));
    if honours_keys(posting) {
        options = options.honours_keys(Duration::from_secs(20));
    }
    let (sender, draw) = (env.clone(), rand.next());
    let place = guard.place(&key, &options, move |s| submit(sender, s, Rand::new(draw, "send")));
    let patience = if rand.chance(100) { rand.below(2_000_000) } else { u64::MAX / 2 };
    let placed = tokio::select! {
        biased;
        placed = place => Some(placed),
        () = env.time.after(patience) => None,
    };
    let name = &env.name;
    match placed {
        None => note!(env.trace, name, "{key}: bid left alone"),
        Some(Ok(Placement::Recorded(info))) => note!(env.trace, name, "{key}: {}", info.state),
        Some(Ok(Placement::Late(info))) => note!(env.trace, name, "{key}: late, {}", info.state),
        Some(Ok(Placement::Not(verdict))) => {
            note!(env.trace, name, "{key}: {}", verdict.as_str());
            if let Verdict::InProgress(info) | Verdict::InDoubt(info) = verdict
                && env.mutants.resends_reserved
            {
                // Nobody waits for what comes of it.
                drop(env.market.send(&key.posting(), &info.id.to_string()));
            }
        }
        Some(Err(Error::Held { .. } | Error::TimedOut { .. })) => {
            note!(env.trace, name, "{key}: no lock for a bid");
        }
        Some(Err(error)) => note!(env.trace, name, "{key}: bid: {error}"),
    }
}

/// Sends a bid to the marketplace, as an honest submitter does.
async fn submit(env: Env, submission: Submission, mut rand: Rand) -> Outcome {
    let (key, attempt) = (submission.key().clone(), submission.attempt().to_string());
    let prepares = if rand.chance(100) { rand.below(1_800_000) } else { rand.below(30_000) };
    env.time.after(prepares).await;
    if submission.left().is_zero() {
        return Outcome::NotSent { reason: Some("too late".to_owned()) };
    }
    note!(env.trace, &env.name, "{key}: sends attempt {attempt}");
    let answer = env.market.send(&key.posting(), &attempt);
    tokio::select! {
        biased;
        answer = answer => match answer {
            Ok(Answer::Placed) => Outcome::Placed { reference: Some(format!("bid-{attempt}")) },
            Ok(Answer::Refused) => Outcome::Refused { reason: None },
            Err(_) => Outcome::Unknown { reason: Some("no answer".to_owned()) },
        },
        () = env.time.after(700_000) => {
            Outcome::Unknown { reason: Some("no answer in time".to_owned()) }
        }
    }
}

/// An operator who settles doubts, and now and then lets a posting be tried again.
pub(crate) async fn desk(env: Env, platform: Platform) {
    let ledger = Ledger::new(Arc::new(env.way.clone()), &platform);
    let mut rand = env.rand("desk");
    let mut seen: Vec<(String, Micros)> = Vec::new();
    while env.time.now() < DESK_CLOSES {
        env.time.after(rand.range(300_000, 900_000)).await;
        for state in [State::Unknown, State::Started, State::Refused, State::Placed] {
            if state == State::Started && !env.mutants.reopens_not_found {
                continue;
            }
            let query = BidQuery { state: Some(state), ..BidQuery::default() };
            let Ok(bids) = ledger.bids(&query).await else { continue };
            for info in bids {
                match state {
                    State::Unknown | State::Started if env.mutants.reopens_not_found => {
                        reconcile(&env, &ledger, &info).await;
                    }
                    State::Unknown => settle(&env, &ledger, &info, &mut seen, &mut rand).await,
                    State::Refused if rand.chance(150) => again(&env, &ledger, &info).await,
                    State::Placed if rand.chance(20) => withdraw(&env, &ledger, &info).await,
                    _ => {}
                }
            }
        }
    }
}

fn key_of(info: &AttemptInfo) -> Option<Key> {
    Key::new(&info.marketplace, &info.posting).ok()
}

fn because(why: &str) -> OperatorNote {
    OperatorNote { actor: "ann".to_owned(), because: why.to_owned() }
}

/// Looks for a bid in doubt at the marketplace; that it is not there counts only after a while,
/// and when its sender has ended.
async fn settle(
    env: &Env,
    ledger: &Ledger,
    info: &AttemptInfo,
    seen: &mut Vec<(String, Micros)>,
    rand: &mut Rand,
) {
    let Some(key) = key_of(info) else { return };
    let (attempt, now) = (info.id.to_string(), env.time.now());
    let gone = env.watch.has_ended(info.process.as_str());
    // Clocks of machines differ: the time that a bid may be on its way counts from when its
    // sender was seen to be gone.
    let sender = format!("{attempt} of {}", info.process.as_str());
    let known = seen.iter().find(|(known, _)| *known == sender).map(|(_, at)| *at);
    if known.is_none() && gone {
        seen.push((sender, now));
    }
    let resolution = match env.market.look(&info.posting, &attempt) {
        Some(Fate::Placed) => Resolution::Placed { reference: Some(format!("bid-{attempt}")) },
        Some(_) => Resolution::Refused,
        // People do not decide in the moment in which they hear of something.
        None if known.is_some_and(|at| at + 3 * VISIBLE < now) => {
            Resolution::NotSent { sender_is_gone: gone }
        }
        // The ledger has to know better than an operator who has not looked at the sender.
        None if rand.chance(100) => Resolution::NotSent { sender_is_gone: false },
        None => return,
    };
    let names = rand.chance(900).then_some(info.id);
    let request = ResolveRequest {
        attempt: names,
        resolution,
        note: because("looked"),
        visibility_lag: Duration::from_micros(VISIBLE + CLOCKS_DIFFER),
    };
    match ledger.resolve(&key, &request).await {
        Ok(done) => note!(env.trace, "desk", "{key}: resolved, {}", done.event),
        Err(error) => note!(env.trace, "desk", "{error}"),
    }
}

/// Not sound: what the marketplace does not list counts as not sent, and at once.
async fn reconcile(env: &Env, ledger: &Ledger, info: &AttemptInfo) {
    let reason = Some("the marketplace does not list it".to_owned());
    let outcome = match env.market.look(&info.posting, &info.id.to_string()) {
        Some(Fate::Placed) => Outcome::Placed { reference: None },
        Some(_) => Outcome::Refused { reason: None },
        None => Outcome::NotSent { reason },
    };
    match ledger.record(&info.id, &outcome).await {
        Ok(_) => note!(env.trace, "desk", "{}: reconciled", info.posting),
        Err(error) => note!(env.trace, "desk", "{error}"),
    }
}

async fn again(env: &Env, ledger: &Ledger, info: &AttemptInfo) {
    let Some(key) = key_of(info) else { return };
    match ledger.reopen(&key, &because("a better offer")).await {
        Ok(_) => note!(env.trace, "desk", "{key}: reopened"),
        Err(error) => note!(env.trace, "desk", "{error}"),
    }
}

async fn withdraw(env: &Env, ledger: &Ledger, info: &AttemptInfo) {
    let Some(key) = key_of(info) else { return };
    env.market.withdraw(&info.posting, &info.id.to_string());
    match ledger.withdraw(&key, &because("wrong price")).await {
        Ok(_) => {
            note!(env.trace, "desk", "{key}: withdrawn");
            again(env, ledger, info).await;
        }
        Err(error) => note!(env.trace, "desk", "{error}"),
    }
}
