//! The way to a real server: TCP or a socket in the file system, with TLS where it is asked for.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::config::{Config, Place, TlsFiles};
use crate::wire::Stream;

/// Opens byte streams to one server: real ones, or those of a simulator.
#[async_trait]
pub trait Connector: Debug + Send + Sync + 'static {
    /// Opens one stream; the caller bounds the time that it takes.
    ///
    /// # Errors
    /// The operating system's, or TLS's, with what is wrong in its text.
    ///
    /// # Cancel safety
    /// A connection that is half open is closed.
    async fn connect(&self) -> io::Result<Box<dyn Stream>>;
}

/// Opens real connections.
#[derive(Debug)]
pub(crate) struct Dialer {
    place: Place,
    tls: Option<Tls>,
}

struct Tls {
    connector: TlsConnector,
    server: ServerName<'static>,
}

impl Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Dialer {
    /// Reads the files of TLS; contacts nothing.
    ///
    /// # Errors
    /// Names the file that cannot be read, or is not what it should be.
    pub(crate) fn new(config: &Config) -> io::Result<Self> {
        let tls = match (&config.tls, &config.place) {
            (Some(files), Place::Tcp(host, _)) => Some(Tls::new(files, host)?),
            _ => None,
        };
        Ok(Self { place: config.place.clone(), tls })
    }
}

#[async_trait]
impl Connector for Dialer {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match &self.place {
            Place::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Place::Tcp(host, port) => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(tls) => {
                let secured = tls.connector.connect(tls.server.clone(), stream).await;
                Ok(Box::new(secured.map_err(explained)?))
            }
        }
    }
}

/// Adds to TLS's own words what they usually mean.
fn explained(error: io::Error) -> io::Error {
    let text = error.to_string();
    let meaning = if text.contains("corrupt message") || text.contains("InvalidContentType") {
        "the server does not speak TLS on this port"
    } else if text.contains("UnknownIssuer") {
        "the server's certificate is signed by nobody that is trusted: name its CA with ?ca=FILE"
    } else if text.contains("not valid for name") {
        "the server's certificate is for another name"
    } else if text.contains("expired") {
        "the server's certificate has expired"
    } else if error.kind() == io::ErrorKind::UnexpectedEof {
        "the server closed the connection while TLS was set up"
    } else {
        return error;
    };
    io::Error::new(error.kind(), format!("{meaning} ({text})"))
}

impl Tls {
    fn new(files: &TlsFiles, host: &str) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        match &files.ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| about(path, &error))?;
                }
            }
        }
        // Named here, so that no choice of the process's default can fail.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let config = match &files.client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| about(key, &e))?;
                config.with_client_auth_cert(chain, secret).map_err(|e| about(key, &e))?
            }
        };
        let server = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server })
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| about(path, &error))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|error| about(path, &error))?;
    if all.is_empty() {
        return Err(about(path, &"there is no certificate in it"));
    }
    Ok(all)
}

fn about(path: &Path, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {what}", path.display()))
}
