//! The table of faults that the simulation has to notice, each alone.

use bidlock_redis::Scripts;

use crate::faulty::{Client, Switches};
use crate::ledger::Faults;

/// A fault, and how many seeds may pass before it is noticed.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// Within how many seeds it must be noticed.
    pub(crate) seeds: u64,
    /// What of the scripts is replaced by what.
    scripts: &'static [(&'static str, &'static str)],
    switches: fn() -> Switches,
}

impl Mutant {
    /// The mutant of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|mutant| mutant.name == name)
    }

    /// The scripts with the fault; nothing when they no longer have what it replaces.
    pub(crate) fn scripts(&self) -> Option<Scripts> {
        let sound = Scripts::default();
        self.scripts
            .iter()
            .try_fold(sound, |scripts, (sound, fault)| scripts.with_fault(sound, fault))
    }

    pub(crate) fn switches(&self) -> Switches {
        (self.switches)()
    }
}

const fn script(
    name: &'static str,
    seeds: u64,
    scripts: &'static [(&'static str, &'static str)],
) -> Mutant {
    Mutant { name, seeds, scripts, switches: Switches::default }
}

const fn code(name: &'static str, seeds: u64, switches: fn() -> Switches) -> Mutant {
    Mutant { name, seeds, scripts: &[], switches }
}

macro_rules! client {
    ($name:literal, $seeds:literal, $fault:ident) => {
        code($name, $seeds, || Switches { client: Some(Client::$fault), ..Switches::default() })
    };
}

macro_rules! ledger {
    ($name:literal, $seeds:literal, $field:ident) => {
        code($name, $seeds, || Switches {
            ledger: Faults { $field: true, ..Faults::default() },
            ..Switches::default()
        })
    };
}

const OURS: &str = "local ours = held and string.find(held, ARGV[1], 1, true) == 1";
const LATE: &str = "if now > ARGV[3] then return {2, now} end";

