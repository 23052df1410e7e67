use std::time::Duration;

use bidlock_core::{FencingToken, Key};
use bidlock_ledger::{
    Admitted, AttemptId, AttemptInfo, BidQuery, Dossier, Freshness, HistoryEntry, KeptAttempt,
    Ledger, LedgerError, Recorded, ResendRequest, Reservation, Start, State, Verdict,
};

use super::scene::{
    SEND_WITHIN, Scene, given_up, key, not_sent, note, placed, refused, sure, unknown,
};

/// What the ledger has of a posting.
async fn dossier(ledger: &Ledger, posting: &Key) -> Dossier {
    let wanted = posting.posting_encoded();
    let all = sure(ledger.dossiers(None, 1_000).await);
    let found = all.into_iter().find(|it| {
        (it.marketplace.as_str(), it.posting_encoded.as_str()) == (posting.marketplace(), wanted)
    });
    found.unwrap_or_else(|| panic!("{posting} is in the ledger"))
}

/// Another id, always the same one for each: as if another ledger had drawn it.
fn other(id: AttemptId) -> AttemptId {
    let turned: String = id
        .to_string()
        .char_indices()
        .map(|(at, c)| match c.to_digit(16) {
            Some(digit) if at < 8 => std::char::from_digit(15 - digit, 16).unwrap_or(c),
            _ => c,
        })
        .collect();
    turned.parse().unwrap_or(id)
}

/// The same story of another posting, as another ledger would tell it.
fn retold(dossier: &Dossier, posting: &Key) -> Dossier {
    let marketplace = posting.marketplace().to_owned();
    let posting_encoded = posting.posting_encoded().to_owned();
    let attempt = |kept: &KeptAttempt| KeptAttempt {
        info: AttemptInfo {
            id: other(kept.info.id),
            marketplace: marketplace.clone(),
            posting: posting.posting(),
            posting_encoded: posting_encoded.clone(),
            ..kept.info.clone()
        },
        ..kept.clone()
    };
    let entry = |entry: &HistoryEntry| HistoryEntry {
        seq: entry.seq + 1_000,
        attempt: other(entry.attempt),
        ..entry.clone()
    };
    Dossier {
        attempts: dossier.attempts.iter().map(attempt).collect(),
        history: dossier.history.iter().map(entry).collect(),
        marketplace,
        posting_encoded,
    }
}

/// A dossier without the numbers of its history, which are each ledger's own.
fn unnumbered(mut dossier: Dossier) -> Dossier {
    assert!(dossier.history.is_sorted_by(|a, b| a.seq < b.seq), "{dossier:?}");
    dossier.history.iter_mut().for_each(|entry| entry.seq = 0);
    dossier
}

/// One posting in each state, some by way of several attempts, and late outcomes.
async fn stories(scene: &Scene) -> Vec<Key> {
    let post = |name: &str| Key::new("upwork", name).unwrap_or_else(|_| key("x"));
    scene.reserve(&post("reserved"), 5).await;
    scene.started(&post("started"), 5).await;
    scene.recorded(&post("Größe {1}: ★"), 5, &placed()).await;
    scene.recorded(&post("refused"), 5, &refused()).await;
    scene.recorded(&post("unknown"), 5, &unknown()).await;
    scene.recorded(&post("given up"), 5, &given_up()).await;
    scene.recorded(&post("withdrawn"), 5, &placed()).await;
    sure(scene.ledger.withdraw(&post("withdrawn"), &note()).await);
    scene.recorded(&post("abandoned"), 5, &not_sent()).await;
    // A higher token was seen, and nothing but the row remembers it.
    scene.started(&post("doubted"), 5).await;
    scene.cannot_reserve(&post("doubted"), 9).await;
    let several = post("späť po troch");
    scene.reserve(&several, 5).await;
    let second = scene.reserve(&several, 6).await;
    scene.start(&second, 6).await;
    sure(scene.ledger.record(&second, &refused()).await);
    sure(scene.ledger.reopen(&several, &note()).await);
    sure(scene.ledger.record(&second, &placed()).await);
    scene.advance(Duration::from_secs(1));
    scene.recorded(&several, 7, &placed()).await;
    let resent = post("resent");
    let id = scene.started(&resent, 5).await;
    scene.advance(SEND_WITHIN);
    let request = ResendRequest {
        token: FencingToken::new(6),
        send_by: scene.now() + SEND_WITHIN,
        payload: bidlock_ledger::Fingerprint::of(b"offer"),
        retention: Duration::from_hours(1),
        holder: "host:6:b1b2c3d4".to_owned(),
        process: bidlock_core::ProcessMark::new("elsewhere, again"),
    };
    assert!(matches!(sure(scene.ledger.resend(&id, &request).await), Start::Yes(_)));
    let names = [
        "reserved",
        "started",
        "Größe {1}: ★",
        "refused",
        "unknown",
        "given up",
        "withdrawn",
        "abandoned",
        "doubted",
        "späť po troch",
        "resent",
    ];
    names.map(post).into()
}

