//! What a lease promises its holder, on a clock that the test sets.

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bidlock::{Error, Lease, LossReason, Revocation, Wait};
use common::{World, key, settle, ttl};

const SECOND: Duration = Duration::from_secs(1);

/// Why a lease is lost, if it is.
fn loss(lease: &Lease) -> Option<LossReason> {
    match lease.check() {
        Ok(_) => None,
        Err(Error::Lost { reason, .. }) => Some(reason),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn validity_counts_from_before_the_request_was_sent() {
    // I3
    let world = World::new();
    world.store.delay_ms.store(300, SeqCst);
    let lease = world.locker().acquire(&key("a")).ttl(ttl(1_000)).await.unwrap();
    assert_eq!(lease.check().unwrap(), Duration::from_millis(690), "300 ms and 1 % are gone");
}

#[tokio::test]
async fn an_answer_that_took_longer_than_the_lease_is_no_lease() {
    let world = World::new();
    world.store.delay_ms.store(220, SeqCst);
    let acquire = world.locker().acquire(&key("a")).ttl(ttl(200)).wait(Wait::For(SECOND));
    let asking = tokio::spawn(async move { acquire.await });
    world.pass(SECOND).await;
    let asked = asking.await.unwrap();
    assert!(asked.is_err(), "{asked:?}");
    assert!(world.store.acquires.load(SeqCst) > 1, "asked again for the whole wait");
}

#[tokio::test]
async fn renewal_carries_a_lease_past_ten_ttls_and_nobody_else_gets_it() {
    // R4
    let world = World::new();
    let lease = world.locker().acquire(&key("a")).ttl(ttl(1_000)).await.unwrap();
    let other = world.locker();
    for _ in 0..10 {
        world.pass(SECOND).await;
        assert_eq!(loss(&lease), None);
        assert!(other.try_acquire(&key("a")).await.unwrap().is_none());
    }
    let renewals = world.store.renewals.load(SeqCst);
    assert!((25..=35).contains(&renewals), "a renewal each third of the TTL: {renewals}");
    lease.release().await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_free_before_the_promised_end_was_taken() {
    let world = World::new();
    let lease = world.locker().acquire(&key("a")).ttl(ttl(9_000)).await.unwrap();
    // As a client of the old kind does that deletes the key when it thinks that it is its own.
    world.locker().release(&key("a"), lease.id()).await.unwrap();
    assert_eq!(loss(&lease), None, "nobody has told it yet");
    world.pass(SECOND * 3).await;
    assert_eq!(loss(&lease), Some(LossReason::Taken));
}

#[tokio::test]
async fn a_released_lease_is_never_renewed_again() {
    // I4, R10
    let world = World::new();
    let locker = world.locker();
    locker.acquire(&key("a")).ttl(ttl(1_000)).await.unwrap().release().await.unwrap();
    let dropped = locker.acquire(&key("b")).ttl(ttl(1_000)).await.unwrap();
    drop(dropped);
    let detached = locker.acquire(&key("c")).ttl(ttl(1_000)).await.unwrap().detach();
    world.pass(10 * SECOND).await;
    assert_eq!(world.store.renewals.load(SeqCst), 0);
    assert!(locker.try_acquire(&key("c")).await.unwrap().is_some(), "{detached} ran out");
}

#[tokio::test]
async fn a_dead_link_is_told_before_the_store_could_give_the_key_away() {
    // R1, P6: by the holder's own timer, whether requests fail or are never answered.
    for hangs in [false, true] {
        let world = World::new();
        let lease = world.locker().acquire(&key("a")).ttl(ttl(3_000)).await.unwrap();
        world.store.unreachable.store(!hangs, SeqCst);
        world.store.hangs.store(hangs, SeqCst);
        world.pass(Duration::from_millis(2_950)).await;
        assert_eq!(loss(&lease), None);
        world.pass(Duration::from_millis(40)).await;
        assert_eq!(lease.lost().await, LossReason::Unreachable);
        assert_eq!(loss(&lease), Some(LossReason::Unreachable));
        assert_eq!(world.seen.count("Lost"), 1);
        world.store.unreachable.store(false, SeqCst);
        world.store.hangs.store(false, SeqCst);
        let free = world.locker().try_acquire(&key("a")).await.unwrap();
        assert!(free.is_none(), "10 ms of the lease are left at the store");
    }
}

#[tokio::test]
async fn renewal_goes_on_through_errors_of_the_store() {
    // R7
    let world = World::new();
    let lease = world.locker().acquire(&key("a")).ttl(ttl(6_000)).await.unwrap();
    world.pass(Duration::from_millis(1_900)).await;
    world.store.unreachable.store(true, SeqCst);
    world.pass(3 * SECOND).await;
    world.store.unreachable.store(false, SeqCst);
    world.pass(20 * SECOND).await;
    assert_eq!(loss(&lease), None);
    assert!(world.seen.count("RenewalFailed") > 0);
}

#[tokio::test]
async fn a_suspended_machine_finds_the_lease_lost_before_it_can_act() {
    let world = World::new();
    let lease = world.locker().acquire(&key("a")).ttl(ttl(3_000)).await.unwrap();
    world.machine.clock.advance(Duration::from_hours(1));
    assert_eq!(loss(&lease), Some(LossReason::Suspended), "the first look says so");
    assert_eq!(lease.lost().await, LossReason::Suspended);
    assert!(matches!(lease.release().await, Err(Error::Lost { .. })));
}

#[tokio::test]
async fn wall_clock_steps_change_nothing() {
    // R1
    let world = World::new();
    let lease = world.locker().acquire(&key("a")).ttl(ttl(3_000)).await.unwrap();
    for step in [3_600_000_000, -7_200_000_000] {
        world.machine.clock.step_wall(step);
        world.pass(SECOND).await;
        assert_eq!(loss(&lease), None);
    }
}

#[tokio::test]
async fn max_hold_ends_a_lease_that_would_be_renewed() {
    // R10
    let world = World::new();
    let acquire = world.locker().acquire(&key("a")).ttl(ttl(1_000)).max_hold(5 * SECOND);
    let lease = acquire.await.unwrap();
    world.pass(Duration::from_millis(4_990)).await;
    assert_eq!(loss(&lease), None);
    world.pass(Duration::from_millis(10)).await;
    assert_eq!(loss(&lease), Some(LossReason::MaxHold));
    world.pass(SECOND).await;
    assert!(world.locker().try_acquire(&key("a")).await.unwrap().is_some(), "5 s and a TTL");
}

#[tokio::test]
async fn without_renewal_a_lease_just_ends() {
    let world = World::new();
    let lease = world.locker().acquire(&key("a")).ttl(ttl(1_000)).renew(false).await.unwrap();
    world.pass(SECOND).await;
    assert_eq!(loss(&lease), Some(LossReason::Expired));
    assert_eq!(world.store.renewals.load(SeqCst), 0);
}

#[tokio::test]
async fn a_renewal_by_hand_extends_and_a_lost_lease_is_not_revived() {
    // I4, I5
    let world = World::new();
    let lease = world.locker().acquire(&key("a")).ttl(ttl(1_000)).renew(false).await.unwrap();
    world.pass(Duration::from_millis(900)).await;
    assert_eq!(lease.renew().await.unwrap(), Duration::from_millis(990));
    world.pass(SECOND).await;
    assert!(matches!(lease.renew().await, Err(Error::Lost { .. })));
    let other = world.locker().try_acquire(&key("a")).await.unwrap().unwrap();
    assert!(other.token() > lease.token());
    assert!(matches!(lease.renew().await, Err(Error::Lost { .. })));
    assert_eq!(loss(&other), None);
}

#[tokio::test]
async fn a_revoked_holder_is_told_at_once_and_keeps_others_out_until_it_stops() {
    // I12
    let world = World::new();
    let locker = world.locker();
    let lease = locker.acquire(&key("a")).ttl(ttl(60_000)).await.unwrap();
    let operator = locker.revoker().unwrap();
    let stale = bidlock::FencingToken::new(lease.token().get() - 1);
    let answer = operator.revoke(lease.key(), stale, false).await.unwrap();
    assert_eq!(answer, Revocation::NotHeld { current: Some(lease.token()) });
    settle().await;
    assert_eq!(loss(&lease), None, "another token changes nothing");

    let answer = operator.revoke(lease.key(), lease.token(), false).await.unwrap();
    assert!(matches!(answer, Revocation::Marked { .. }));
    settle().await;
    assert_eq!(loss(&lease), Some(LossReason::Revoked));
    assert!(locker.try_acquire(&key("a")).await.unwrap().is_none(), "its work may still run");
    drop(lease);
    settle().await;
    assert!(locker.try_acquire(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn guarded_work_is_dropped_when_the_lease_is_lost() {
    let world = World::new();
    let locker = world.locker();
    let acquire = locker.acquire(&key("a")).ttl(ttl(1_000));
    let work =
        tokio::spawn(
            async move { locker.with_lock(acquire, |_| std::future::pending::<()>()).await },
        );
    settle().await;
    world.store.unreachable.store(true, SeqCst);
    world.pass(SECOND).await;
    let ended = work.await.unwrap();
    assert!(matches!(ended, Err(Error::Lost { reason: LossReason::Unreachable, .. })));
}

#[tokio::test]
async fn guarded_work_gives_its_value_and_the_key_back() {
    let world = World::new();
    let locker = world.locker();
    let done = locker.with_lock(locker.acquire(&key("a")), |lease| async move { lease.token() });
    assert!(done.await.unwrap().get() > 0);
    assert!(locker.try_acquire(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_release_without_an_answer_is_delivered_in_the_background() {
    // R9
    let world = World::new();
    let lease = world.locker().acquire(&key("a")).ttl(ttl(60_000)).await.unwrap();
    world.store.unreachable.store(true, SeqCst);
    assert!(matches!(lease.release().await, Err(Error::Store(_))));
    world.pass(2 * SECOND).await;
    world.store.unreachable.store(false, SeqCst);
    world.pass(2 * SECOND).await;
    assert!(world.locker().try_acquire(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_dropped_release_is_delivered_in_the_background() {
    // R9
    let world = World::new();
    let locker = world.locker();
    let lease = locker.acquire(&key("a")).ttl(ttl(60_000)).await.unwrap();
    {
        let release = std::pin::pin!(lease.release());
        tokio::select! {
            biased;
            _ = release => panic!("the store cannot have answered yet"),
            () = std::future::ready(()) => {}
        }
    }
    locker.close().await;
    assert!(locker.try_acquire(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_renewal_that_was_planned_is_not_sent_after_the_release() {
    // I4: the hint makes a renewal that is on its way to be sent when the lease is given up.
    let world = World::new();
    let locker = world.locker();
    let lease = locker.acquire(&key("a")).ttl(ttl(60_000)).await.unwrap();
    let operator = locker.revoker().unwrap();
    operator.revoke(lease.key(), lease.token(), false).await.unwrap();
    lease.release().await.unwrap();
    settle().await;
    assert_eq!(world.store.renewals.load(SeqCst), 0);
}

#[tokio::test]
async fn a_revocation_during_a_renewal_is_heard_all_the_same() {
    let world = World::new();
    let locker = world.locker();
    let lease = locker.acquire(&key("a")).ttl(ttl(60_000)).await.unwrap();
    world.store.slow_answers.store(true, SeqCst);
    world.pass(21 * SECOND).await;
    assert_eq!(world.store.renewals.load(SeqCst), 1, "carried out, and not yet answered");
    locker.revoker().unwrap().revoke(lease.key(), lease.token(), false).await.unwrap();
    world.store.slow_answers.store(false, SeqCst);
    settle().await;
    assert_eq!(loss(&lease), Some(LossReason::Revoked));
}

#[tokio::test]
async fn an_observer_may_panic_or_call_back_and_costs_no_lease() {
    // R7
    use std::sync::{Arc, Mutex};

    #[derive(Debug, Default)]
    struct Rude(Mutex<Option<bidlock::LeaseView>>);
    impl bidlock::Observer for Rude {
        fn on(&self, event: &bidlock::Event<'_>) {
            if let Some(view) = &*self.0.lock().unwrap() {
                drop(view.check());
            }
            assert!(!matches!(event, bidlock::Event::Lost { .. }), "rude");
        }
    }
    let world = World::new();
    let rude = Arc::new(Rude::default());
    let builder = bidlock::Locker::builder().platform(world.platform());
    let builder = builder.observer(Arc::clone(&rude) as Arc<dyn bidlock::Observer>);
    let locker = builder.backend(Arc::clone(&world.store) as _).unwrap();
    let kept = locker.acquire(&key("kept")).ttl(ttl(1_000)).await.unwrap();
    *rude.0.lock().unwrap() = Some(kept.view());
    for _ in 0..20 {
        let acquire = locker.acquire(&key("lost")).ttl(ttl(1_000)).renew(false);
        let lost = acquire.await.unwrap();
        world.pass(SECOND).await;
        assert_eq!(loss(&lost), Some(LossReason::Expired));
    }
    assert_eq!(loss(&kept), None);
    let later = locker.acquire(&key("later")).ttl(ttl(1_000)).await.unwrap();
    world.pass(5 * SECOND).await;
    assert_eq!(loss(&later), None);
}

#[tokio::test]
async fn a_dropped_lease_is_seen_to_be_released() {
    // R18
    let world = World::new();
    let locker = world.locker();
    drop(locker.acquire(&key("a")).await.unwrap());
    locker.close().await;
    assert_eq!(world.seen.count("outcome: Released"), 1);
}

#[tokio::test]
async fn a_release_after_max_hold_goes_on_until_the_store_has_it() {
    let world = World::new();
    let locker = world.locker();
    let acquire = locker.acquire(&key("a")).ttl(ttl(60_000)).max_hold(SECOND);
    let lease = acquire.await.unwrap();
    world.pass(SECOND).await;
    assert_eq!(loss(&lease), Some(LossReason::MaxHold));
    world.store.unreachable.store(true, SeqCst);
    drop(lease);
    world.pass(SECOND).await;
    world.store.unreachable.store(false, SeqCst);
    world.pass(2 * SECOND).await;
    assert!(locker.try_acquire(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_hold_of_no_length_is_refused_before_the_store_is_asked() {
    let world = World::new();
    let asked = world.locker().acquire(&key("a")).max_hold(Duration::ZERO).await;
    assert!(matches!(asked, Err(Error::Invalid(_))), "{asked:?}");
    assert_eq!(world.store.acquires.load(SeqCst), 0);
}

#[tokio::test]
async fn guarded_work_runs_no_further_after_a_suspend() {
    // R1
    let world = World::new();
    let locker = world.locker();
    let (go_on, wait) = tokio::sync::oneshot::channel();
    let acquire = locker.acquire(&key("a")).ttl(ttl(3_000));
    let work = tokio::spawn(async move {
        let work = |lease: bidlock::LeaseView| async move {
            wait.await.unwrap();
            panic!("{:?} is over", lease.key());
        };
        locker.with_lock(acquire, work).await
    });
    settle().await;
    // Data and the end of the lease are there at once when the machine wakes.
    go_on.send(()).unwrap();
    world.machine.clock.advance(Duration::from_hours(1));
    let ended: Result<(), Error> = work.await.unwrap();
    assert!(matches!(ended, Err(Error::Lost { .. })), "{ended:?}");
}
