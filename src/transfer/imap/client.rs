//! A connection to another IMAP server.
//!
//! May import: nothing of ours but `response`. Bounded: time without a byte, and what `response`
//! bounds.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::response::{Condition, Malformed, Reader, Response, Value};

/// Longest silence of the server.
const PATIENCE: Duration = Duration::from_secs(120);
/// To connect.
const CONNECT: Duration = Duration::from_secs(30);
/// Before login nothing is long.
const SMALL_LITERAL: u64 = 64 * 1024;

/// How the connection is kept secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    Implicit,
    Starttls,
    /// On loopback only: a password goes over it.
    None,
}

/// Which server, and who asks.
pub struct Account {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// Certificates to trust instead of the system's, in PEM.
    pub ca: Option<PathBuf>,
    pub user: String,
    pub password: Zeroizing<String>,
}

/// Why the other server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ImapError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it said nothing for {} s", PATIENCE.as_secs())]
    Silent,
    #[error("it sent {0}")]
    Malformed(#[from] Malformed),
    #[error("it answered {command} with: {text}")]
    Refused { command: String, text: String },
    #[error("it closed the connection: {0}")]
    Bye(String),
    #[error("{0}")]
    Other(String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Logged in, or about to be.
pub struct Client {
    stream: Box<dyn Stream>,
    reader: Reader,
    buffer: Vec<u8>,
    at: usize,
    tag: u32,
    capabilities: Vec<String>,
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, ImapError> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        for certificate in rustls_native_certs::load_native_certs().certs {
            let _ = roots.add(certificate);
        }
        return match roots.is_empty() {
            false => Ok(roots),
            true => Err(ImapError::Other(
                "the system has no certificates to trust: install ca-certificates, or give --ca"
                    .into(),
            )),
        };
    };
    let shown = ca.display();
    let wrong = |error: &dyn std::fmt::Display| ImapError::Other(format!("{shown}: {error}"));
    let file = std::fs::File::open(ca).map_err(|error| wrong(&error))?;
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    match roots.is_empty() {
        false => Ok(roots),
        true => Err(wrong(&"no certificate in it")),
    }
}

async fn secured(tcp: TcpStream, account: &Account) -> Result<Box<dyn Stream>, ImapError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ImapError::Other(error.to_string()))?
        .with_root_certificates(roots(account.ca.as_deref())?)
        .with_no_client_auth();
    let name = ServerName::try_from(account.host.clone())
        .map_err(|error| ImapError::Other(format!("{}: {error}", account.host)))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let connected = timeout(CONNECT, connected)
        .await
        .map_err(|_| ImapError::Silent)??;
    Ok(Box::new(connected))
}

