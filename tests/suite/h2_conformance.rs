//! RFC 9113 and RFC 7541 as a server must hold them, over plain TCP and over TLS: each case of the table in
//! `h2_conformance_cases` on a connection of its own. The sections are those that h2spec asks about.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::h2_conformance_cases::{Case, Step, Wants, all, openings};
use crate::harness::frames::{PREFACE, frame};
use crate::harness::{Edge, RawClient, Setup, Upstream};
use crate::tls::Authority;

const PATIENCE: Duration = Duration::from_secs(30);
const LAST_WORD: &[u8; 8] = b"are you?";

trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// What the server has said.
#[derive(Debug, PartialEq)]
enum Said {
    /// Stream, first byte of the field block, whether that is all.
    Head(u32, u8, bool),
    Data(u32, usize, bool),
    Reset(u32),
    /// Our settings are acknowledged.
    Agreed,
    Pong(Vec<u8>),
    GoAway(u32),
    End,
    Else,
}

async fn hear(wire: &mut impl Wire) -> Said {
    let mut head = [0; 9];
    if wire.read_exact(&mut head).await.is_err() {
        return Said::End;
    }
    let [a, b, c, kind, flags, ..] = head;
    let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
    if wire.read_exact(&mut payload).await.is_err() {
        return Said::End;
    }
    let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
    match kind {
        0 => Said::Data(stream, payload.len(), flags & 1 == 1),
        1 => Said::Head(stream, payload[0], flags & 1 == 1),
        3 => Said::Reset(stream),
        4 if flags & 1 == 1 => Said::Agreed,
        6 if flags & 1 == 1 => Said::Pong(payload),
        7 => Said::GoAway(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
        _ => Said::Else,
    }
}

/// Whether an answer is a refusal: RFC 9113 §8.1.1 allows one before the stream is reset. In HPACK's static table
/// are 400 and 404; the others are no index.
fn refuses(status: u8) -> bool {
    matches!(status, 0x8c | 0x8d) || status < 0x80
}

async fn play(mut wire: impl Wire, (_, steps, wants): &Case) -> Result<(), String> {
    wire.write_all(PREFACE).await.unwrap();
    while hear(&mut wire).await != Said::Agreed {}
    wire.write_all(&frame(4, 1, 0, b"")).await.unwrap();
    for step in steps {
        match step {
            // It may be closed while we send.
            Step::Send(bytes) => drop(wire.write_all(bytes).await),
            Step::Answered(stream) => loop {
                match hear(&mut wire).await {
                    Said::Head(on, 0x88, end) if on == *stream && !end => {}
                    Said::Data(on, _, true) if on == *stream => break,
                    said @ (Said::End | Said::GoAway(_) | Said::Reset(_)) => return Err(format!("{said:?} too early")),
                    _ => {}
                }
            },
            Step::Data(length) => loop {
                match hear(&mut wire).await {
                    Said::Data(_, here, _) if here == *length => break,
                    said @ (Said::End | Said::GoAway(_) | Said::Reset(_) | Said::Data(..)) => {
                        return Err(format!("{said:?}, not {length} bytes"));
                    }
                    _ => {}
                }
            },
        }
    }
    // Whatever comes before the echo of this came of the steps.
    let _ = wire.write_all(&frame(6, 0, 0, LAST_WORD)).await;
    judge(&mut wire, wants).await
}

async fn judge(wire: &mut impl Wire, wants: &Wants) -> Result<(), String> {
    let (mut goodbye, mut ponged, mut refused) = (None, false, false);
    loop {
        let said = hear(wire).await;
        match (wants, &said) {
            (_, Said::Pong(payload)) if payload == LAST_WORD => ponged = true,
            (_, Said::GoAway(code)) => goodbye = Some(*code),
            (Wants::Resets(stream), Said::Reset(on)) if on == stream => refused = true,
            (Wants::Resets(stream), Said::Head(on, status, _)) if on == stream => refused = refuses(*status),
            (Wants::Goes, Said::Reset(_)) => return Err(format!("{said:?}")),
            (Wants::Answers(stream), Said::Head(on, status, _)) if on == stream && refuses(*status) => {
                return Err(format!("{said:?}"));
            }
            (Wants::Answers(stream), Said::Head(on, _, true) | Said::Data(on, _, true)) if on == stream => {
                return Ok(());
            }
            _ => {}
        }
        let ended = said == Said::End;
        let error = ended && goodbye != Some(0);
        match wants {
            Wants::Ends if error => return Ok(()),
            Wants::Resets(_) if refused || error => return Ok(()),
            Wants::Goes if ponged => return Ok(()),
            Wants::Leaves if ponged || ended => return Ok(()),
            _ if ended => return Err(format!("the connection is closed, GOAWAY {goodbye:?}")),
            Wants::Ends if ponged && goodbye.is_none() => return Err("it goes on".to_owned()),
            _ => {}
        }
    }
}

async fn secured(edge: &Edge, authority: &Authority) -> impl Wire {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.ca()).unwrap()).unwrap();
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(edge.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

fn setup(upstream: &Upstream) -> Setup {
    let open = "{ id: open, path: \"/open/*\", target_service: own_service, preserve_path: true, auth: none }";
    Setup::new().service_alone("own", &upstream.url(), None, "timeout: 60").route(open)
}

async fn verdict(wire: impl Wire, case: &Case) -> Option<String> {
    let played = timeout(PATIENCE, play(wire, case)).await.unwrap_or_else(|_| Err("nothing more comes".to_owned()));
    played.err().map(|why| format!("{}: wants {:?}: {why}", case.0, case.2))
}

/// So many connections at once.
const BESIDE: usize = 12;

fn none(failed: Vec<Option<String>>) {
    let count = failed.len();
    let failed: Vec<_> = failed.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(count > 140, "{count} cases");
}

#[tokio::test]
async fn http2_over_plain_tcp() {
    let upstream = Upstream::start().await;
    let edge = setup(&upstream).start().await;
    let cases = all();
    let connect = async |case| verdict(TcpStream::connect(edge.address()).await.unwrap(), case).await;
    none(stream::iter(&cases).map(connect).buffered(BESIDE).collect().await);
    assert!(upstream.all().iter().all(|one| one.target().starts_with("/open/")), "no request was read otherwise");
}

#[tokio::test]
async fn http2_over_tls() {
    let upstream = Upstream::start().await;
    let authority = Authority::new();
    let (cert, key) = authority.sign("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let edge = setup(&upstream).https(&cert, &key).start().await;
    let cases = all();
    let connect = async |case| verdict(secured(&edge, &authority).await, case).await;
    none(stream::iter(&cases).map(connect).buffered(BESIDE).collect().await);
    assert!(upstream.all().iter().all(|one| one.target().starts_with("/open/")), "no request was read otherwise");
    for (name, bytes) in openings() {
        let mut wire = secured(&edge, &authority).await;
        let _ = wire.write_all(&bytes).await;
        let closed = async { while hear(&mut wire).await != Said::End {} };
        timeout(PATIENCE, closed).await.unwrap_or_else(|_| panic!("{name}: it is not closed"));
    }
}

#[tokio::test]
async fn a_connection_that_begins_otherwise_is_no_http2() {
    let upstream = Upstream::start().await;
    let edge = setup(&upstream).start().await;
    for (name, bytes) in openings() {
        let mut client = RawClient::connect(edge.address()).await;
        client.send(&bytes).await;
        let mut said = Vec::new();
        timeout(PATIENCE, client.reader.rest(&mut said)).await.unwrap_or_else(|_| panic!("{name}: it is not closed"));
    }
    assert_eq!(upstream.heads(), 0);
}
