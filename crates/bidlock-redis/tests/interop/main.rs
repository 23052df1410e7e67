//! Other clients on the same keys, and every way to a server.

#[allow(dead_code, unused_macros, reason = "each test binary uses a part of it")]
#[path = "../fleet/kit/mod.rs"]
mod kit;
mod old_clients;
mod parts;
mod secrets;
mod ways;

/// Where the processes of all tests begin.
#[test]
fn a_process_plays_its_part() {
    if let Some(part) = kit::Part::own() {
        return parts::play(&part);
    }
    let fleet = kit::Fleet::new(bidlock_testkit::servers::ServerKind::Redis70);
    let mut one = fleet.play("crowd", &[1, 3, 1]);
    fleet.sign("go");
    kit::all_end(std::slice::from_mut(&mut one));
    assert!(fleet.checked().len() >= 3);
}
