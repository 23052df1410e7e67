use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use bidlock_core::{FencingToken, ProcessMark};
use bidlock_ledger::{
    AttemptId, Event, Fingerprint, LedgerError, Obstacle, Outcome, Recorded, ResendRequest,
    Resolution, Start, StartRequest, State,
};

use super::scene::{
    LAG, SEND_WITHIN, Scene, given_up, key, not_allowed, not_sent, note, nothing_sent, obstacle,
    placed, refused, sure, unknown,
};

/// For how long the marketplace of these rules knows an attempt id.
const RETENTION: Duration = Duration::from_hours(1);

fn again(scene: &Scene, token: u64) -> ResendRequest {
    ResendRequest {
        token: FencingToken::new(token),
        send_by: scene.now() + SEND_WITHIN,
        payload: Fingerprint::of(b"offer"),
        retention: RETENTION,
        holder: format!("host:{token}:b1b2c3d4"),
        process: ProcessMark::new("elsewhere, again"),
    }
}

async fn resent(scene: &Scene, id: &AttemptId, request: &ResendRequest) -> Start {
    sure(scene.ledger.resend(id, request).await)
}

/// That nothing is sent, and nothing changed.
async fn is_not_resent(scene: &Scene, id: &AttemptId, request: &ResendRequest) {
    let before = scene.info(id).await;
    let answer = resent(scene, id, request).await;
    let Start::No(info) = answer else { panic!("not to be sent again: {answer:?}") };
    assert_eq!(info, before);
    assert_eq!(scene.info(id).await, before, "nothing was changed");
}

pub(super) async fn a_doubt_is_sent_again_once_for_a_token(scene: &Scene) {
    let a = key("a");
    let id = scene.started(&a, 5).await;
    let before = scene.info(&id).await;
    scene.advance(SEND_WITHIN);
    is_not_resent(scene, &id, &again(scene, 5)).await;
    let request = again(scene, 6);
    let answer = resent(scene, &id, &request).await;
    let Start::Yes(info) = answer else { panic!("it may be sent again: {answer:?}") };
    assert_eq!(info, scene.info(&id).await);
    assert_eq!((info.state, info.event), (State::Unknown, Event::Resent));
    assert_eq!((info.token, info.send_by), (request.token, Some(request.send_by)));
    assert_eq!((&info.holder, &info.process), (&request.holder, &request.process));
    let fixed = |it: &bidlock_ledger::AttemptInfo| (it.id, it.started_at, it.payload, it.seen_at);
    assert_eq!(fixed(&info), fixed(&before), "what was fixed at the start stays");
    // The answer was lost: the caller finds its token, and no second yes.
    is_not_resent(scene, &id, &request).await;
    is_not_resent(scene, &id, &again(scene, 7)).await;
    scene.advance(SEND_WITHIN);
    is_not_resent(scene, &id, &again(scene, 6)).await;
    assert!(matches!(resent(scene, &id, &again(scene, 7)).await, Start::Yes(_)));
    let expected = [Event::Reserved, Event::Started, Event::Resent, Event::Resent];
    assert_eq!(scene.events(&a).await, expected);
    let recorded = sure(scene.ledger.record(&id, &placed()).await);
    assert!(matches!(&recorded, Recorded::Written(info) if info.state == State::Placed));
}

pub(super) async fn sending_again_needs_a_token_that_nobody_has_seen(scene: &Scene) {
    let a = key("a");
    let id = scene.started(&a, 5).await;
    // It met a start, and was turned away.
    scene.cannot_reserve(&a, 8).await;
    scene.advance(SEND_WITHIN);
    for token in [4, 5, 7, 8] {
        is_not_resent(scene, &id, &again(scene, token)).await;
    }
    assert!(matches!(resent(scene, &id, &again(scene, 9)).await, Start::Yes(_)));
}