impl Client {
    /// Connects and logs in. Of messages above `most` bytes only their being there is told.
    pub async fn connect(account: &Account, most: u64) -> Result<Self, ImapError> {
        let tcp = TcpStream::connect((&*account.host, account.port));
        let tcp = timeout(CONNECT, tcp)
            .await
            .map_err(|_| ImapError::Silent)??;
        tcp.set_nodelay(true)?;
        if account.tls == Tls::None && !tcp.peer_addr()?.ip().is_loopback() {
            return Err(ImapError::Other(
                "without TLS only a server on this machine's loopback is spoken to".into(),
            ));
        }
        let mut client;
        match account.tls {
            Tls::Implicit => {
                client = Self::over(secured(tcp, account).await?);
                client.greeting().await?;
            }
            Tls::None => {
                client = Self::over(Box::new(tcp));
                client.greeting().await?;
            }
            Tls::Starttls => {
                let mut plain = Plain {
                    tcp,
                    reader: Reader::new(SMALL_LITERAL),
                };
                plain.starttls().await?;
                client = Self::over(secured(plain.tcp, account).await?);
            }
        }
        client.run("CAPABILITY").await?;
        client.login(account).await?;
        client.run("CAPABILITY").await?;
        client.reader = Reader::new(most);
        Ok(client)
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            reader: Reader::new(SMALL_LITERAL),
            buffer: Vec::new(),
            at: 0,
            tag: 0,
            capabilities: Vec::new(),
        }
    }

    pub fn has(&self, capability: &str) -> bool {
        self.capabilities
            .iter()
            .any(|known| known.eq_ignore_ascii_case(capability))
    }

    async fn greeting(&mut self) -> Result<(), ImapError> {
        match self.next().await? {
            Response::State {
                tag: None,
                condition: Condition::Ok,
                ..
            } => Ok(()),
            Response::State { text, .. } => Err(ImapError::Bye(text)),
            _ => Err(Malformed::Syntax.into()),
        }
    }

    async fn login(&mut self, account: &Account) -> Result<(), ImapError> {
        let Account { user, password, .. } = account;
        if self.has("AUTH=PLAIN") {
            let plain = Zeroizing::new(format!("\0{user}\0{}", **password));
            let plain = Zeroizing::new(STANDARD.encode(plain.as_bytes()));
            if self.has("SASL-IR") {
                let line = Zeroizing::new(format!("AUTHENTICATE PLAIN {}", *plain));
                return self.run_as("AUTHENTICATE", &line).await.map(drop);
            }
            let tag = self.send("AUTHENTICATE PLAIN").await?;
            loop {
                match self.next().await? {
                    Response::Continue(_) => break,
                    Response::State {
                        tag: Some(_), text, ..
                    } => {
                        return Err(refused("AUTHENTICATE", text));
                    }
                    _ => {}
                }
            }
            let line = Zeroizing::new(format!("{}\r\n", *plain));
            self.stream.write_all(line.as_bytes()).await?;
            self.stream.flush().await?;
            return self.until(&tag, "AUTHENTICATE").await.map(drop);
        }
        let wrong =
            || ImapError::Other("user and password need AUTH=PLAIN, which it has not".into());
        let user = quoted(user).ok_or_else(wrong)?;
        let password = Zeroizing::new(quoted(password).ok_or_else(wrong)?);
        let line = Zeroizing::new(format!("LOGIN {user} {}", *password));
        self.run_as("LOGIN", &line).await.map(drop)
    }

    /// Sends a command; gives its tag.
    pub async fn send(&mut self, command: &str) -> Result<String, ImapError> {
        self.tag += 1;
        let tag = format!("p{}", self.tag);
        let line = Zeroizing::new(format!("{tag} {command}\r\n"));
        let sent = async {
            self.stream.write_all(line.as_bytes()).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, sent)
            .await
            .map_err(|_| ImapError::Silent)??;
        Ok(tag)
    }

    /// The next response, whatever it is.
    pub async fn next(&mut self) -> Result<Response, ImapError> {
        loop {
            let mut rest = &self.buffer[self.at..];
            let before = rest.len();
            let found = self.reader.push(&mut rest)?;
            self.at += before - rest.len();
            if let Some(response) = found {
                if let Response::Data { name, values, .. } = &response
                    && name == "CAPABILITY"
                {
                    self.capabilities = values.iter().filter_map(Value::text).collect();
                }
                return Ok(response);
            }
            self.buffer.resize(64 * 1024, 0);
            let read = timeout(PATIENCE, self.stream.read(&mut self.buffer));
            let read = read.await.map_err(|_| ImapError::Silent)??;
            self.buffer.truncate(read);
            self.at = 0;
            if read == 0 {
                return Err(ImapError::Bye("without a word".into()));
            }
        }
    }

    /// Untagged responses until the command has ended well.
    pub async fn until(&mut self, tag: &str, command: &str) -> Result<Vec<Response>, ImapError> {
        let mut all = Vec::new();
        loop {
            match ended(self.next().await?, tag, command)? {
                Some(response) => all.push(response),
                None => return Ok(all),
            }
        }
    }

    pub async fn run(&mut self, command: &str) -> Result<Vec<Response>, ImapError> {
        let name = command.split(' ').next().unwrap_or_default().to_owned();
        self.run_as(&name, command).await
    }

    /// The same, shown as `name`.
    async fn run_as(&mut self, name: &str, command: &str) -> Result<Vec<Response>, ImapError> {
        let tag = self.send(command).await?;
        self.until(&tag, name).await
    }
}

fn refused(command: &str, text: String) -> ImapError {
    ImapError::Refused {
        command: command.to_owned(),
        text,
    }
}

/// None: the command with this tag has ended well.
pub fn ended(response: Response, tag: &str, command: &str) -> Result<Option<Response>, ImapError> {
    match response {
        Response::State {
            tag: Some(of),
            condition,
            text,
            ..
        } if of == tag => match condition {
            Condition::Ok => Ok(None),
            _ => Err(refused(command, text)),
        },
        Response::State {
            tag: None,
            condition: Condition::Bye,
            text,
            ..
        } => Err(ImapError::Bye(text)),
        other => Ok(Some(other)),
    }
}

/// A quoted string. None: the text can't be one.
pub fn quoted(text: &str) -> Option<String> {
    let fits = text.bytes().all(|b| (b' '..=b'~').contains(&b));
    fits.then(|| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Before STARTTLS: nothing is read ahead, so that nothing that came in plain text is taken for
/// something that came over TLS (RFC 9051, 11.1).
struct Plain {
    tcp: TcpStream,
    reader: Reader,
}

impl Plain {
    async fn response(&mut self) -> Result<Response, ImapError> {
        loop {
            let byte = timeout(PATIENCE, self.tcp.read_u8()).await;
            let byte = [byte.map_err(|_| ImapError::Silent)??];
            if let Some(response) = self.reader.push(&mut &byte[..])? {
                return Ok(response);
            }
        }
    }

    async fn starttls(&mut self) -> Result<(), ImapError> {
        self.response().await?;
        self.tcp.write_all(b"p STARTTLS\r\n").await?;
        loop {
            if ended(self.response().await?, "p", "STARTTLS")?.is_none() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn nothing_leaves_a_quoted_string() {
        assert_eq!(quoted("a\"b\\c").as_deref(), Some("\"a\\\"b\\\\c\""));
        for bad in ["a\r\nb", "a\0", "ä"] {
            assert_eq!(quoted(bad), None);
        }
    }
}
