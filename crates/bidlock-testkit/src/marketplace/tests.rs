use super::*;
use crate::temp_dir;

fn open() -> (Marketplace, tempfile::TempDir) {
    let dir = temp_dir();
    (Marketplace::open(&dir.path().join("bids")).unwrap(), dir)
}

#[test]
fn bids_are_taken_counted_and_written_down() {
    let (market, dir) = open();
    let first = market.submit("job_1", "a-1").unwrap();
    assert_eq!((first.status, first.body.as_str()), (201, "bid-1"));
    market.submit("job 2", "a-2").unwrap();
    assert_eq!((market.count("job_1"), market.count("job 2"), market.count("job")), (1, 1, 0));
    assert_eq!(market.find("a-1").unwrap().body, "bid-1");
    assert_eq!(market.find("a-3").unwrap().status, 404);
    let log = SubmissionLog::new(&dir.path().join("bids"));
    assert_eq!(log.all().unwrap(), market.submissions());
}

#[test]
fn a_second_bid_is_counted_unless_keys_are_honoured() {
    let (market, _dir) = open();
    market.submit("job_1", "a-1").unwrap();
    market.submit("job_1", "a-1").unwrap();
    assert_eq!(market.count("job_1"), 2, "this is what bidlock must prevent");
    market.behave(Behaviour { honours_keys: true, ..Behaviour::default() });
    let repeat = market.submit("job_1", "a-1").unwrap();
    assert_eq!((repeat.status, market.count("job_1")), (200, 2));
    market.submit("job_1", "a-2").unwrap();
    assert_eq!(market.count("job_1"), 3, "another attempt is another bid");
}

#[test]
fn a_refused_bid_is_not_taken() {
    let (market, _dir) = open();
    market.behave(Behaviour { refuses: true, ..Behaviour::default() });
    assert_eq!(market.submit("job_1", "a-1").unwrap().status, 422);
    assert_eq!(market.submissions(), []);
}

#[test]
fn a_cut_answer_leaves_the_sender_in_doubt() {
    let (market, _dir) = open();
    for (cut, taken) in [(Cut::Before, 0), (Cut::After, 1)] {
        market.behave(Behaviour { cuts: Some(cut), ..Behaviour::default() });
        assert!(market.submit("job_1", "a-1").is_err());
        assert_eq!(market.count("job_1"), taken, "{cut:?}");
    }
    market.behave(Behaviour { hides: true, ..Behaviour::default() });
    assert_eq!(market.find("a-1").unwrap().status, 404, "not found proves nothing");
}

#[test]
fn a_slow_marketplace_takes_the_bid_when_it_gets_to_it() {
    let (market, _dir) = open();
    market.behave(Behaviour { slow: Duration::from_hours(1), ..Behaviour::default() });
    thread::scope(|scope| {
        let sender = scope.spawn(|| market.submit("job_1", "a-1").unwrap());
        assert_eq!(market.count("job_1"), 0);
        // Whether the bid has arrived by now or not, it is not slow about it any more.
        market.behave(Behaviour::default());
        assert_eq!(sender.join().unwrap().status, 201);
    });
    assert_eq!(market.count("job_1"), 1);
}

#[test]
fn a_closed_marketplace_takes_no_calls() {
    let (market, _dir) = open();
    let address = market.address;
    drop(market);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn half_a_request_is_no_bid() {
    let (market, _dir) = open();
    for half in ["POST /bids HTTP/1.1\r\nPosting: job_1\r\nIdempotency-Key: a-", "POST /bi"] {
        let mut stream = TcpStream::connect(market.address).unwrap();
        stream.write_all(half.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0, "it closes at once");
    }
    assert_eq!(market.submissions(), []);
}

#[test]
fn each_bid_is_treated_as_the_judge_says_and_every_visit_is_kept() {
    let (market, _dir) = open();
    market.judge(|bid, before| Behaviour {
        cuts: (bid.posting == "job_1" && before == 0).then_some(Cut::Before),
        shows_after: Duration::from_hours(1),
        answers_after: Duration::from_millis(30),
        ..Behaviour::default()
    });
    let begun = now();
    assert!(market.submit("job_1", "a-1").is_err());
    assert_eq!(market.submit("job_1", "a-2").unwrap().status, 201);
    assert_eq!(market.submit("job_2", "a-3").unwrap().status, 201);
    assert!(now() - begun >= Duration::from_millis(60), "answers come late");
    assert_eq!(market.find("a-2").unwrap().status, 404, "not shown yet");
    let visits = market.take_visits();
    let taken: Vec<_> = visits.iter().map(|visit| visit.taken.as_deref()).collect();
    assert_eq!(taken, [None, Some("bid-1"), Some("bid-2")]);
    assert!(visits.iter().all(|visit| visit.arrived >= begun && !visit.repeated));
    assert_eq!(market.take_visits(), []);
}