pub(super) async fn sending_again_waits_for_the_send_by(scene: &Scene) {
    let sender = scene.machine().another_process();
    let (started, told) = (key("started"), key("told"));
    let gone = scene.started_by(&sender, &started).await;
    let told = scene.recorded(&told, 5, &unknown()).await;
    // It reads as unknown at once, and its command may live on (L5).
    sender.processes.end();
    scene.advance(SEND_WITHIN.saturating_sub(Duration::from_millis(1)));
    for id in [&gone, &told] {
        is_not_resent(scene, id, &again(scene, 6)).await;
    }
    scene.advance(Duration::from_millis(1));
    for id in [&gone, &told] {
        assert!(matches!(resent(scene, id, &again(scene, 6)).await, Start::Yes(_)));
    }
}

pub(super) async fn only_the_same_payload_is_sent_again(scene: &Scene) {
    let known = scene.started(&key("known"), 5).await;
    let unnamed = scene.reserve(&key("unnamed"), 5).await;
    let request = StartRequest { payload: None, ..scene.start_request(5) };
    sure(scene.ledger.start(&unnamed, &request).await);
    scene.advance(SEND_WITHIN);
    let other = ResendRequest { payload: Fingerprint::of(b"another offer"), ..again(scene, 6) };
    is_not_resent(scene, &known, &other).await;
    is_not_resent(scene, &unnamed, &again(scene, 6)).await;
    assert!(matches!(resent(scene, &known, &again(scene, 6)).await, Start::Yes(_)));
}

pub(super) async fn sending_again_ends_with_the_retention(scene: &Scene) {
    let (early, late) = (key("early"), key("late"));
    let (early, late) = (scene.started(&early, 5).await, scene.started(&late, 5).await);
    scene.advance(RETENTION.saturating_sub(SEND_WITHIN));
    // The marketplace still knows the id at the very send-by.
    assert!(matches!(resent(scene, &early, &again(scene, 6)).await, Start::Yes(_)));
    scene.advance(Duration::from_millis(1));
    is_not_resent(scene, &late, &again(scene, 6)).await;
    // It counts from the first start, also when it was sent again since.
    scene.advance(SEND_WITHIN);
    is_not_resent(scene, &early, &again(scene, 7)).await;
    let ages = ResendRequest { retention: Duration::from_hours(24 * 366), ..again(scene, 7) };
    let refused = scene.ledger.resend(&early, &ages).await;
    assert!(matches!(refused, Err(LedgerError::Invalid(_))), "{refused:?}");
}

pub(super) async fn only_a_doubt_is_sent_again(scene: &Scene) {
    let reserved = scene.reserve(&key("reserved"), 5).await;
    let withdrawn = scene.recorded(&key("withdrawn"), 5, &placed()).await;
    sure(scene.ledger.withdraw(&key("withdrawn"), &note()).await);
    let mut closed = vec![reserved, withdrawn];
    for (posting, outcome) in [("a", placed()), ("b", refused()), ("c", not_sent())] {
        closed.push(scene.recorded(&key(posting), 5, &outcome).await);
    }
    scene.advance(SEND_WITHIN);
    for id in &closed {
        is_not_resent(scene, id, &again(scene, 6)).await;
    }
    let nobody = AttemptId::random(scene.machine().rng.as_ref());
    let answer = scene.ledger.resend(&nobody, &again(scene, 6)).await;
    assert!(matches!(answer, Err(LedgerError::NotFound { .. })), "{answer:?}");
}

/// How many callers race in one rule.
const RACERS: u64 = 8;

pub(super) async fn of_racing_callers_one_sends_again(scene: &Scene) {
    for round in 0..5 {
        let id = scene.started(&key(&format!("round-{round}")), 5).await;
        scene.advance(SEND_WITHIN);
        let gate = Barrier::new(usize::try_from(RACERS).unwrap_or(1));
        let race = |token: u64| {
            let (ledger, request) = (scene.ledger.clone(), again(scene, token));
            let (id, gate) = (&id, &gate);
            move || {
                gate.wait();
                let answer = crate::block_on(ledger.resend(id, &request));
                u32::from(matches!(sure(answer), Start::Yes(_)))
            }
        };
        let said: u32 = thread::scope(|threads| {
            let racers: Vec<_> = (0..RACERS).map(|n| threads.spawn(race(6 + n / 2))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap_or(1_000)).sum()
        });
        assert_eq!(said, 1, "one of them sends");
    }
}

