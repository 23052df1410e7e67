//! The suite over real servers is tested itself: scripts with one fault each, over every kind of
//! server, and the rules that must catch it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::panic;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::{self, ThreadId};

use async_trait::async_trait;
use bidlock_core::{Backend, Prefix};
use bidlock_redis::{Config, Connector, Redis, Scripts, Stream};
use bidlock_testkit::conformance::Rule;
use bidlock_testkit::servers::{ServerFixture, ServerKind, ServerOptions};
use tokio::net::TcpStream;

/// A mistake that somebody could make, as edits of the scripts.
struct Fault {
    name: &'static str,
    edits: &'static [(&'static str, &'static str)],
    /// All of them must catch it.
    rules: &'static [&'static str],
}

const fn fault(
    name: &'static str,
    edits: &'static [(&'static str, &'static str)],
    rules: &'static [&'static str],
) -> Fault {
    Fault { name, edits, rules }
}

/// Takes the way that every acquire of a free key goes out of use.
const NO_SHORT_WAY: (&str, &str) = ("and now < '4503599627370496' then", "and false then");

const FAULTS: &[Fault] = &[
    fault(
        "a release does not compare",
        &[("held and string.find(held, ARGV[1], 1, true) == 1 -- I2", "held")],
        &["release_by_another_changes_nothing", "a_lease_that_ended_releases_nothing"],
    ),
    fault(
        "a token is one more than the last, whatever the time",
        &[NO_SHORT_WAY, ("if last < micros() then return micros() end", "")],
        &["tokens_rise_over_data_loss"],
    ),
    fault(
        "a token is the time, whatever the last",
        &[("if not last or (last < now and #last == 16) then", "if true then")],
        &["tokens_rise_when_the_wall_clock_steps_back"],
    ),
    fault(
        "numbers are written as tostring writes them",
        &[NO_SHORT_WAY, ("string.format('%.0f', number)", "tostring(number)")],
        &["a_repeat_is_recognised"],
    ),
    fault(
        "tokens have no bound",
        &[("4503599627370496", "9999999999999999")],
        &["nothing_is_granted_past_the_token_bound"],
    ),
    fault(
        "a hand-over keeps the token",
        &[("local token = next_token()\n", "local token = tonumber(redis.call('GET', TOKENS))\n")],
        &["tokens_rise_over_hand_over", "revoke_now_hands_over"],
    ),
    fault(
        "a held key is granted",
        &[("redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) == 0", "true")],
        &["a_free_key_is_granted_once", "concurrent_acquires_grant_one"],
    ),
    fault(
        "a newcomer does not look for waiters",
        &[("redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3])", "redis.call('EXISTS', KEYS[1])")],
        &["a_newcomer_never_overtakes_after_expiry"],
    ),
    fault(
        "the holder's own repeat is told that the key is held",
        &[("if lease == LEASE and state ~= 'r' then -- I8", "if false then")],
        &["a_repeat_is_recognised", "a_look_confirms_the_window"],
    ),
    fault(
        "a repeat shortens",
        &[("math.max(redis.call('PTTL', LOCK), TTL)", "TTL")],
        &["a_repeat_extends_and_never_shortens"],
    ),
    fault(
        "a request that comes too late is carried out",
        &[("if now > ARGV[3] then return {2, now} end -- I9", "")],
        &["a_request_that_comes_too_late_changes_nothing"],
    ),
    fault(
        "a renewal grants a key that is free",
        &[(
            "if held then return {4} end",
            "if held then return {4} end
             if not held then
               redis.call('SET', KEYS[1], ARGV[1] .. now .. ';h;;', 'PX', ARGV[2])
               return {1, now}
             end",
        )],
        &["renew_never_revives", "renew_never_recreates"],
    ),
    fault("a renewal shortens", &[("elseif left < ttl then", "else")], &["renew_never_shortens"]),
    fault(
        "a renewal does not compare",
        &[("if held and string.find(held, ARGV[1], 1, true) == 1 then", "if held then")],
        &["renew_by_another_changes_nothing"],
    ),
    fault(
        "a waiter past its deadline is served",
        &[("dies and dies > micros() and window", "dies and window")],
        &["a_waiter_past_its_deadline_is_skipped"],
    ),
    fault(
        "a waiter that has long ceased to look is served",
        &[("if not (alive and tonumber(alive) > micros()) then", "if not alive then")],
        &["a_waiter_that_looks_no_more_is_skipped"],
    ),
    fault(
        "the newest is served first",
        &[(
            "local found = redis.call('ZRANGE', QUEUE, from, to)",
            "local found = redis.call('ZREVRANGE', QUEUE, from, to)",
        )],
        &["hand_over_goes_to_the_longest_waiting"],
    ),
    fault(
        "a window lasts for the TTL",
        &[("digits(math.min(TTL, 3000))", "digits(TTL)")],
        &["a_window_stays_open_as_long_as_promised"],
    ),
    fault(
        "a waiter that let its window pass keeps its place",
        &[("redis.call('HSET', PLACES, 'window', client)\n        leave(lease)", "")],
        &["an_unconfirmed_window_passes_on", "a_waiter_that_let_its_window_pass_queues_anew"],
    ),
    fault(
        "a look goes to the end of the queue",
        &[("local known = redis.call('ZSCORE', QUEUE, LEASE)", "local known = false")],
        &["a_look_keeps_the_place"],
    ),
    fault(
        "whoever asks in passing waits",
        &[("tonumber(ARGV[5])", "tonumber(ARGV[5] or 600000)")],
        &["no_wait_enters_no_queue"],
    ),
    fault(
        "a cancel forgets the grant that crossed it",
        &[(
            "string.find(held, ARGV[1], 1, true) == 1 -- I2",
            "string.find(held, ARGV[1] .. '%d+;[hw]') == 1",
        )],
        &["release_of_a_crossed_grant_hands_it_over"],
    ),
    fault(
        "a cancel leaves the place",
        &[("left = redis.call('ZREM', QUEUE, LEASE) -- I11", "left = 0")],
        &["a_cancelled_waiter_leaves_nothing"],
    ),
    fault(
        "a release tells nobody",
        &[("if state == 'h' then -- its release has to look for waiters now", "if false then")],
        &["a_waiter_is_woken_on_hand_over"],
    ),
    fault(
        "nothing is published",
        &[("return redis.call('PUBLISH', CHANNELS .. client, news)", "return 1")],
        &["a_waiter_is_woken_on_hand_over", "a_revoked_holder_is_woken"],
    ),
    fault(
        "a revocation ignores the token",
        &[("if token ~= ARGV[1] then return", "if not token then return")],
        &["revoke_names_the_token"],
    ),
    fault(
        "a revoked holder's renewals are answered as ever",
        &[("if state == 'r' then return {5} end", "")],
        &["a_revoked_holder_is_told_and_frees_by_release"],
    ),
    fault(
        "who was revoked at once is not told so",
        &[("redis.call('ZADD', KEYS[5]", "redis.call('ZREM', KEYS[5]")],
        &["revoke_now_frees_at_once"],
    ),
    fault(
        "the whole secret is shown",
        &[("'%1#b1;', 1)", "'%0', 1)")],
        &["held_names_the_holder_but_not_its_secret"],
    ),
];