/// The posting of another marketplace that tells the same.
fn elsewhere(posting: &Key) -> Key {
    Key::new("fiverr", &posting.posting()).unwrap_or_else(|_| posting.clone())
}

pub(super) async fn all_that_is_known_of_a_posting_is_taken_along(scene: &Scene) {
    for posting in stories(scene).await {
        let told = dossier(&scene.ledger, &posting).await;
        assert_eq!(told.history, sure(scene.ledger.history(&posting).await));
        let given = retold(&told, &elsewhere(&posting));
        assert_eq!(sure(scene.ledger.admit(&given).await), Admitted::Taken, "{posting}");
        let again = scene.open_again();
        let kept = dossier(&again, &elsewhere(&posting)).await;
        assert_eq!(unnumbered(kept), unnumbered(given), "{posting}");
        assert_eq!(dossier(&scene.ledger, &posting).await, told, "its twin is as it was");
    }
    let named = Key::named("a name").unwrap_or_else(|_| key("x"));
    scene.recorded(&named, 5, &placed()).await;
    let mut given = retold(&dossier(&scene.ledger, &named).await, &key("named"));
    assert_eq!(sure(scene.ledger.admit(&given).await), Admitted::Taken);
    given.attempts.clear();
    let nothing = scene.ledger.admit(&given).await;
    assert!(matches!(nothing, Err(LedgerError::Invalid(_))), "{nothing:?}");
}

pub(super) async fn taking_in_the_same_again_changes_nothing(scene: &Scene) {
    for posting in stories(scene).await {
        let told = dossier(&scene.ledger, &posting).await;
        assert_eq!(sure(scene.ledger.admit(&told).await), Admitted::Known, "its own: {posting}");
        let given = retold(&told, &elsewhere(&posting));
        sure(scene.ledger.admit(&given).await);
        let kept = dossier(&scene.ledger, &elsewhere(&posting)).await;
        assert_eq!(sure(scene.ledger.admit(&given).await), Admitted::Known, "{posting}");
        assert_eq!(dossier(&scene.ledger, &elsewhere(&posting)).await, kept);
        assert_eq!(dossier(&scene.ledger, &posting).await, told);
    }
}

/// The moments of one posting, from its first step to its last.
async fn moments(scene: &Scene, posting: &Key) -> Vec<Dossier> {
    let mut told = Vec::new();
    let now = async || dossier(&scene.ledger, posting).await;
    scene.reserve(posting, 5).await;
    told.push(now().await);
    let second = scene.reserve(posting, 6).await;
    told.push(now().await);
    scene.start(&second, 6).await;
    told.push(now().await);
    scene.cannot_reserve(posting, 8).await;
    told.push(now().await);
    sure(scene.ledger.record(&second, &unknown()).await);
    told.push(now().await);
    scene.advance(SEND_WITHIN);
    let request = ResendRequest {
        token: FencingToken::new(9),
        send_by: scene.now() + SEND_WITHIN,
        payload: bidlock_ledger::Fingerprint::of(b"offer"),
        retention: Duration::from_hours(1),
        holder: "host:9:b1b2c3d4".to_owned(),
        process: bidlock_core::ProcessMark::new("elsewhere, again"),
    };
    assert!(matches!(sure(scene.ledger.resend(&second, &request).await), Start::Yes(_)));
    told.push(now().await);
    sure(scene.ledger.record(&second, &refused()).await);
    told.push(now().await);
    let late = sure(scene.ledger.record(&second, &placed()).await);
    assert!(matches!(late, Recorded::Late(_)), "{late:?}");
    told.push(now().await);
    sure(scene.ledger.reopen(posting, &note()).await);
    told.push(now().await);
    scene.recorded(posting, 9, &placed()).await;
    told.push(now().await);
    told
}

pub(super) async fn what_is_here_may_be_the_beginning(scene: &Scene) {
    let told = moments(scene, &key("a")).await;
    for from in 0..told.len() {
        for to in from + 1..told.len() {
            let b = key(&format!("b {from} {to}"));
            let retell = |it: &Dossier| {
                let mut it = retold(it, &b);
                // An id serves once in a ledger.
                let own = |id: AttemptId| {
                    let text = id.to_string();
                    format!("{from:02x}{to:02x}{}", &text[4..]).parse().unwrap_or(id)
                };
                it.attempts.iter_mut().for_each(|kept| kept.info.id = own(kept.info.id));
                it.history.iter_mut().for_each(|entry| entry.attempt = own(entry.attempt));
                it
            };
            let (earlier, later) = (retell(&told[from]), retell(&told[to]));
            assert_eq!(sure(scene.ledger.admit(&earlier).await), Admitted::Taken);
            assert_eq!(sure(scene.ledger.admit(&later).await), Admitted::Taken, "{from} to {to}");
            let kept = dossier(&scene.ledger, &b).await;
            assert_eq!(unnumbered(kept.clone()), unnumbered(later), "{from} to {to}");
            // It has gone on since, so the earlier moment is something else.
            differs(scene, &earlier, &kept).await;
        }
    }
}

