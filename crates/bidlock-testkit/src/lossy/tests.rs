use super::*;
use crate::saboteurs::ReferenceStore;
use crate::{ManualClock, block_on, test_platform};

use bidlock_core::{Rng, Ttl};

fn request(lease: &LeaseId, within: Duration) -> AcquireRequest {
    AcquireRequest {
        key: Key::new("upwork", "job_1").unwrap(),
        lease: lease.clone(),
        ttl: Ttl::default(),
        label: None,
        wait: None,
        routine: false,
        within,
    }
}

fn store(faults: Faults) -> (Arc<dyn Backend>, Lossy, LeaseId) {
    let machine = test_platform();
    let inner = ReferenceStore::new(None).client(&machine.platform());
    let lossy = Lossy::new(Arc::clone(&inner), faults, 1);
    (inner, lossy, LeaseId::random("bot", 1, &SeededRng::new(1)))
}

#[test]
fn a_lost_request_changes_nothing() {
    let (inner, lossy, lease) = store(Faults { requests_lost: 100, ..Faults::none() });
    let request = request(&lease, Duration::from_secs(1));
    let error = block_on(lossy.acquire(&request)).unwrap_err();
    assert!(matches!(error, BackendError::Unreachable { .. }) && !error.may_have_applied());
    let seen = block_on(inner.browse().unwrap().inspect(&request.key)).unwrap();
    assert_eq!(seen, None);
    assert_eq!(lossy.harmed(), 1);
}

#[test]
fn a_lost_answer_has_changed_the_store() {
    let (inner, lossy, lease) = store(Faults { answers_lost: 100, ..Faults::none() });
    let request = request(&lease, Duration::from_secs(1));
    let error = block_on(lossy.acquire(&request)).unwrap_err();
    assert!(error.may_have_applied());
    let seen = block_on(inner.browse().unwrap().inspect(&request.key)).unwrap();
    assert_eq!(seen.map(|lock| lock.holder), Some(lease.holder(None)));
}

#[test]
fn without_faults_nothing_is_harmed() {
    let (_, lossy, lease) = store(Faults::none());
    for _ in 0..100 {
        let request = request(&lease, Duration::from_secs(1));
        assert!(block_on(lossy.acquire(&request)).is_ok());
    }
    assert_eq!(lossy.harmed(), 0);
}

#[test]
fn a_delay_counts_against_the_deadline_of_the_request() {
    let clock = ManualClock::new();
    let delay = Some((Arc::new(clock.clone()) as Arc<dyn Clock>, Duration::from_secs(5)));
    let (_, lossy, lease) = store(Faults { delay, ..Faults::none() });
    let request = request(&lease, Duration::from_secs(1));
    let call = std::thread::spawn(move || block_on(lossy.acquire(&request)));
    while clock.sleepers() == 0 {
        std::thread::yield_now();
    }
    clock.advance(Duration::from_secs(5));
    let error = call.join().unwrap().unwrap_err();
    assert!(matches!(error, BackendError::TooLate { .. }), "{error}");
}

#[test]
fn one_seed_gives_one_course_of_events() {
    let course = |seed| {
        let machine = test_platform();
        let inner = ReferenceStore::new(None).client(&machine.platform());
        let lossy = Lossy::new(inner, Faults::many(), seed);
        let lease = LeaseId::random("bot", 1, machine.rng.as_ref() as &dyn Rng);
        let tries = (0..50).map(|_| {
            let request = request(&lease, Duration::from_secs(1));
            block_on(lossy.acquire(&request)).is_ok()
        });
        tries.collect::<Vec<_>>()
    };
    assert_eq!(course(5), course(5));
    assert_ne!(course(5), course(6));
}
