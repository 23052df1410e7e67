//! Servers that answer, and will not: each kind of request meets each of them. Nobody hangs, the
//! error says why, and everything goes on once it is mended.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use bidlock::{Error, Wait};
use bidlock_core::{Attempt, Backend as _, BackendError, Key, Ownership, Refusal, Renewal};
use bidlock_testkit::servers::{ServerKind, ServerOptions};
use bidlock_testkit::wait_until;

use crate::scene::{
    Client, SOON, Scene, key, millis, now, on_every_kind, pause, queue, refusal, ttl, within,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    ReadOnly,
    Full,
    Busy,
    LockType,
    QueueType,
    PlacesType,
    CounterType,
}

const ALL: [Fault; 7] = [
    Fault::ReadOnly,
    Fault::Full,
    Fault::Busy,
    Fault::LockType,
    Fault::QueueType,
    Fault::PlacesType,
    Fault::CounterType,
];

/// What is asked while the fault is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A free key.
    Acquire,
    /// A key that somebody holds, in passing.
    Look,
    /// The same, and waiting for it.
    Wait,
    Renew,
    /// Nobody waits.
    Release,
    /// Somebody waits.
    HandOver,
}

const STEPS: [Step; 6] =
    [Step::Acquire, Step::Look, Step::Wait, Step::Renew, Step::Release, Step::HandOver];

impl Fault {
    fn is(self, refusal: &Refusal) -> bool {
        match self {
            Self::ReadOnly => matches!(refusal, Refusal::ReadOnly(_)),
            Self::Full => matches!(refusal, Refusal::Full(_)),
            Self::Busy => matches!(refusal, Refusal::NotReady(_)),
            _ => matches!(refusal, Refusal::WrongType(_)),
        }
    }

    /// What cannot be done; all else is done as ever.
    fn refuses(self, step: Step) -> bool {
        match self {
            Self::ReadOnly | Self::Busy | Self::LockType => true,
            Self::Full => matches!(step, Step::Acquire | Step::Wait),
            Self::QueueType | Self::PlacesType => !matches!(step, Step::Renew | Step::Release),
            Self::CounterType => matches!(step, Step::Acquire | Step::HandOver),
        }
    }

    fn strike(self, scene: &Scene, key: &Key) {
        let server = &scene.server;
        let wrong = |name: &str| {
            server.command(&["DEL", name]);
            server.command(&["HSET", name, "of another", "kind"]);
        };
        match self {
            Self::ReadOnly => drop(server.command(&["REPLICAOF", "127.0.0.1", "1"])),
            Self::Full => drop(server.command(&["CONFIG", "SET", "maxmemory", "1"])),
            Self::Busy => run_for_ever(scene),
            Self::LockType => wrong(key.as_str()),
            Self::QueueType => wrong(&queue(key)),
            Self::PlacesType => {
                server.command(&["SET", &places(key), "of another kind"]);
            }
            Self::CounterType => wrong("bid_lock:#tokens"),
        }
    }

    fn mend(self, scene: &Scene, key: &Key) {
        let server = &scene.server;
        match self {
            Self::ReadOnly => drop(server.command(&["REPLICAOF", "NO", "ONE"])),
            Self::Full => drop(server.command(&["CONFIG", "SET", "maxmemory", "0"])),
            Self::Busy => {
                server.command(&["SCRIPT", "KILL"]);
                wait_until("the script ends", SOON, || redis_answer(scene) == "+PONG\r\n");
            }
            Self::LockType => drop(server.command(&["DEL", key.as_str()])),
            Self::QueueType => drop(server.command(&["DEL", &queue(key)])),
            Self::PlacesType => drop(server.command(&["DEL", &places(key)])),
            Self::CounterType => drop(server.command(&["DEL", "bid_lock:#tokens"])),
        }
    }
}

fn places(key: &Key) -> String {
    format!("{{{}}}:places", key.as_str())
}

/// Starts a script that does not end by itself, and returns once it bothers others.
fn run_for_ever(scene: &Scene) {
    let mut stream = TcpStream::connect(scene.server.address()).expect("it listens");
    stream.write_all(b"EVAL \"while true do end\" 0\r\n").expect("it listens");
    wait_until("it is busy", SOON, || redis_answer(scene).starts_with("-BUSY"));
}

