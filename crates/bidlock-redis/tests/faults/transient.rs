//! Faults that pass, right before each kind of request: everybody gets through, in time.

use std::sync::Arc;
use std::time::Duration;

use bidlock::{Error, Lease, Locker, LossReason, Wait};
use bidlock_core::Key;
use bidlock_testkit::servers::{Server, ServerKind, ServerOptions};
use bidlock_testkit::wait_until;

use crate::scene::{Fired, SOON, Scene, Tokens, key, millis, on_every_kind, passes, ttl, within};

const TTL: u64 = 2_000;
/// A holder whose release was lost is waited for no longer than this.
const BOUND: Duration = Duration::from_millis(TTL + 1_500);

#[derive(Debug, Clone, Copy)]
enum Fault {
    ScriptFlush,
    KillNormal,
    KillPubsub,
    KillAll,
    Pause,
    Sleep,
    Freeze,
    Restart,
    RestartEmpty,
    FlushAll,
    Demotion,
}

impl Fault {
    fn options(self) -> ServerOptions {
        let options = ServerOptions::new().password("s3cret");
        options.append_only(matches!(self, Self::Restart))
    }

    const fn loses_data(self) -> bool {
        matches!(self, Self::RestartEmpty | Self::FlushAll)
    }

    /// Nobody's answer is lost or late: no caller sees anything of it.
    const fn is_unseen(self) -> bool {
        matches!(self, Self::ScriptFlush | Self::KillNormal | Self::Pause | Self::Sleep)
    }

    fn strike(self, server: &Arc<Server>) {
        let kill = |kind| drop(server.command(&["CLIENT", "KILL", "TYPE", kind]));
        match self {
            Self::ScriptFlush => drop(server.command(&["SCRIPT", "FLUSH"])),
            Self::KillNormal => kill("normal"),
            Self::KillPubsub => kill("pubsub"),
            Self::KillAll => {
                kill("pubsub");
                kill("normal");
            }
            Self::Pause => drop(server.command(&["CLIENT", "PAUSE", "300"])),
            Self::Sleep => later(server, |server| drop(server.command(&["DEBUG", "SLEEP", "0.3"]))),
            Self::Freeze => {
                server.stop();
                later(server, |server| {
                    after(millis(900));
                    server.go_on();
                });
            }
            Self::Restart | Self::RestartEmpty => server.restart(),
            Self::FlushAll => drop(server.command(&["FLUSHALL"])),
            Self::Demotion => {
                server.command(&["REPLICAOF", "127.0.0.1", "1"]);
                later(server, |server| {
                    after(millis(300));
                    server.command(&["REPLICAOF", "NO", "ONE"]);
                });
            }
        }
    }
}

fn later(server: &Arc<Server>, act: impl FnOnce(&Server) + Send + 'static) {
    let server = Arc::clone(server);
    std::thread::spawn(move || act(&server));
}

#[expect(clippy::disallowed_methods, reason = "real servers run in real time")]
fn after(length: Duration) {
    std::thread::sleep(length);
}

/// One server, two processes on it, and the fault that they meet.
struct Storm {
    scene: Scene,
    fault: Fault,
    first: Locker,
    second: Locker,
    tokens: Tokens,
}

impl Storm {
    async fn new(kind: ServerKind, fault: Fault) -> Self {
        let scene = Scene::with(kind, fault.options());
        let (first, second) = (scene.locker().await, scene.locker().await);
        Self { scene, fault, first, second, tokens: Tokens::default() }
    }

    fn arm(&self, key: &Key) -> Fired {
        let (server, fault) = (Arc::clone(&self.scene.server), self.fault);
        self.scene.before_next(key, move |_| fault.strike(&server))
    }

    async fn hold(&mut self, key: &Key) -> Lease {
        let request = self.first.acquire(key).ttl(ttl(TTL)).wait(Wait::For(SOON));
        let lease = within("acquire", SOON, request.into_future()).await.expect("it is free");
        self.tokens.rise(&lease);
        lease
    }

    fn waits(&self, key: &Key) -> tokio::task::JoinHandle<Result<Lease, Error>> {
        let request = self.second.acquire(key).ttl(ttl(TTL)).wait(Wait::For(SOON));
        tokio::spawn(request.into_future())
    }

    /// Ends a lease whose release may meet the fault.
    async fn give_up(&self, lease: Lease) {
        match within("release", BOUND, lease.release()).await {
            Ok(()) => {}
            Err(Error::Lost { .. }) if self.fault.loses_data() => {}
            Err(failed) if !self.fault.is_unseen() && passes(&failed) => {}
            Err(failed) => panic!("{failed:?}"),
        }
    }

    async fn acquire(&mut self) {
        let key = key("acquire");
        let fired = self.arm(&key);
        let lease = self.hold(&key).await;
        fired.wait();
        lease.check().expect("it is held");
        assert_eq!(self.scene.token(&key), Some(lease.token().get()));
        lease.release().await.expect("no fault any more");
        assert!(!self.scene.exists(&key));
    }

    /// The fault meets somebody who begins to wait.
    async fn wait(&mut self) {
        let key = key("wait");
        let lease = self.hold(&key).await;
        let fired = self.arm(&key);
        let waiter = self.waits(&key);
        fired.wait();
        if self.fault.loses_data() {
            // The old holder is told at its next renewal at the latest.
            let reason = within("loss", millis(TTL), lease.lost()).await;
            assert!(matches!(reason, LossReason::DataLost | LossReason::Taken), "{reason:?}");
        } else {
            wait_until("it waits", SOON, || self.scene.queue(&key) == 1 || waiter.is_finished());
            assert!(!waiter.is_finished(), "two hold it: {:?}", lease.check());
            lease.check().expect("nothing was lost");
        }
        drop(lease);
        self.served(waiter, &key).await;
    }