/// All of them.
pub(crate) const ALL: &[Mutant] = &[
    script("release-without-compare", 50, &[(OURS, "local ours = held")]),
    script(
        "token-from-counter-alone",
        200,
        &[
            ("if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) == 0 and", "if false and"),
            ("redis.call('SET', TOKENS, digits(micros()), 'GET')", "redis.call('GET', TOKENS)"),
            ("if last < micros() then return micros() end", ""),
        ],
    ),
    script(
        "token-from-clock-alone",
        500,
        &[
            ("if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) == 0 and", "if false and"),
            ("if last < micros() then return micros() end", "do return micros() end"),
        ],
    ),
    script(
        "token-through-tostring",
        50,
        &[("return string.format('%.0f', number)", "return tostring(number)")],
    ),
    script(
        "token-with-millisecond-floor",
        50,
        &[
            (
                "clock = time[1] * 1000000 + time[2]",
                "clock = time[1] * 1000000 + time[2] - time[2] % 1000",
            ),
            (
                "string.sub('00000' .. time[2], -6)",
                "string.sub('00000' .. time[2], -6, -4) .. '000'",
            ),
        ],
    ),
    script(
        "counter-not-kept",
        200,
        &[("redis.call('SET', TOKENS, digits(token > LIMIT and last or token))", "")],
    ),
    script("no-deadline", 100, &[(LATE, "")]),
    script(
        "pxat-deadline",
        200,
        &[
            // A request may run at any time, and names the moment at which its key shall end.
            (
                "if now > ARGV[3] then return {2, now} end -- I9\nif redis.call('EXISTS'",
                "if redis.call('EXISTS'",
            ),
            (
                "redis.call('PSETEX', KEYS[1], ARGV[2], ARGV[1] .. now .. ';h;' .. ARGV[4])",
                "redis.call('SET', KEYS[1], ARGV[1] .. now .. ';h;' .. ARGV[4], 'PXAT', \
                 string.format('%.0f', string.sub(ARGV[3], 1, -4) + ARGV[2] - ARGV[2] / 3))",
            ),
        ],
    ),
    script(
        "own-retry-not-recognised",
        50,
        &[("if lease == LEASE and state ~= 'r' then", "if false then")],
    ),
    script(
        "renewal-revives",
        200,
        &[(
            "if held then return {4} end",
            "if held then return {4} end redis.call('SET', KEYS[1], ARGV[1] .. now .. ';h;;', \
             'PX', ARGV[2]) do return {1, now} end",
        )],
    ),
    script(
        "renewal-gives-less",
        50,
        &[("redis.call('PEXPIRE', KEYS[1], ttl)", "redis.call('PEXPIRE', KEYS[1], ttl - 200)")],
    ),
    script("revoked-lease-renewed", 200, &[("if state == 'r' then return {5} end", "")]),
    script("revoke-without-token", 200, &[("if token ~= ARGV[1] then", "if not token then")]),
    script(
        "hand-over-past-deadline",
        500,
        &[("dies and dies > micros() and window or nil", "dies and window or nil")],
    ),
    script("hand-over-to-the-last", 50, &[("unpack(waiters(0, 1))", "unpack(waiters(-1, -1))")]),
    script(
        "hand-over-whoever-hears",
        500,
        &[("' ' .. window) > 0 then", "' ' .. window) >= 0 then")],
    ),
    script(
        "hand-over-without-write",
        50,
        &[("redis.call('SET', LOCK, lease .. '#b1;' .. text .. ';g;' .. tail, 'PX', window)", "")],
    ),
    script(
        "hand-over-tells-nobody-of-its-window",
        50,
        &[("if second then tell_others(window) end", "")],
    ),
    script(
        "silent-client-stays",
        2_000,
        &[("local silent = redis.call('HGET', PLACES, 'window')", "local silent = nil")],
    ),
    script(
        "cancel-forgets-a-crossed-grant",
        1_000,
        &[(
            OURS,
            "local ours = held and string.find(held, ARGV[1], 1, true) == 1 \
                  and not string.find(held, ';g;', 1, true)",
        )],
    ),
    script(
        "cancel-leaves-its-place",
        200,
        &[("left = redis.call('ZREM', QUEUE, LEASE)", "left = 0")],
    ),
    script(
        "newcomer-first",
        200,
        &[(
            "redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) == 0",
            "redis.call('EXISTS', KEYS[1]) == 0",
        )],
    ),
    script(
        "expiry-serves-who-asks",
        500,
        &[("local passed = not held and pass_on(LEASE)", "local passed = nil")],
    ),
    script(
        "release-forgets-the-queue",
        200,
        &[("string.byte(held, #ARGV[1] + 18) == 104", "true")],
    ),
    script("queue-without-end", 50, &[("redis.call('PEXPIRE', QUEUE, PLACE_MS)", "")]),
    script("place-without-queue", 50, &[("redis.call('HDEL', PLACES, lease)", "")]),
    client!("renewal-by-hope", 500, RenewsByHope),
    client!("renewal-of-what-is-taken", 2_000, RenewsWhatIsTaken),
    client!("lost-answer-taken-for-a-grant", 200, HopesForGrants),
    client!("belief-longer-than-the-lease", 200, NoMargin),
    client!("deadline-from-after-the-reply", 2_000, CountsFromAnswers),
    client!("new-identity-for-each-try", 50, NewIdentities),
    client!("notify-only-wait", 500, WaitsForNews),
    client!("cancel-tells-nobody", 200, LeavesPlaces),
    client!("message-believed-for-too-long", 1_000, BelievesMessages),
    code("clock-stops-in-suspend", 500, || Switches { sleeps: true, ..Switches::default() }),
    code("belief-by-wall-clock", 500, || Switches { wall: true, ..Switches::default() }),
    ledger!("doubt-ends-by-age", 100, doubt_ages),
    ledger!("start-by-hope", 100, starts_by_hope),
    ledger!("record-needs-the-lease", 200, records_by_lease),
    code("resend-of-a-reserved-attempt", 50, || Switches {
        resends_reserved: true,
        ..Switches::default()
    }),
    code("reopen-on-not-found", 50, || Switches { reopens_not_found: true, ..Switches::default() }),
];

/// The first line of the table of faults.
pub(crate) const HEAD: &str = "| mutant | caught by | seeds needed | allowed |";

/// What a table says of one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// The first seed that noticed it, of those from 1 on.
    pub(crate) needed: u64,
    pub(crate) allowed: u64,
}

/// Reads the table out of a page; nothing when there is none, or a line of it makes no sense.
pub(crate) fn rows(page: &str) -> Option<Vec<Row>> {
    let (_, table) = page.split_once(HEAD)?;
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines.map(row).collect()
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, name, _, needed, allowed, _] = cells[..] else { return None };
    let (needed, allowed) = (needed.parse().ok()?, allowed.parse().ok()?);
    Some(Row { name: name.to_owned(), needed, allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_docs_has_a_line_for_each_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verification.md");
        let told = rows(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(told.iter().all(|row| row.needed <= row.allowed), "{told:?}");
        let told: Vec<_> = told.iter().map(|row| (row.name.as_str(), row.allowed)).collect();
        let all: Vec<_> = ALL.iter().map(|mutant| (mutant.name, mutant.seeds)).collect();
        assert_eq!(told, all, "make the table again: cargo xtask mutants");
    }

    #[test]
    fn a_page_without_a_table_or_with_a_bad_line_has_no_rows() {
        assert_eq!(rows("nothing here"), None);
        assert_eq!(rows(&format!("{HEAD}\n|---|\n| a | b | many | 5 |\n")), None);
        let row = Row { name: "a".to_owned(), needed: 3, allowed: 5 };
        assert_eq!(rows(&format!("{HEAD}\n|---|\n| a | b | 3 | 5 |\n\nend")), Some(vec![row]));
    }
}
