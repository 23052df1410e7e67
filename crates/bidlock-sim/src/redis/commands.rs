//! The commands that locks use, on the keyspace alone.

#![expect(clippy::unnecessary_wraps, reason = "all commands have one form")]

use super::db::{Data, Db, WRONG_TYPE};
use super::reply::Reply;

/// A command as it came in.
pub(crate) type Words = [Vec<u8>];
type Done = Result<Reply, String>;

const SYNTAX: &str = "ERR syntax error";
const NO_INTEGER: &str = "ERR value is not an integer or out of range";

/// What a server has to know of a command before it runs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// With its name; less than zero: so many at least.
    arity: i32,
    pub(crate) writes: bool,
    /// Refused when memory is short.
    pub(crate) grows: bool,
    run: fn(&mut Db, &Words) -> Done,
}

const fn reads(name: &'static str, arity: i32, run: fn(&mut Db, &Words) -> Done) -> Command {
    Command { name, arity, writes: false, grows: false, run }
}

const fn writes(name: &'static str, arity: i32, run: fn(&mut Db, &Words) -> Done) -> Command {
    Command { name, arity, writes: true, grows: false, run }
}

const fn grows(name: &'static str, arity: i32, run: fn(&mut Db, &Words) -> Done) -> Command {
    Command { name, arity, writes: true, grows: true, run }
}

const COMMANDS: &[Command] = &[
    reads("GET", 2, get),
    reads("EXISTS", -2, exists),
    reads("PTTL", 2, pttl),
    reads("TYPE", 2, kind),
    reads("SCAN", -2, scan),
    reads("HGET", 3, hget),
    reads("HMGET", -3, hmget),
    reads("HGETALL", 2, hgetall),
    reads("ZRANGE", -4, zrange),
    reads("ZREVRANGE", -4, zrevrange),
    reads("ZCARD", 2, zcard),
    reads("ZRANK", 3, zrank),
    reads("ZSCORE", 3, zscore),
    writes("DEL", -2, del),
    writes("PEXPIRE", 3, pexpire),
    writes("HDEL", -3, hdel),
    writes("ZREM", -3, zrem),
    grows("SET", -3, set),
    grows("GETSET", 3, getset),
    grows("PSETEX", 4, psetex),
    grows("INCR", 2, incr),
    grows("HSET", -4, hset),
    grows("ZADD", -4, zadd),
];

/// The command of that name.
pub(crate) fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
}

impl Command {
    pub(crate) fn run(&self, db: &mut Db, words: &Words) -> Reply {
        let count = i32::try_from(words.len()).unwrap_or(i32::MAX);
        if (self.arity >= 0 && count != self.arity) || count < -self.arity {
            return wrong_count(self.name);
        }
        (self.run)(db, words).unwrap_or_else(Reply::Error)
    }
}

pub(crate) fn wrong_count(name: &str) -> Reply {
    let name = name.to_ascii_lowercase();
    Reply::error(format!("ERR wrong number of arguments for '{name}' command"))
}

fn integer(text: &[u8]) -> Result<i64, String> {
    let text = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| NO_INTEGER.to_owned())
}