pub(super) async fn what_was_sent_again_waits_for_its_new_sender(scene: &Scene) {
    let (a, sender) = (key("a"), scene.machine().another_process());
    let id = scene.recorded(&a, 5, &unknown()).await;
    scene.advance(SEND_WITHIN + LAG);
    let process = sender.platform().processes.current();
    let request = ResendRequest { process, ..again(scene, 6) };
    assert!(matches!(resent(scene, &id, &request).await, Start::Yes(_)));
    // That the first sender has stopped says nothing of the second one (L6).
    for finding in [nothing_sent(true), Resolution::Refused] {
        let why = obstacle(scene.resolve(&a, finding).await);
        assert_eq!(why, Obstacle::SenderAlive { sender: "host:6".to_owned() });
    }
    sender.processes.end();
    let until = not_allowed(scene.resolve(&a, nothing_sent(false)).await);
    assert_eq!(until, Some(request.send_by + LAG));
    scene.advance(SEND_WITHIN + LAG);
    // The second one was looked at, and is gone. Nothing was seen of the first.
    let why = obstacle(scene.resolve(&a, nothing_sent(false)).await);
    assert_eq!(why, Obstacle::SenderUnseen { sender: "host:6".to_owned() });
    let resolved = sure(scene.resolve(&a, nothing_sent(true)).await);
    assert_eq!((resolved.id, resolved.state), (id, State::Abandoned));
}

pub(super) async fn word_of_the_second_sender_is_none_of_the_first(scene: &Scene) {
    // P1: the first one may stand between its last look at the clock and its first byte, however
    // the second ended. Opening the posting would let a third bid beside it.
    let a = key("a");
    let id = scene.started(&a, 5).await;
    scene.advance(SEND_WITHIN);
    assert!(matches!(resent(scene, &id, &again(scene, 6)).await, Start::Yes(_)));
    sure(scene.ledger.record(&id, &not_sent()).await);
    scene.advance(SEND_WITHIN + LAG);
    let why = obstacle(scene.resolve(&a, nothing_sent(false)).await);
    assert!(matches!(why, Obstacle::SenderUnseen { .. }), "{why:?}");
    assert_eq!(scene.state(&id).await, State::Unknown);
    let resolved = sure(scene.resolve(&a, nothing_sent(true)).await);
    assert_eq!((resolved.id, resolved.state), (id, State::Abandoned));
}

pub(super) async fn not_sent_of_one_sending_ends_no_doubt(scene: &Scene) {
    let a = key("a");
    let id = scene.started(&a, 5).await;
    scene.advance(SEND_WITHIN);
    assert!(matches!(resent(scene, &id, &again(scene, 6)).await, Start::Yes(_)));
    // The first one may have gone through (P1), whatever became of the second.
    let recorded = sure(scene.ledger.record(&id, &not_sent()).await);
    let Recorded::Written(info) = recorded else { panic!("{recorded:?}") };
    assert_eq!((info.state, info.event), (State::Unknown, Event::Unknown));
    assert_eq!(info.reason.as_deref(), Some("no route"), "its word that it has stopped is kept");
    for outcome in [not_sent(), Outcome::NotSent { reason: None }, given_up()] {
        let repeated = sure(scene.ledger.record(&id, &outcome).await);
        assert!(matches!(repeated, Recorded::Already(_)), "{repeated:?}");
    }
    assert_eq!(scene.state(&id).await, State::Unknown);
    scene.cannot_reserve(&a, 7).await;
    let recorded = sure(scene.ledger.record(&id, &placed()).await);
    assert!(matches!(&recorded, Recorded::Written(info) if info.state == State::Placed));
}
