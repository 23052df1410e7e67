use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Connection, RedisError, Value};

use super::super::{Server, ServerKind};
use super::*;
use crate::process::{now, pause};
use crate::wait_until;

const SOON: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_millis(100);

struct Scene {
    server: Server,
    proxy: Proxy,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start(ServerKind::Redis70);
        let proxy = Proxy::to(server.address());
        Self { server, proxy }
    }

    fn client(&self) -> Connection {
        self.client_with("").unwrap()
    }

    fn client_with(&self, options: &str) -> Result<Connection, RedisError> {
        let url = format!("redis://{}/{options}", self.proxy.address());
        let connection = redis::Client::open(url)?.get_connection()?;
        connection.set_read_timeout(Some(SOON))?;
        Ok(connection)
    }
}

fn ask(client: &mut Connection, words: &[&str]) -> Result<Value, RedisError> {
    redis::cmd(words[0]).arg(&words[1..]).query(client)
}

fn is_timeout(error: &RedisError) -> bool {
    error.is_timeout() || error.is_io_error() && !error.is_connection_dropped()
}

fn took(what: impl FnOnce()) -> Duration {
    let before: Instant = now();
    what();
    now() - before
}

#[test]
fn everything_passes_unchanged_and_is_counted() {
    let scene = Scene::new();
    let mut client = scene.client();
    let value = "x".repeat(1_000_000);
    assert_eq!(ask(&mut client, &["SET", "key", &value]).unwrap(), Value::Okay);
    let back = ask(&mut client, &["GET", "key"]).unwrap();
    assert_eq!(back, Value::BulkString(value.into_bytes()));
    assert!((1_000_000..1_001_000).contains(&scene.proxy.bytes_to_server()));
    assert!((1_000_000..1_001_000).contains(&scene.proxy.bytes_to_client()));
    assert_eq!((scene.proxy.connections(), scene.proxy.open_connections()), (1, 1));
    drop(client);
    wait_until("it is closed", SOON, || scene.proxy.open_connections() == 0);
    assert_eq!(scene.proxy.connections(), 1);
}

#[test]
fn bytes_are_delayed_each_way_but_not_added_up() {
    let scene = Scene::new();
    let mut client = scene.client();
    scene.proxy.delay(Duration::from_millis(60), Duration::from_millis(40));
    let one = took(|| drop(ask(&mut client, &["PING"]).unwrap()));
    assert!(one >= Duration::from_millis(100), "{one:?}");
    let mut stream = TcpStream::connect(scene.proxy.address()).unwrap();
    let many = took(|| {
        for _ in 0..10 {
            stream.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
            pause();
        }
        stream.read_exact(&mut [0; 70]).unwrap();
    });
    assert!((100..900).contains(&many.as_millis()), "{many:?}");
    scene.proxy.delay(Duration::ZERO, Duration::ZERO);
    scene.proxy.jitter(Duration::from_millis(5));
    for n in 0..20 {
        let text = n.to_string();
        let answer = ask(&mut client, &["ECHO", &text]).unwrap();
        assert_eq!(answer, Value::BulkString(text.into()));
    }
}

#[test]
fn a_black_hole_swallows_and_what_lost_bytes_is_closed_after_it() {
    for direction in [Direction::ToServer, Direction::ToClient, Direction::Both] {
        let scene = Scene::new();
        let (mut client, mut other) = (scene.client(), scene.client());
        ask(&mut client, &["PING"]).unwrap();
        scene.proxy.black_hole_one(0, direction);
        client.set_read_timeout(Some(SILENCE)).unwrap();
        let error = ask(&mut client, &["INCR", "count"]).unwrap_err();
        assert!(is_timeout(&error), "open, but silent: {error:?}");
        let count = if direction == Direction::ToClient { "1" } else { "" };
        assert_eq!(scene.server.text(&["GET", "count"]), count, "{direction:?}");
        ask(&mut other, &["PING"]).unwrap();
        assert_eq!(scene.proxy.open_connections(), 2);

        scene.proxy.heal();
        client.set_read_timeout(Some(SOON)).unwrap();
        ask(&mut client, &["PING"]).unwrap_err();
        wait_until("it is closed", SOON, || scene.proxy.open_connections() == 1);
        assert_eq!(scene.server.text(&["GET", "count"]), count, "nothing comes late");

        scene.proxy.black_hole(direction);
        other.set_read_timeout(Some(SILENCE)).unwrap();
        ask(&mut other, &["PING"]).unwrap_err();
        scene.proxy.heal();
        ask(&mut scene.client(), &["PING"]).unwrap();
    }
}