fn count(number: usize) -> Reply {
    Reply::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn optional(text: Option<&Vec<u8>>) -> Reply {
    text.map_or(Reply::Nil, |text| Reply::Bulk(text.clone()))
}

fn get(db: &mut Db, words: &Words) -> Done {
    Ok(optional(db.text(&words[1])?))
}

fn exists(db: &mut Db, words: &Words) -> Done {
    Ok(count(words[1..].iter().filter(|key| db.get(key).is_some()).count()))
}

fn pttl(db: &mut Db, words: &Words) -> Done {
    Ok(Reply::Int(match db.get(&words[1]) {
        None => -2,
        Some(entry) => entry.ends.map_or(-1, |ends| (ends - db.now_ms).max(0)),
    }))
}

fn kind(db: &mut Db, words: &Words) -> Done {
    let name = match db.get(&words[1]).map(|entry| &entry.data) {
        None => "none",
        Some(Data::Text(_)) => "string",
        Some(Data::Hash(_)) => "hash",
        Some(Data::Sorted(_)) => "zset",
    };
    Ok(Reply::Status(name.to_owned()))
}

/// Everything at once: a server may do that, whatever count was asked for.
fn scan(db: &mut Db, _words: &Words) -> Done {
    let keys = db.live().map(|(key, _)| Reply::bulk(key)).collect();
    Ok(Reply::Array(vec![Reply::bulk("0"), Reply::Array(keys)]))
}

fn del(db: &mut Db, words: &Words) -> Done {
    Ok(count(words[1..].iter().filter(|key| db.remove(key)).count()))
}

fn pexpire(db: &mut Db, words: &Words) -> Done {
    let ends = db.now_ms + integer(&words[2])?;
    let now = db.now_ms;
    let Some(entry) = db.get_mut(&words[1]) else { return Ok(Reply::Int(0)) };
    if ends <= now {
        db.remove(&words[1]);
    } else {
        entry.ends = Some(ends);
    }
    Ok(Reply::Int(1))
}

/// What `SET` is told besides key and value.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the command")]
struct Options {
    absent: bool,
    present: bool,
    get: bool,
    keep: bool,
    ends: Option<i64>,
}

fn options(db: &Db, words: &Words) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let word = word.to_ascii_uppercase();
        match word.as_slice() {
            b"NX" => options.absent = true,
            b"XX" => options.present = true,
            b"GET" => options.get = true,
            b"KEEPTTL" => options.keep = true,
            b"PX" | b"EX" | b"PXAT" => {
                let number = integer(rest.next().ok_or(SYNTAX)?)?;
                if number <= 0 {
                    return Err("ERR invalid expire time in 'set' command".to_owned());
                }
                options.ends = Some(match word.as_slice() {
                    b"PX" => db.now_ms + number,
                    b"EX" => db.now_ms + number * 1_000,
                    _ => number,
                });
            }
            _ => return Err(SYNTAX.to_owned()),
        }
    }
    let twice = options.absent && options.present || options.keep && options.ends.is_some();
    if twice { Err(SYNTAX.to_owned()) } else { Ok(options) }
}

fn set(db: &mut Db, words: &Words) -> Done {
    let options = options(db, &words[3..])?;
    let old = if options.get { optional(db.text(&words[1])?) } else { Reply::ok() };
    let known = db.get(&words[1]);
    if (options.absent && known.is_some()) || (options.present && known.is_none()) {
        return Ok(if options.get { old } else { Reply::Nil });
    }
    let ends = if options.keep { known.and_then(|entry| entry.ends) } else { options.ends };
    db.put(&words[1], Data::Text(words[2].clone()), ends);
    Ok(old)
}

fn getset(db: &mut Db, words: &Words) -> Done {
    let old = optional(db.text(&words[1])?);
    db.put(&words[1], Data::Text(words[2].clone()), None);
    Ok(old)
}

fn psetex(db: &mut Db, words: &Words) -> Done {
    let length = integer(&words[2])?;
    if length <= 0 {
        return Err("ERR invalid expire time in 'psetex' command".to_owned());
    }
    db.put(&words[1], Data::Text(words[3].clone()), Some(db.now_ms + length));
    Ok(Reply::ok())
}

fn incr(db: &mut Db, words: &Words) -> Done {
    let old = db.text(&words[1])?.map_or(Ok(0), |text| integer(text))?;
    let next = old.checked_add(1).ok_or(NO_INTEGER)?;
    let ends = db.get(&words[1]).and_then(|entry| entry.ends);
    db.put(&words[1], Data::Text(next.to_string().into_bytes()), ends);
    Ok(Reply::Int(next))
}

fn hget(db: &mut Db, words: &Words) -> Done {
    let fields = db.hash(&words[1])?;
    Ok(optional(fields.iter().find(|(field, _)| *field == words[2]).map(|(_, value)| value)))
}

fn hmget(db: &mut Db, words: &Words) -> Done {
    let fields = db.hash(&words[1])?;
    let value = |name: &Vec<u8>| fields.iter().find(|(f, _)| f == name).map(|(_, value)| value);
    Ok(Reply::Array(words[2..].iter().map(|name| optional(value(name))).collect()))
}

fn hgetall(db: &mut Db, words: &Words) -> Done {
    let fields = db.hash(&words[1])?;
    let pairs = fields.iter().map(|(f, v)| (Reply::bulk(f.clone()), Reply::bulk(v.clone())));
    Ok(Reply::Map(pairs.collect()))
}

