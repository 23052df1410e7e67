//! The simulated server answers as real ones do: random commands, and the real scripts with
//! random arguments, against every server of the matrix.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bidlock_core::Rng as _;
use bidlock_sim::redis::{Data, Kind, Reply, Server};
use bidlock_testkit::SeededRng;
use bidlock_testkit::servers::{self, ServerKind};

type Words = Vec<Vec<u8>>;

/// A connection to a real server.
struct Real {
    reader: BufReader<TcpStream>,
}

impl Real {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    fn send(&mut self, words: &Words) {
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            out.extend(format!("${}\r\n", word.len()).bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
        self.reader.get_mut().write_all(&out).unwrap();
    }

    fn call(&mut self, words: &Words) -> Reply {
        self.send(words);
        self.reply()
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().unwrap();
        match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(number()),
            "$" | "*" if number() < 0 => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; usize::try_from(number()).unwrap() + 2];
                self.reader.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            "*" => Reply::Array((0..number()).map(|_| self.reply()).collect()),
            other => panic!("no reply begins with {other}"),
        }
    }

    /// The server's clock.
    fn micros(&mut self) -> u64 {
        let Reply::Array(parts) = self.call(&words("TIME")) else { panic!("TIME is a list") };
        let number = |reply: &Reply| match reply {
            Reply::Bulk(text) => String::from_utf8_lossy(text).parse::<u64>().unwrap(),
            other => panic!("{other:?}"),
        };
        number(&parts[0]) * 1_000_000 + number(&parts[1])
    }
}

fn words(text: &str) -> Words {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Whether two replies say the same, but for times, and what an error says after its kind.
fn alike(one: &Reply, other: &Reply) -> bool {
    let text = |bytes: &[u8]| without_times(&String::from_utf8_lossy(bytes));
    match (one, other) {
        (Reply::Int(one), Reply::Int(other)) => near(*one, *other),
        (Reply::Bulk(one), Reply::Bulk(other)) => text(one) == text(other),
        (Reply::Error(one), Reply::Error(other)) => kind(one) == kind(other),
        (Reply::Array(ones) | Reply::Push(ones), Reply::Array(others) | Reply::Push(others)) => {
            ones.len() == others.len() && ones.iter().zip(others).all(|(a, b)| alike(a, b))
        }
        (Reply::Map(pairs), list @ Reply::Array(_)) => {
            let flat = pairs.iter().flat_map(|(name, value)| [name.clone(), value.clone()]);
            alike(&Reply::Array(flat.collect()), list)
        }
        _ => one == other,
    }
}

/// The word that says what an error is; Redis 6.2 puts where it happened before it.
fn kind(text: &str) -> &str {
    let inner = text.rsplit("@user_script:").next().and_then(|rest| rest.split_once(": "));
    let inner = inner.filter(|_| text.starts_with("ERR Error running script"));
    let found = inner.map_or(text, |(_, rest)| rest).split(' ').next().unwrap_or_default();
    let is_kind = !found.is_empty() && found.chars().all(|c| c.is_ascii_uppercase());
    if is_kind { found } else { "ERR" }
}

/// Small numbers are equal; rests of milliseconds differ by what the test itself takes.
fn near(one: i64, other: i64) -> bool {
    const A_TIME: i64 = 1_000_000_000_000;
    let both = |least: i64| one >= least && other >= least;
    one == other || both(A_TIME) || (both(100) && one.abs_diff(other) < 2_500)
}

fn without_times(text: &str) -> String {
    let mut shown = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        shown.push_str(if digits.len() >= 15 { "TIME" } else { &digits });
        digits.clear();
        if c != '\0' {
            shown.push(c);
        }
    }
    shown
}

/// A real server and the simulated one, which are told the same.
struct Pair {
    real: Real,
    ears: Real,
    sim: Server,
    told: Vec<String>,
    /// Whether the machine was too slow to tell what happened first.
    undecided: bool,
    compared: u32,
    port: u16,
    channels: Vec<String>,
    _server: servers::Server,
}

const MAIN: u64 = 1;
const EARS: u64 = 2;

impl Pair {
    fn start(kind: ServerKind) -> Self {
        let server = servers::Server::start(kind);
        let port = server.port();
        let played = match kind {
            ServerKind::Redis62 => Kind::Redis62,
            ServerKind::Redis70 => Kind::Redis70,
            ServerKind::Valkey9 => Kind::Valkey9,
        };
        let mut sim = Server::new(played).unwrap();
        sim.open(MAIN);
        sim.open(EARS);
        let (real, ears) = (Real::connect(port), Real::connect(port));
        Self {
            real,
            ears,
            sim,
            told: Vec::new(),
            undecided: false,
            compared: 0,
            port,
            channels: Vec::new(),
            _server: server,
        }
    }