/// One thing that another ledger says otherwise.
type Change = fn(&mut Dossier);

/// That a dossier is refused, and changes nothing.
async fn differs(scene: &Scene, given: &Dossier, kept: &Dossier) {
    let answer = scene.ledger.admit(given).await;
    let refused = matches!(answer, Err(LedgerError::Differs { .. } | LedgerError::Invalid(_)));
    assert!(refused, "{answer:?}: {given:?}");
    let all = sure(scene.ledger.dossiers(None, 1_000).await);
    assert!(all.contains(kept), "nothing was changed");
}

pub(super) async fn a_contradiction_is_refused_and_changes_nothing(scene: &Scene) {
    let a = key("a");
    let told = moments(scene, &a).await;
    let (Some(told), b) = (told.last(), key("b")) else { panic!("there are moments") };
    let given = retold(told, &b);
    // A state that no step has led to would open the posting to another bid.
    let mut open = given.clone();
    open.attempts[2].info.state = State::Abandoned;
    let answer = scene.ledger.admit(&open).await;
    assert!(matches!(answer, Err(LedgerError::Invalid(_))), "{answer:?}");
    assert_eq!(sure(scene.ledger.history(&b).await), []);
    assert_eq!(sure(scene.ledger.admit(&given).await), Admitted::Taken);
    let kept = dossier(&scene.ledger, &b).await;
    let changes: [Change; 9] = [
        |it| it.history[1].token = None,
        |it| "somebody else".clone_into(&mut it.history[0].by),
        |it| it.history[2].at = it.history[2].at + Duration::from_micros(1),
        |it| drop(it.history.pop()),
        |it| it.history.swap(0, 1),
        |it| it.attempts[1].info.reference = Some("another".to_owned()),
        |it| it.attempts[2].info.state = State::Unknown,
        |it| it.attempts[2].token_seen = FencingToken::new(10),
        |it| it.attempts[0].info.reserved_at = it.attempts[0].info.reserved_at + SEND_WITHIN,
    ];
    for change in changes {
        let mut wrong = given.clone();
        change(&mut wrong);
        differs(scene, &wrong, &kept).await;
    }
    // Another ledger has bid on it too: the one thing that nobody can put together.
    let mut rival = given.clone();
    for kept in &mut rival.attempts {
        kept.info.id = AttemptId::random(scene.machine().rng.as_ref());
    }
    for (entry, at) in rival.history.iter_mut().zip([0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2]) {
        entry.attempt = rival.attempts[at].info.id;
    }
    differs(scene, &rival, &kept).await;
    // An id serves once.
    let mut elsewhere = retold(told, &key("c"));
    elsewhere.attempts[0].info.id = told.attempts[0].info.id;
    elsewhere.history[0].attempt = told.attempts[0].info.id;
    differs(scene, &elsewhere, told).await;
    assert_eq!(sure(scene.ledger.history(&key("c")).await), []);
}

pub(super) async fn what_was_taken_in_is_like_any_other(scene: &Scene) {
    let (started, doubted, done) = (key("started"), key("doubted"), key("done"));
    scene.started(&started, 5).await;
    scene.started(&doubted, 5).await;
    scene.cannot_reserve(&doubted, 9).await;
    scene.recorded(&done, 5, &placed()).await;
    for posting in [&started, &doubted, &done] {
        let given = retold(&dossier(&scene.ledger, posting).await, &elsewhere(posting));
        sure(scene.ledger.admit(&given).await);
    }
    let open = sure(scene.ledger.should_bid(&elsewhere(&started), &Freshness::default()).await);
    let Verdict::InProgress(info) = open else { panic!("{open:?}") };
    let answer = scene.cannot_reserve(&elsewhere(&done), 9).await;
    assert!(matches!(answer, Reservation::Not(Verdict::AlreadyPlaced(_))), "{answer:?}");
    // It goes on from where it was: no second yes (L2), the outcome by the id (L8).
    let start = scene.start(&info.id, 6).await;
    assert!(matches!(start, Start::No(_)), "{start:?}");
    let recorded = sure(scene.ledger.record(&info.id, &placed()).await);
    assert!(matches!(recorded, Recorded::Written(_)), "{recorded:?}");
    // L3: what it has seen it has seen.
    let query = BidQuery {
        marketplace: Some("fiverr".to_owned()),
        posting: Some("doubted".to_owned()),
        ..BidQuery::default()
    };
    let listed = sure(scene.ledger.bids(&query).await);
    assert_eq!(listed.len(), 1, "{listed:?}");
    sure(scene.ledger.record(&listed[0].id, &not_sent()).await);
    let lower = scene.cannot_reserve(&elsewhere(&doubted), 8).await;
    assert_eq!(lower, Reservation::TokenTooLow { seen: FencingToken::new(9) });
    scene.reserve(&elsewhere(&doubted), 9).await;
}