fn hset(db: &mut Db, words: &Words) -> Done {
    if !words.len().is_multiple_of(2) {
        return Ok(wrong_count("hset"));
    }
    db.hash(&words[1])?;
    let entry = db.entry(&words[1], || Data::Hash(Vec::new()));
    let Data::Hash(fields) = &mut entry.data else { return Err(WRONG_TYPE.to_owned()) };
    let mut added = 0;
    for pair in words[2..].chunks(2) {
        if let Some((_, value)) = fields.iter_mut().find(|(field, _)| *field == pair[0]) {
            value.clone_from(&pair[1]);
        } else {
            fields.push((pair[0].clone(), pair[1].clone()));
            added += 1;
        }
    }
    Ok(Reply::Int(added))
}

fn hdel(db: &mut Db, words: &Words) -> Done {
    db.hash(&words[1])?;
    let Some(entry) = db.get_mut(&words[1]) else { return Ok(Reply::Int(0)) };
    let Data::Hash(fields) = &mut entry.data else { return Err(WRONG_TYPE.to_owned()) };
    let before = fields.len();
    fields.retain(|(field, _)| !words[2..].contains(field));
    let gone = before - fields.len();
    db.tidy(&words[1]);
    Ok(count(gone))
}

fn score(text: &[u8]) -> Result<f64, String> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.parse().map_err(|_| "ERR value is not a valid float".to_owned())
}

/// As a server writes a score.
fn shown(score: f64) -> Reply {
    Reply::bulk(format!("{score}"))
}

fn zadd(db: &mut Db, words: &Words) -> Done {
    if words.len().is_multiple_of(2) {
        let pairs: Result<Vec<_>, _> = words[2..].chunks(2).map(|p| score(&p[0])).collect();
        let scores = pairs?;
        db.sorted(&words[1])?;
        let entry = db.entry(&words[1], || Data::Sorted(Vec::new()));
        let Data::Sorted(members) = &mut entry.data else { return Err(WRONG_TYPE.to_owned()) };
        let mut added = 0;
        for (pair, score) in words[2..].chunks(2).zip(scores) {
            let before = members.len();
            members.retain(|(_, member)| *member != pair[1]);
            added += usize::from(before == members.len());
            members.push((score, pair[1].clone()));
        }
        members.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        return Ok(count(added));
    }
    Err(SYNTAX.to_owned())
}

fn zrem(db: &mut Db, words: &Words) -> Done {
    db.sorted(&words[1])?;
    let Some(entry) = db.get_mut(&words[1]) else { return Ok(Reply::Int(0)) };
    let Data::Sorted(members) = &mut entry.data else { return Err(WRONG_TYPE.to_owned()) };
    let before = members.len();
    members.retain(|(_, member)| !words[2..].contains(member));
    let gone = before - members.len();
    db.tidy(&words[1]);
    Ok(count(gone))
}

fn zrange(db: &mut Db, words: &Words) -> Done {
    let members = db.sorted(&words[1])?.to_vec();
    ranged(&members, words)
}

fn zrevrange(db: &mut Db, words: &Words) -> Done {
    let mut members = db.sorted(&words[1])?.to_vec();
    members.reverse();
    ranged(&members, words)
}

fn ranged(members: &[(f64, Vec<u8>)], words: &Words) -> Done {
    let scores = match &words[4..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"WITHSCORES") => true,
        _ => return Err(SYNTAX.to_owned()),
    };
    let length = i64::try_from(members.len()).unwrap_or(i64::MAX);
    let place = |n: i64| if n < 0 { n + length } else { n };
    let from = place(integer(&words[2])?).max(0);
    let to = place(integer(&words[3])?).min(length - 1);
    let mut found = Vec::new();
    for n in from..=to {
        let Some((score, member)) = usize::try_from(n).ok().and_then(|n| members.get(n)) else {
            break;
        };
        found.push(Reply::bulk(member.clone()));
        if scores {
            found.push(shown(*score));
        }
    }
    Ok(Reply::Array(found))
}

fn zcard(db: &mut Db, words: &Words) -> Done {
    Ok(count(db.sorted(&words[1])?.len()))
}

fn zrank(db: &mut Db, words: &Words) -> Done {
    let members = db.sorted(&words[1])?;
    Ok(members.iter().position(|(_, member)| *member == words[2]).map_or(Reply::Nil, count))
}

fn zscore(db: &mut Db, words: &Words) -> Done {
    let members = db.sorted(&words[1])?;
    let found = members.iter().find(|(_, member)| *member == words[2]);
    Ok(found.map_or(Reply::Nil, |(score, _)| shown(*score)))
}