    /// Tells both the same; their answers have to be the same.
    fn tell(&mut self, command: &Words) {
        if self.undecided {
            return;
        }
        let before = self.settled();
        let real = self.real.call(command);
        let after = self.real.micros();
        // Nobody can tell what the real one saw when it took long, or something ended meanwhile.
        self.undecided = after - before > 30_000 || self.ends_within(before, after);
        let sim = self.sim.command(MAIN, command);
        let shown: Vec<_> =
            command.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let shown = shown.join(" ");
        self.told.push(if shown.len() > 300 { shown[..300].to_owned() } else { shown });
        let told = &self.told;
        let same = self.undecided || alike(&sim, &real);
        assert!(same, "{sim:?} is simulated, {real:?} real, after {told:#?}");
    }

    /// Waits until nothing is about to end; returns the time, which is the simulated one's too.
    fn settled(&mut self) -> u64 {
        let mut calm = 0;
        loop {
            let now = self.real.micros();
            self.sim.at(now);
            if self.ends_within(now, now + 60_000) {
                // The real one has it a little longer.
                calm = now + 160_000;
            }
            if calm <= now {
                return now;
            }
        }
    }

    fn ends_within(&self, from: u64, to: u64) -> bool {
        let millis = |micros: u64| i64::try_from(micros / 1_000).unwrap();
        let span = millis(from) - 2..=millis(to) + 2;
        let db = self.sim.db();
        db.live().any(|(_, entry)| entry.ends.is_some_and(|ends| span.contains(&ends)))
    }

    fn subscribe(&mut self, channel: &str) {
        let command = words(&format!("SUBSCRIBE {channel}"));
        assert!(matches!(self.ears.call(&command), Reply::Array(_)));
        self.sim.command(EARS, &command);
        self.channels.push(channel.to_owned());
    }

    /// What was published is the same, in the same order.
    fn compare_messages(&mut self) {
        if self.undecided {
            return;
        }
        for (_, message) in self.sim.messages() {
            let heard = self.ears.reply();
            assert!(alike(&message, &heard), "{message:?}, {heard:?} after {:#?}", self.told);
        }
    }

    /// Everything that is stored is the same, and ends at the same time.
    fn compare_keyspace(&mut self) {
        let stored: Vec<(Vec<u8>, &str)> = {
            let db = self.sim.db();
            let command = |data: &Data| match data {
                Data::Text(_) => "GET",
                Data::Hash(_) => "HGETALL",
                Data::Sorted(_) => "ZRANGE",
            };
            db.live().map(|(key, entry)| (key.to_vec(), command(&entry.data))).collect()
        };
        for (key, command) in &stored {
            let mut look = vec![command.as_bytes().to_vec(), key.clone()];
            if *command == "ZRANGE" {
                look.extend(words("0 -1 WITHSCORES"));
            }
            self.tell(&look);
            self.tell(&vec![b"PTTL".to_vec(), key.clone()]);
            self.tell(&vec![b"TYPE".to_vec(), key.clone()]);
        }
        self.settled();
        let Reply::Array(keys) = self.real.call(&words("KEYS *")) else { panic!("a list") };
        if !self.undecided {
            assert_eq!(keys.len(), self.sim.db().live().count(), "after {:#?}", self.told);
            self.compared += 1;
        }
    }

    fn begin(&mut self) {
        self.told.clear();
        if std::mem::take(&mut self.undecided) {
            // What the real one has published is of no interest any more.
            self.sim.messages();
            self.ears = Real::connect(self.port);
            for channel in self.channels.clone() {
                self.ears.call(&words(&format!("SUBSCRIBE {channel}")));
            }
        }
        self.tell(&words("FLUSHALL"));
    }

    /// Waits until the server's clock has gone on so far.
    fn wait(&mut self, micros: u64) {
        let until = self.real.micros() + micros;
        while self.real.micros() < until {}
        self.told.push(format!("{micros} us later"));
    }
}

struct Draw(SeededRng);