#[test]
fn a_cut_closes_all_and_new_connections_are_welcome() {
    let scene = Scene::new();
    let (mut client, mut other) = (scene.client(), scene.client());
    scene.proxy.cut();
    ask(&mut client, &["PING"]).unwrap_err();
    ask(&mut other, &["PING"]).unwrap_err();
    assert_eq!(scene.proxy.open_connections(), 0);
    ask(&mut scene.client(), &["PING"]).unwrap();
}

#[test]
fn refused_is_as_if_nobody_listened_and_the_port_is_kept() {
    let scene = Scene::new();
    let mut client = scene.client();
    for _ in 0..3 {
        scene.proxy.refuse(true);
        let error = TcpStream::connect(scene.proxy.address()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        ask(&mut client, &["PING"]).unwrap();
        scene.proxy.refuse(false);
        ask(&mut scene.client(), &["PING"]).unwrap();
    }
}

#[test]
fn a_server_that_is_gone_closes_connections_and_may_come_back() {
    let scene = Scene::new();
    let mut client = scene.client();
    scene.server.kill();
    ask(&mut client, &["PING"]).unwrap_err();
    assert!(scene.client_with("").and_then(|mut c| ask(&mut c, &["PING"])).is_err());
    scene.server.restart();
    ask(&mut scene.client(), &["PING"]).unwrap();
}

#[test]
fn pushes_are_dropped_and_nothing_else() {
    for protocol in ["resp2", "resp3"] {
        let scene = Scene::new();
        let options = format!("?protocol={protocol}");
        let mut client = scene.client_with(&options).unwrap();
        scene.proxy.drop_pushes(true);
        let mut subscription = client.as_pubsub();
        subscription.subscribe("news").unwrap();
        scene.server.command(&["PUBLISH", "news", "lost"]);
        scene.server.command(&["PUBLISH", "news", "lost too"]);
        // Its confirmation comes after them, and passes.
        subscription.subscribe("other news").unwrap();
        scene.proxy.drop_pushes(false);
        wait_until("a message arrives again", SOON, || {
            scene.server.command(&["PUBLISH", "news", "heard"]);
            subscription.set_read_timeout(Some(SILENCE)).unwrap();
            let Ok(message) = subscription.get_message() else { return false };
            assert_eq!(message.get_payload::<String>().unwrap(), "heard", "{protocol}");
            true
        });
        assert_eq!(scene.proxy.open_connections(), 1);
    }
}

#[test]
fn a_lost_reply_is_that_of_a_request_that_took_effect() {
    let scene = Scene::new();
    let mut client = scene.client();
    scene.proxy.lose_next_reply();
    assert!(scene.proxy.is_losing());
    let error = ask(&mut client, &["INCR", "count"]).unwrap_err();
    assert!(error.is_connection_dropped(), "{error:?}");
    assert!(!scene.proxy.is_losing());
    assert_eq!(scene.server.text(&["GET", "count"]), "1");
    ask(&mut scene.client(), &["INCR", "count"]).unwrap();
}

#[test]
fn a_held_connection_waits_while_others_pass() {
    let scene = Scene::new();
    let (mut first, mut second) = (scene.client(), scene.client());
    scene.proxy.hold(0);
    thread::scope(|scope| {
        let late = scope.spawn(|| ask(&mut first, &["APPEND", "order", "first"]));
        ask(&mut second, &["APPEND", "order", "second"]).unwrap();
        assert!(!late.is_finished());
        scene.proxy.let_go(0);
        late.join().unwrap().unwrap();
    });
    assert_eq!(scene.server.text(&["GET", "order"]), "secondfirst");
}

#[test]
fn without_resp3_the_server_itself_refuses_hello() {
    let scene = Scene::new();
    scene.proxy.without_resp3(true);
    let Err(error) = scene.client_with("?protocol=resp3") else { panic!("HELLO was answered") };
    assert!(error.to_string().contains("unknown command"), "{error}");
    let mut client = scene.client();
    let error = ask(&mut client, &["HELLO", "3"]).unwrap_err();
    assert!(error.to_string().contains("unknown command"), "{error}");
    ask(&mut client, &["ECHO", "HELLO"]).unwrap();
    scene.proxy.without_resp3(false);
    ask(&mut scene.client_with("?protocol=resp3").unwrap(), &["PING"]).unwrap();
}

#[test]
fn an_action_runs_before_its_request_is_passed() {
    let scene = Scene::new();
    let mut client = scene.client();
    let mut beside = scene.server.client();
    let (seen, was) = mpsc::channel();
    scene.proxy.on_request(b"INCR", move |step| {
        seen.send(step.connection()).unwrap();
        ask(&mut beside, &["SET", "count", "41"]).unwrap();
    });
    assert_eq!(ask(&mut client, &["INCR", "count"]).unwrap(), Value::Int(42));
    assert_eq!(was.try_recv(), Ok(0));
    ask(&mut client, &["GET", "count"]).unwrap();
    was.try_recv().unwrap_err();

    scene.proxy.forget_actions();
    scene.proxy.on_request(b"INCR", Step::cut);
    ask(&mut client, &["INCR", "count"]).unwrap_err();
    assert_eq!(scene.server.text(&["GET", "count"]), "42", "it never arrived");

    scene.proxy.forget_actions();
    scene.proxy.on_request(b"INCR", |step| step.black_hole(Direction::Both));
    let mut client = scene.client();
    client.set_read_timeout(Some(SILENCE)).unwrap();
    ask(&mut client, &["INCR", "count"]).unwrap_err();
    assert_eq!(scene.server.text(&["GET", "count"]), "42", "swallowed");
}

#[test]
fn an_action_that_panics_closes_its_connection() {
    let scene = Scene::new();
    let mut client = scene.client();
    scene.proxy.on_request(b"INCR", |_| panic!("as this test expects"));
    let error = ask(&mut client, &["INCR", "count"]).unwrap_err();
    assert!(error.is_connection_dropped(), "{error:?}");
    assert_eq!(scene.server.text(&["GET", "count"]), "");
}

#[test]
fn in_a_pipeline_the_reply_of_the_chosen_request_is_lost() {
    let scene = Scene::new();
    let mut client = scene.client();
    scene.proxy.on_request(b"chosen", Step::lose_reply);
    let mut stream = TcpStream::connect(scene.proxy.address()).unwrap();
    let request = |key: &str| format!("*2\r\n$4\r\nINCR\r\n${}\r\n{key}\r\n", key.len());
    let all = [request("a"), request("b"), request("chosen"), request("c")].concat();
    stream.write_all(all.as_bytes()).unwrap();
    let mut replies = Vec::new();
    stream.read_to_end(&mut replies).unwrap();
    assert_eq!(String::from_utf8(replies).unwrap(), ":1\r\n:1\r\n");
    assert_eq!(scene.server.text(&["GET", "chosen"]), "1");
    ask(&mut client, &["PING"]).unwrap();
}

#[test]
fn clients_are_led_to_another_server() {
    let (scene, other) = (Scene::new(), Server::start(ServerKind::Valkey9));
    other.command(&["SET", "who", "other"]);
    let mut client = scene.client();
    scene.proxy.lead_to(other.address());
    ask(&mut client, &["PING"]).unwrap_err();
    let who = ask(&mut scene.client(), &["GET", "who"]).unwrap();
    assert_eq!(who, Value::BulkString(b"other".to_vec()));
}
