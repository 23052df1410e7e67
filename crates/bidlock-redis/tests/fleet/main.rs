//! Fleets: many processes and many locks on real servers, scaled down; `BIDLOCK_SOAK` in the
//! environment makes them full size.

mod budget;
mod contention;
mod counts;
mod dead;
mod expiry;
mod hold;
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod kit;
mod link;
mod many;
mod memory;
mod parts;

use bidlock_testkit::servers::ServerKind;

/// Where the processes of all tests begin.
#[test]
fn a_process_plays_its_part() {
    if let Some(part) = kit::Part::own() {
        return parts::play(&part);
    }
    let fleet = kit::Fleet::new(ServerKind::Redis70);
    let mut one = fleet.play("holder", &[1, 60_000, 1]);
    parts::holds(&one);
    assert_eq!(fleet.server.text(&["EXISTS", kit::key(1).as_str()]), "1");
    one.kill().expect("it can be killed");
    one.wait(kit::SOON);
}