impl Draw {
    fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    fn one<'a>(&self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// Any command that scripts call, with arguments that fit, and now and then with some that do not.
fn any_command(draw: &Draw) -> String {
    let key = draw.one(&["a", "b", "c", "{a}:z"]);
    let field = draw.one(&["f", "g", "h"]);
    let number = draw.below(90);
    let long = draw.below(40) * 2_000 + 3_000;
    match draw.below(34) {
        0 => format!("SET {key} v{number}"),
        1 => format!("SET {key} {number} PX {long}"),
        2 => format!("SET {key} x{number} KEEPTTL"),
        3 => format!("SET {key} y NX PX {long}"),
        4 => format!("SET {key} z XX GET"),
        5 => format!("SET {key} z PX 0"),
        6 => format!("SET {key} z PXAT 1"),
        7 => format!("GET {key}"),
        8 => format!("GETSET {key} {number}"),
        9 => format!("PSETEX {key} {long} w"),
        10 => format!("DEL {key} b"),
        11 => format!("EXISTS {key} a b {key}"),
        12 => format!("PTTL {key}"),
        13 => format!("PEXPIRE {key} {long}"),
        14 => format!("PEXPIRE {key} {}", draw.one(&["-1", "0", "1.5", "x"])),
        15 => format!("ZADD {key} {number} {field} {} m", draw.below(50)),
        16 => format!("ZADD {key} 1.5 {field}"),
        17 => format!("ZREM {key} {field} g"),
        18 => format!("ZRANGE {key} 0 -1 WITHSCORES"),
        19 => {
            format!("ZRANGE {key} {} {}", draw.one(&["0", "1", "-2"]), draw.one(&["0", "5", "-1"]))
        }
        20 => format!("ZREVRANGE {key} 0 0 WITHSCORES"),
        21 => format!("ZCARD {key}"),
        22 => format!("ZRANK {key} {field}"),
        23 => format!("ZSCORE {key} {field}"),
        24 => format!("HSET {key} {field} {number} k 1"),
        25 => format!("HSET {key} {field}"),
        26 => format!("HGET {key} {field}"),
        27 => format!("HMGET {key} {field} k nothing"),
        28 => format!("HGETALL {key}"),
        29 => format!("HDEL {key} {field} k"),
        30 => format!("TYPE {key}"),
        31 => format!("INCR {key}"),
        32 => format!("PUBLISH heard {number}"),
        _ => {
            draw.one(&["GET", "PING", "NOSUCH x y", "EVALSHA 00 0", "PUBLISH nobody x"]).to_owned()
        }
    }
}

fn random_commands(kind: ServerKind) {
    let mut pair = Pair::start(kind);
    pair.subscribe("heard");
    for seed in 0..40 {
        let draw = Draw(SeededRng::new(seed));
        pair.begin();
        for _ in 0..60 {
            pair.tell(&words(&any_command(&draw)));
        }
        pair.compare_keyspace();
        pair.compare_messages();
    }
    assert!(pair.compared > 5, "only {} sequences could be compared", pair.compared);
}

/// What scripts return, and what they raise, is turned into the same replies.
fn script_values(kind: ServerKind) {
    let mut pair = Pair::start(kind);
    pair.begin();
    for body in [
        "return 1",
        "return 3.99",
        "return -0.5",
        "return 'text'",
        "return true",
        "return false",
        "return nil",
        "return {1, 'a', {2}, false, 3}",
        "return {1, nil, 3}",
        "return {}",
        "return {err = 'ERR mine'}",
        "return {ok = 'FINE'}",
        "return redis.error_reply('ERR it')",
        "return redis.status_reply('YES')",
        "return redis.call('GET', 'nothing')",
        "return redis.call('SET', 'k', 12345678901234567)",
        "return redis.call('GET', 'k')",
        "return redis.call('SET', 'k', 9007199254740991)",
        "return redis.call('GET', 'k')",
        "return redis.call('SET', 'k', 1.5)",
        "return redis.call('GET', 'k')",
        "return redis.call('SET', 'k', 1e20)",
        "return redis.call('GET', 'k')",
        "return redis.call('HSET', 'k', 'f', 'v')",
        "return redis.pcall('HSET', 'k', 'f', 'v').err and 1",
        "return redis.call('nosuch')",
        "return tostring(1798761600000000)",
        "return string.format('%.0f', 1798761600000001)",
        "return '1' + 1",
        "return #KEYS + #ARGV",
        "error('mine')",
        "return x.y",
        "this is no Lua",
        "return redis.call({})",
        "return unpack({7, 8})",
        "return {redis.call('TIME')[3]}",
        "return redis.sha1hex('a')",
        "return type(redis.call('HGETALL', 'none'))",
        "return redis.call('ZSCORE', 'none', 'a')",
        "redis.call('ZADD', 'z', 5, 'm') return redis.call('ZREVRANGE', 'z', 0, 0, 'WITHSCORES')",
        "return redis.call('ZSCORE', 'z', 'm') + 1",
        "return math.min(3, 2)",
    ] {
        let eval = |body: &str| vec![b"EVAL".to_vec(), body.into(), b"0".to_vec()];
        pair.tell(&eval(body));
    }
    pair.compare_keyspace();
}

/// Whether what has ended is gone for everybody in the same way.
fn what_has_ended(kind: ServerKind) {
    let mut pair = Pair::start(kind);
    pair.begin();
    for command in ["SET a 1 PX 40", "ZADD z 1 m", "PEXPIRE z 40", "HSET h f v", "PEXPIRE h 40"] {
        pair.tell(&words(command));
    }
    pair.wait(80_000);
    for command in [
        "GET a",
        "PTTL a",
        "EXISTS a z h",
        "ZADD z 2 n",
        "ZRANGE z 0 -1",
        "HGETALL h",
        "DEL a",
        "SET a 2 KEEPTTL",
        "PTTL a",
        "SET h text XX",
        "HSET h g w",
        "PTTL h",
    ] {
        pair.tell(&words(command));
    }
    pair.compare_keyspace();
}

/// One call of one of the scripts of locks.
fn any_script(draw: &Draw, now: u64, tokens: &[String]) -> (&'static str, Words) {
    let job = draw.one(&["job_1", "job_2"]);
    let client = draw.below(3);
    let lock = format!("bid_lock:m:{job}");
    let lease = format!("host-{client}:7:{:016x}#b1;", draw.below(3) + client * 16);
    let tail = format!("00000000000{client};");
    let ttl = (draw.below(4) * 20_000 + 30_000).to_string();
    let deadline =
        (if draw.below(12) == 0 { now - 1_000_000 } else { now + 50_000_000 }).to_string();
    let mut keys = vec![
        lock.clone(),
        format!("{{{lock}}}:waiters"),
        format!("{{{lock}}}:places"),
        "bid_lock:#tokens".to_owned(),
        format!("{{{lock}}}:revoked"),
    ];
    let (name, argv) = match draw.below(16) {
        0..=5 => ("acquire", vec![lease, ttl, deadline, tail, "20000".to_owned()]),
        6 => ("acquire", vec![lease, ttl, deadline, tail]),
        7..=9 => ("renew", vec![lease, ttl, deadline]),
        10..=13 => ("release", vec![lease]),
        14 => {
            let at = usize::try_from(draw.below(tokens.len() as u64)).unwrap();
            ("revoke", vec![tokens[at].clone(), draw.one(&["0", "1"]).to_owned()])
        }
        _ => ("inspect", Vec::new()),
    };
    keys.truncate(match name {
        "inspect" => 2,
        "acquire" | "release" => 4,
        _ => 5,
    });
    let mut call = vec![keys.len().to_string().into_bytes()];
    call.extend(keys.into_iter().chain(argv).map(String::into_bytes));
    (name, call)
}

fn real_scripts(kind: ServerKind) {
    let scripts = bidlock_redis::Scripts::default();
    let text = |wanted: &str| scripts.texts().find(|(name, _)| *name == wanted).unwrap().1;
    let mut pair = Pair::start(kind);
    // One of three clients never hears: hand-over passes it over.
    pair.subscribe("bid_lock:#client:000000000000");
    pair.subscribe("bid_lock:#client:000000000001");
    for seed in 0..40 {
        let draw = Draw(SeededRng::new(1_000 + seed));
        pair.begin();
        for _ in 0..60 {
            // Tokens are times, which differ: a revocation of the real one is tried as itself.
            let tokens = ["1".to_owned(), "nothing".to_owned()];
            let (name, call) = any_script(&draw, pair.real.micros(), &tokens);
            let mut command = vec![b"EVAL".to_vec(), text(name).into()];
            command.extend(call);
            pair.tell(&command);
        }
        pair.compare_keyspace();
        pair.compare_messages();
    }
    assert!(pair.compared > 20, "only {} sequences could be compared", pair.compared);
}

macro_rules! on_every_server {
    ($($module:ident: $kind:ident,)+) => {
        $(mod $module {
            use super::ServerKind;

            #[test]
            fn random_commands_are_answered_alike() {
                super::random_commands(ServerKind::$kind);
            }

            #[test]
            fn values_of_scripts_become_the_same_replies() {
                super::script_values(ServerKind::$kind);
            }

            #[test]
            fn what_has_ended_is_gone_in_the_same_way() {
                super::what_has_ended(ServerKind::$kind);
            }

            #[test]
            fn the_scripts_of_locks_do_the_same() {
                super::real_scripts(ServerKind::$kind);
            }
        })+
    };
}

on_every_server! {
    redis62: Redis62,
    redis70: Redis70,
    valkey9: Valkey9,
}