    /// The fault meets a release that hands over.
    async fn hand_over(&mut self) {
        let key = key("hand_over");
        let lease = self.hold(&key).await;
        let waiter = self.waits(&key);
        self.scene.await_queue(&key, 1);
        let fired = self.arm(&key);
        self.give_up(lease).await;
        fired.wait();
        self.served(waiter, &key).await;
    }

    async fn served(&mut self, waiter: tokio::task::JoinHandle<Result<Lease, Error>>, key: &Key) {
        let lease = within("a waiter", BOUND, waiter).await.expect("no panic");
        let lease = lease.expect("the waiter's turn");
        self.tokens.rise(&lease);
        within("confirm", BOUND, confirmed(&lease)).await;
        assert_eq!(self.scene.token(key), Some(lease.token().get()), "it is its own");
        lease.release().await.expect("no fault any more");
    }

    async fn renew(&mut self) {
        let key = key("renew");
        let lease = self.hold(&key).await;
        let fired = self.arm(&key);
        let renewed = within("renew", BOUND, lease.renew()).await;
        fired.wait();
        match renewed {
            Ok(_) => {}
            Err(Error::Lost { reason: LossReason::DataLost, .. }) if self.fault.loses_data() => {}
            Err(failed) if !self.fault.is_unseen() && passes(&failed) => {}
            Err(failed) => panic!("{failed:?}"),
        }
        if self.fault.loses_data() {
            assert_eq!(within("loss", millis(TTL), lease.lost()).await, LossReason::DataLost);
        } else {
            within("renew", BOUND, confirmed(&lease)).await;
        }
        drop(lease);
        self.first.close().await;
    }

    async fn release(&mut self) {
        let key = key("release");
        let lease = self.hold(&key).await;
        let fired = self.arm(&key);
        self.give_up(lease).await;
        fired.wait();
        within("background", BOUND, self.first.close()).await;
        assert!(!self.scene.exists(&key), "released in the background, if not at once");
    }
}

/// Renews until the store says yes.
async fn confirmed(lease: &Lease) {
    loop {
        match lease.renew().await {
            Ok(_) => return,
            Err(failed) if passes(&failed) => crate::scene::pause(millis(20)).await,
            Err(failed) => panic!("{failed:?}"),
        }
    }
}

fn everybody_gets_through(fault: Fault) {
    on_every_kind(async |kind| {
        let mut storm = Storm::new(kind, fault).await;
        storm.acquire().await;
        storm.wait().await;
        storm.hand_over().await;
        storm.renew().await;
        storm.release().await;
        let (first, second) = (&storm.first, &storm.second);
        within("the end", BOUND, async { tokio::join!(first.close(), second.close()) }).await;
        storm.scene.await_nothing_left();
    });
}

/// Between two steps, and not while an answer is on its way, no caller sees any of these (R2).
#[test]
fn between_two_steps_faults_are_unseen() {
    on_every_kind(async |kind| {
        for fault in [Fault::ScriptFlush, Fault::KillAll, Fault::Restart] {
            let mut storm = Storm::new(kind, fault).await;
            let server = Arc::clone(&storm.scene.server);
            let strike = |storm: &Storm| {
                fault.strike(&server);
                if matches!(fault, Fault::KillAll) {
                    // What was killed is noticed when its end arrives.
                    storm.scene.await_listeners(2);
                }
            };
            let key = key("job");
            strike(&storm);
            let lease = storm.hold(&key).await;
            strike(&storm);
            lease.renew().await.expect("unseen");
            let waiter = storm.waits(&key);
            storm.scene.await_queue(&key, 1);
            strike(&storm);
            lease.release().await.expect("unseen");
            let next = within("hand-over", BOUND, waiter).await.expect("no panic");
            let next = next.expect("its turn");
            storm.tokens.rise(&next);
            strike(&storm);
            next.confirm().await.expect("unseen");
            next.renew().await.expect("unseen");
            strike(&storm);
            next.release().await.expect("unseen");
            assert!(!storm.scene.exists(&key));
        }
    });
}

#[test]
fn forgotten_scripts_are_unseen() {
    everybody_gets_through(Fault::ScriptFlush);
}

#[test]
fn killed_clients_come_back() {
    everybody_gets_through(Fault::KillNormal);
    everybody_gets_through(Fault::KillPubsub);
    everybody_gets_through(Fault::KillAll);
}

#[test]
fn a_pause_is_waited_out() {
    everybody_gets_through(Fault::Pause);
}

#[test]
fn a_server_that_sleeps_is_waited_for() {
    everybody_gets_through(Fault::Sleep);
}

#[test]
fn a_server_that_stands_still_for_longer_than_a_request_is_asked_again() {
    everybody_gets_through(Fault::Freeze);
}

#[test]
fn a_restart_with_data_costs_nobody_a_lease() {
    everybody_gets_through(Fault::Restart);
}

#[test]
fn a_restart_without_data_is_told_and_tokens_rise() {
    everybody_gets_through(Fault::RestartEmpty);
}

#[test]
fn a_flush_is_told_and_tokens_rise() {
    everybody_gets_through(Fault::FlushAll);
}

#[test]
fn a_demotion_that_is_taken_back_costs_nobody_a_lease() {
    everybody_gets_through(Fault::Demotion);
}