/// What the server answers to PING, errors included.
fn redis_answer(scene: &Scene) -> String {
    use std::io::Read as _;
    let mut stream = TcpStream::connect(scene.server.address()).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a socket");
    stream.write_all(b"PING\r\n").expect("it listens");
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn options() -> ServerOptions {
    ServerOptions::new().args(["--lua-time-limit", "5"])
}

/// Takes a step on its own key while the fault is there. Returns the refusal, or nothing where it
/// was done as ever.
async fn step(scene: &Scene, client: &Client, fault: Fault, step: Step) -> Option<BackendError> {
    let key = key(&format!("{step:?}"));
    let (held, lease) = (step != Step::Acquire, client.lease());
    let holder = if held { client.take(&key, 30_000).await } else { client.lease() };
    if step == Step::HandOver {
        let waits = client.acquire(&key, &lease, [5_000, 60_000, 1_000]).await;
        assert!(matches!(waits, Ok(Attempt::Held { .. })), "{waits:?}");
    }
    fault.strike(scene, &key);
    let begun = now();
    let refused = match step {
        Step::Acquire | Step::Look | Step::Wait => {
            let wait = if step == Step::Wait { 60_000 } else { 0 };
            let got = client.acquire(&key, &lease, [1_000, wait, 1_000]).await;
            if let Ok(got) = &got {
                assert_eq!(matches!(got, Attempt::Held { .. }), held, "{got:?}");
            }
            got.err()
        }
        Step::Renew => {
            let kept = client.renew(&key, &holder, [60_000, 1_000]).await;
            assert!(matches!(kept, Err(_) | Ok(Renewal::Renewed)), "{kept:?}");
            kept.err()
        }
        Step::Release | Step::HandOver => {
            let gave = client.store.release(&key, &holder).await;
            assert!(matches!(gave, Err(_) | Ok(Ownership::Ours)), "{gave:?}");
            gave.err()
        }
    };
    assert!(now() - begun < millis(1_000), "{step:?} with {fault:?} takes {:?}", now() - begun);
    fault.mend(scene, &key);
    after_the_mending(scene, client, &key, &[holder, lease]).await;
    refused
}

/// Whatever a step has left behind is given up or ends by itself, and the key can be had again.
async fn after_the_mending(
    scene: &Scene,
    client: &Client,
    key: &Key,
    leases: &[bidlock_core::LeaseId],
) {
    for name in [key.as_str(), &queue(key), &places(key)] {
        let left = scene.number(&["PTTL", name]);
        assert_ne!(left, -1, "{name} would never end");
    }
    for lease in leases {
        client.store.release(key, lease).await.expect("it is mended");
    }
    let last = client.take(key, 1_000).await;
    assert_eq!(client.store.release(key, &last).await.expect("it is mended"), Ownership::Ours);
}

async fn is_told(kind: ServerKind, fault: Fault) {
    let scene = Scene::with(kind, options());
    let client = scene.client().await;
    for kind_of_step in STEPS {
        let refused = within("a step", SOON, step(&scene, &client, fault, kind_of_step)).await;
        let about = format!("{fault:?} at {kind_of_step:?}: {refused:?}");
        assert_eq!(refused.is_some(), fault.refuses(kind_of_step), "{about}");
        if let Some(refused) = refused {
            assert!(refusal(&refused).is_some_and(|reason| fault.is(reason)), "{about}");
            let mends_itself = matches!(fault, Fault::ReadOnly | Fault::Full | Fault::Busy);
            assert_eq!(refused.is_retryable(), mends_itself, "{about}");
        }
    }
    scene.await_nothing_left();
}

#[test]
fn each_refusal_is_told_by_its_type_at_every_step() {
    on_every_kind(async |kind| {
        for fault in ALL {
            is_told(kind, fault).await;
        }
    });
}

/// A caller that has the time is not told of what passes; one that has not learns the cause.
#[test]
fn a_waiting_call_outlasts_what_is_mended_and_names_what_is_not() {
    on_every_kind(async |kind| {
        for fault in [Fault::ReadOnly, Fault::Full, Fault::Busy] {
            let scene = Scene::with(kind, options());
            let locker = scene.locker().await;
            let key = key("job");
            fault.strike(&scene, &key);
            let begun = now();
            let call = locker.acquire(&key).wait(Wait::For(millis(400))).ttl(ttl(2_000));
            let told = within("a short wait", SOON, call.into_future()).await;
            let took = now() - begun;
            assert!(took >= millis(400) && took < millis(700), "{fault:?}: {took:?}");
            let Err(Error::Store(told)) = told else { panic!("{fault:?}: {told:?}") };
            assert!(refusal(&told).is_some_and(|reason| fault.is(reason)), "{told:?}");

            let call = locker.acquire(&key).wait(Wait::For(SOON)).ttl(ttl(2_000));
            let call = tokio::spawn(call.into_future());
            pause(millis(150)).await;
            assert!(!call.is_finished());
            fault.mend(&scene, &key);
            let lease = within("a long wait", millis(1_500), call).await.expect("no panic");
            lease.expect("it is mended").release().await.expect("it is mended");
            locker.close().await;
            scene.await_nothing_left();
        }
    });
}

/// The key goes on, and stays with whom it went to, though nothing new is granted.
#[test]
fn without_memory_a_key_is_still_handed_over_and_kept() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (first, second) = (scene.locker().await, scene.locker().await);
        let (short, key) = (ttl(1_000), key("job"));
        let lease = first.acquire(&key).ttl(short).await.expect("it is free");
        let before = lease.token();
        let waiter = second.acquire(&key).ttl(short).wait(Wait::For(SOON)).into_future();
        let waiter = tokio::spawn(waiter);
        scene.await_queue(&key, 1);
        Fault::Full.strike(&scene, &key);
        lease.release().await.expect("a release needs no memory");
        let next = within("hand-over", millis(500), waiter).await.expect("no panic");
        let next = next.expect("its turn");
        assert!(next.token() > before);
        // Longer than the window, and longer than the TTL.
        let lost = tokio::time::timeout(Duration::from_millis(2_500), next.lost()).await;
        assert!(lost.is_err(), "lost: {lost:?}");
        next.check().expect("it is kept");
        next.release().await.expect("a release needs no memory");
        assert!(!scene.exists(&key));
    });
}
