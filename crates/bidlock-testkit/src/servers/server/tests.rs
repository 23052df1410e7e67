use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring,
};

use redis::Value;

use super::*;

#[test]
fn each_kind_is_the_version_that_its_name_says() {
    for (kind, name, version) in [
        (ServerKind::Redis62, "redis_version", "6.2."),
        (ServerKind::Valkey9, "valkey_version", "9."),
    ] {
        let server = Server::start(kind);
        assert!(server.info("server", name).starts_with(version), "{kind}");
        assert_eq!(server.pid().to_string(), server.info("server", "process_id"));
    }
    // Debian decides, and a later one has a later one.
    let version = Server::start(ServerKind::Redis70).info("server", "redis_version");
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    assert!(major >= 7, "{version}");
}

#[test]
fn a_password_is_demanded_and_stands_in_the_url() {
    for kind in ServerKind::ALL {
        let server = Server::start_with(kind, ServerOptions::new().password("p@ss word"));
        assert_eq!(server.url(), format!("redis://:p%40ss%20word@127.0.0.1:{}/0", server.port()));
        assert_eq!(server.text(&["ECHO", "with it"]), "with it");
        let mut tcp = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        redis::cmd("PING").exec(&mut tcp).unwrap();
        let without = format!("redis://127.0.0.1:{}/0", server.port());
        let mut other = redis::Client::open(without).unwrap().get_connection().unwrap();
        let refused = redis::cmd("GET").arg("k").query::<Value>(&mut other).unwrap_err();
        assert_eq!(refused.code(), Some("NOAUTH"), "{refused}");
    }
}

#[test]
fn a_restart_keeps_data_only_when_asked_to() {
    for kind in ServerKind::ALL {
        for keeps in [false, true] {
            let server = Server::start_with(kind, ServerOptions::new().append_only(keeps));
            server.command(&["SET", "key", "value"]);
            let (pid, port) = (server.pid(), server.port());
            server.restart();
            assert_ne!(server.pid(), pid);
            assert_eq!(server.port(), port);
            let expected = if keeps { "value" } else { "" };
            assert_eq!(server.text(&["GET", "key"]), expected, "{kind}");
        }
    }
}

#[test]
fn a_killed_server_is_gone_and_a_stopped_one_silent() {
    let server = Server::start(ServerKind::Redis70);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    server.stop();
    stream.write_all(b"PING\r\n").unwrap();
    stream.read_exact(&mut [0; 7]).unwrap_err();
    server.go_on();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.read_exact(&mut [0; 7]).unwrap();

    server.kill();
    server.kill();
    assert!(TcpStream::connect(server.address()).is_err());
    server.restart();
    assert_eq!(server.text(&["PING"]), "PONG");
}

#[test]
fn a_dropped_server_leaves_neither_process_nor_folder() {
    let server = Server::start(ServerKind::Valkey9);
    let (pid, folder) = (server.pid(), server.folder().to_owned());
    drop(server);
    assert!(!folder.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn the_clock_steps_forth_and_back_while_the_server_runs() {
    for kind in ServerKind::ALL {
        let server = Server::start_with(kind, ServerOptions::new().clock(true));
        let mut client = server.client();
        let mut time = || -> u64 {
            let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut client).unwrap();
            seconds * 1_000_000 + micros
        };
        let before = time();
        server.step_clock(3_600_000_000);
        let later = time();
        server.step_clock(-7_200_000_001);
        let earlier = time();
        assert!((3_600_000_000..3_610_000_000).contains(&(later - before)), "{kind}");
        assert!((3_590_000_000..3_600_000_002).contains(&(before - earlier)), "{kind}");
        assert_eq!(server.clock_offset(), -3_600_000_001);

        server.step_clock(3_600_000_001);
        server.command(&["SET", "key", "value", "PX", "60000"]);
        server.step_clock(59_000_000);
        assert_eq!(server.text(&["GET", "key"]), "value", "{kind}: it lives for 1 s more");
        server.step_clock(1_001_000);
        assert_eq!(server.text(&["GET", "key"]), "", "{kind}");
        // A timeout inside the server goes by the clock that never steps.
        server.step_clock(-3_600_000_000);
        assert_eq!(server.text(&["BLPOP", "none", "0.05"]), "", "{kind}");
    }
}

#[test]
fn commands_are_counted_by_name() {
    for kind in ServerKind::ALL {
        let server = Server::start(kind);
        server.command(&["SET", "key", "value"]);
        server.reset_stats();
        server.command(&["GET", "key"]);
        server.command(&["EVAL", "return redis.call('get', KEYS[1])", "1", "key"]);
        let stats = server.command_stats();
        assert_eq!((stats["get"], stats["eval"], stats.get("set")), (2, 1, None), "{kind}");
        assert!(server.used_memory() > 100_000, "{kind}");
    }
}

#[test]
#[should_panic(expected = "does not start")]
fn a_server_that_does_not_start_says_why() {
    let options = ServerOptions::new().args(["--no-such-setting", "1"]);
    drop(Server::start_with(ServerKind::Redis70, options));
}

fn ask_over_tls(server: &Server, with_certificate: bool) -> std::io::Result<String> {
    let files = server.tls_files();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = if with_certificate {
        let cert = CertificateDer::from_pem_file(&files.client_cert).unwrap();
        let key = PrivateKeyDer::from_pem_file(&files.client_key).unwrap();
        config.with_client_auth_cert(vec![cert], key).unwrap()
    } else {
        config.with_no_client_auth()
    };
    let name = "localhost".try_into().unwrap();
    let tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", server.tls_port()))?;
    stream.set_read_timeout(Some(SOON))?;
    let mut stream = StreamOwned::new(tls, stream);
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn tls_is_spoken_and_client_certificates_are_demanded_when_asked() {
    for kind in ServerKind::ALL {
        let open = Server::start_with(kind, ServerOptions::new().tls(true));
        assert_eq!(ask_over_tls(&open, false).unwrap(), "+PONG\r\n", "{kind}");
        open.restart();
        assert_eq!(ask_over_tls(&open, true).unwrap(), "+PONG\r\n", "{kind}, restarted");
        assert_eq!(open.tls_url(), format!("rediss://127.0.0.1:{}/0", open.tls_port()));
        assert_eq!(open.text(&["PING"]), "PONG", "{kind}: beside it, without TLS");

        let options = ServerOptions::new().tls(true).client_certificates(true);
        let strict = Server::start_with(kind, options);
        assert_eq!(ask_over_tls(&strict, true).unwrap(), "+PONG\r\n", "{kind}");
        ask_over_tls(&strict, false).unwrap_err();
    }
}