impl Fault {
    fn scripts(&self) -> Scripts {
        self.edits.iter().fold(Scripts::default(), |scripts, (sound, fault)| {
            let edited = scripts.with_fault(sound, fault);
            edited.unwrap_or_else(|| panic!("{}: no script has {sound:?}", self.name))
        })
    }
}

/// The shortest way to a server.
#[derive(Debug)]
struct Tcp(SocketAddr);

#[async_trait]
impl Connector for Tcp {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

fn fixture(kind: ServerKind, scripts: Scripts) -> ServerFixture {
    let options = ServerOptions::new().append_only(true);
    ServerFixture::new(kind, options, move |server, platform| {
        let (url, way) = (server.url(), Arc::new(Tcp(server.address())));
        let (platform, scripts) = (platform.clone(), scripts.clone());
        Box::pin(async move {
            let config = Config::from_url(&url).expect("the server's own URL");
            let prefix = Prefix::default();
            let store = Redis::connect_by(way, &config, &prefix, &platform, scripts).await;
            Arc::new(store.expect("the server answers")) as Arc<dyn Backend>
        })
    })
}

fn rule(name: &str) -> &'static Rule {
    Rule::named(name).unwrap_or_else(|| panic!("{name} is not a rule"))
}

const SABOTEUR: &str = "saboteur";
static PANICKED_AT: Mutex<Option<HashMap<ThreadId, String>>> = Mutex::new(None);

/// Their panics are what is wanted; their backtraces would hide those that are not.
fn expect_panics_of_saboteurs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() == Some(SABOTEUR) {
                let file = info.location().map(|place| place.file().to_owned());
                let mut all = PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner);
                let all = all.get_or_insert_default();
                all.insert(thread::current().id(), file.unwrap_or_default());
            } else {
                usual(info);
            }
        }));
    });
}

/// A rule has caught a fault when the rule itself says so, not when the store falls over.
fn catches(rule: &'static Rule, kind: ServerKind, scripts: Scripts) -> bool {
    let thread = thread::Builder::new().name(SABOTEUR.to_owned());
    let run = thread.spawn(move || rule.check(&fixture(kind, scripts))).expect("a thread starts");
    let id = run.thread().id();
    let failed = run.join().is_err();
    let mut all = PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner);
    let place = all.get_or_insert_default().remove(&id).unwrap_or_default();
    failed && place.contains("conformance")
}

fn each_fault_is_caught(kind: ServerKind) {
    expect_panics_of_saboteurs();
    let mut missed = Vec::new();
    for fault in FAULTS {
        let scripts = fault.scripts();
        for name in fault.rules {
            if !catches(rule(name), kind, scripts.clone()) {
                missed.push((fault.name, name));
            }
        }
    }
    assert!(missed.is_empty(), "not caught on {kind}: {missed:#?}");
}

#[test]
fn each_fault_is_caught_on_redis62() {
    each_fault_is_caught(ServerKind::Redis62);
}

#[test]
fn each_fault_is_caught_on_redis70() {
    each_fault_is_caught(ServerKind::Redis70);
}

#[test]
fn each_fault_is_caught_on_valkey9() {
    each_fault_is_caught(ServerKind::Valkey9);
}

/// It is the fault that they catch, not the way here.
#[test]
fn the_same_rules_let_sound_scripts_pass() {
    let named: BTreeSet<_> = FAULTS.iter().flat_map(|fault| fault.rules).copied().collect();
    for name in named {
        rule(name).check(&fixture(ServerKind::Redis70, Scripts::default()));
    }
}

/// As `docs/verification.md` has them.
#[test]
fn the_docs_list_each_fault_and_its_rules() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verification.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let row = |fault: &Fault| format!("| {} | {} |", fault.name, fault.rules.join(", "));
    let head = ["| mistake in the scripts | caught by the rules |", "|---|---|"];
    let rows = head.into_iter().map(str::to_owned).chain(FAULTS.iter().map(row));
    let table = rows.collect::<Vec<_>>().join("\n");
    assert!(page.contains(&table), "the table in docs/verification.md has to be\n{table}");
}
