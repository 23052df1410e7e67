//! Acquires that are dropped wherever they wait: they leave no orphan (R9).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bidlock::{Error, Lease, Locker, Wait};
use bidlock_core::Key;
use bidlock_testkit::servers::ServerKind;
use bidlock_testkit::wait_until;

use crate::scene::{SOON, Scene, key, millis, on_every_kind, pause, queue, run, ttl, within};

/// Polls a future so many times at most, then drops it at once.
struct Dropped<F> {
    future: Option<Pin<Box<F>>>,
    polls: usize,
}

impl<F: Future> Future for Dropped<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            self.future = None;
        }
        let Some(future) = &mut self.future else { return Poll::Ready(None) };
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        self.polls -= 1;
        if self.polls == 0 {
            self.future = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

fn acquire(
    locker: &Locker,
    key: &Key,
    waits: bool,
    polls: usize,
) -> Dropped<impl Future<Output = Result<Lease, Error>> + use<>> {
    let wait = if waits { Wait::For(SOON) } else { Wait::No };
    let request = locker.acquire(key).ttl(ttl(60_000)).wait(wait);
    Dropped { future: Some(Box::pin(request.into_future())), polls }
}

impl Scene {
    /// A round trip after the drop, nothing of it is there.
    fn assert_gone(&self, key: &Key, held_by: Option<u64>, about: &str) {
        wait_until(&format!("nothing is left {about}"), millis(1_000), || {
            self.token(key) == held_by && self.number(&["EXISTS", &queue(key)]) == 0
        });
    }
}

#[test]
fn an_acquire_of_a_free_key_leaves_nothing_wherever_it_is_dropped() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let locker = scene.locker().await;
        for slow in [0, 30] {
            scene.proxy.delay(millis(slow), millis(slow));
            for waits in [false, true] {
                let mut polls = 0;
                loop {
                    let key = key(&format!("job_{slow}_{waits}_{polls}"));
                    let done = acquire(&locker, &key, waits, polls).await;
                    let granted = done.is_some();
                    drop(done.map(|lease| lease.expect("it is free")));
                    scene.assert_gone(&key, None, &format!("after {polls} polls, {waits}"));
                    if granted {
                        break;
                    }
                    polls += 1;
                }
                assert!(slow == 0 || polls > 1, "it was dropped on the way");
            }
        }
    });
}

#[test]
fn a_wait_leaves_no_place_wherever_it_is_dropped_and_passes_a_crossing_grant_on() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (holder, locker, last) =
            (scene.direct().await, scene.locker().await, scene.direct().await);
        scene.proxy.delay(millis(5), millis(5));
        for polls in 0..6 {
            // The place alone.
            let key = key(&format!("job_{polls}"));
            let lease = holder.acquire(&key).ttl(ttl(60_000)).await.expect("it is free");
            let request = acquire(&locker, &key, true, polls);
            let dropped = tokio::time::timeout(millis(60), request).await;
            assert!(!matches!(dropped, Ok(Some(Ok(_)))), "two hold it");
            scene.assert_gone(&key, Some(lease.token().get()), &format!("after {polls} polls"));

            // A grant that crosses the drop, for each moment of the crossing.
            let waiter = tokio::spawn(acquire(&locker, &key, true, usize::MAX));
            scene.await_queue(&key, 1);
            let next = last.acquire(&key).ttl(ttl(60_000)).wait(Wait::For(SOON)).into_future();
            let next = tokio::spawn(next);
            scene.await_queue(&key, 2);
            let release = tokio::spawn(lease.release());
            pause(millis(3 * u64::try_from(polls).expect("a small number"))).await;
            waiter.abort();
            release.await.expect("no panic").expect("it is held");
            drop(waiter.await);
            // Whatever it had goes on at once, and does not wait for the end of the window.
            let next = within("the next", millis(800), next).await.expect("no panic");
            let next = next.expect("its turn");
            next.renew().await.expect("it is held");
            next.release().await.expect("it is held");
            scene.assert_gone(&key, None, "at the end");
        }
    });
}

/// Who is inside of each key.
#[derive(Debug, Default)]
struct Rooms {
    inside: [AtomicBool; KEYS],
    visits: AtomicU64,
}

const KEYS: usize = 4;

impl Rooms {
    async fn visit(&self, n: usize, lease: &Lease) {
        if lease.check().is_err() {
            return;
        }
        assert!(!self.inside[n].swap(true, Ordering::SeqCst), "two are inside");
        self.visits.fetch_add(1, Ordering::SeqCst);
        pause(millis(1)).await;
        self.inside[n].store(false, Ordering::SeqCst);
    }
}

#[test]
fn thousands_of_drops_under_load_leave_nothing_but_the_counter() {
    let soak = std::env::var_os("BIDLOCK_SOAK").is_some();
    let drops: usize = if soak { 10_000 } else { 600 };
    let scene = Scene::new(ServerKind::Redis70);
    run(async {
        let (busy, dropping) = (scene.direct().await, scene.locker().await);
        scene.proxy.jitter(millis(3));
        let (rooms, over) = (Arc::new(Rooms::default()), Arc::new(AtomicBool::new(false)));
        let keys: [Key; KEYS] = std::array::from_fn(|n| key(&format!("job_{n}")));
        let mut workers = tokio::task::JoinSet::new();
        for n in 0..KEYS * 2 {
            let (busy, key) = (busy.clone(), keys[n % KEYS].clone());
            let (rooms, over) = (Arc::clone(&rooms), Arc::clone(&over));
            workers.spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let request = busy.acquire(&key).ttl(ttl(60_000)).wait(Wait::For(SOON));
                    let lease = request.await.expect("nobody keeps it for long");
                    rooms.visit(n % KEYS, &lease).await;
                    lease.release().await.expect("it is held");
                }
            });
        }
        let mut droppers = tokio::task::JoinSet::new();
        for lane in 0..8 {
            let (dropping, keys, rooms) = (dropping.clone(), keys.clone(), Arc::clone(&rooms));
            droppers.spawn(async move {
                let mut granted = 0;
                for round in 0..drops / 8 {
                    let (n, polls) = ((round + lane) % KEYS, round / KEYS % 9);
                    let done = acquire(&dropping, &keys[n], round % 3 > 0, polls).await;
                    if let Some(Ok(lease)) = done {
                        granted += 1;
                        rooms.visit(n, &lease).await;
                    }
                }
                granted
            });
        }
        let granted: usize = within("the drops", SOON * 6, droppers.join_all()).await.iter().sum();
        over.store(true, Ordering::SeqCst);
        within("the workers", SOON, workers.join_all()).await;
        within("the releases", SOON, async { tokio::join!(busy.close(), dropping.close()) }).await;
        let left = scene.server.text(&["KEYS", "*"]);
        assert_eq!(left, "bid_lock:#tokens", "after {granted} grants");
        assert!(rooms.visits.load(Ordering::SeqCst) > 100, "there was some load");
    });
}
