//! Requests to real servers on this machine, most of them hostile: each leads to a finding that a reader understands, in
//! time, and to nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::policy::parse;

/// Longest time for one server: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Under which name the servers are called.
const NAME: &str = "shop.example";

/// What a server does with each connection.
#[derive(Clone)]
enum Server {
    /// Answers a request with these bytes, and closes.
    Says(Vec<u8>),
    /// The same, and then again and again the other bytes, as fast as they are taken.
    GoesOn(&'static str, &'static [u8]),
    /// The same, a byte at a time.
    Drips(&'static str),
    /// Answers a request with these bytes, and resets the connection.
    Resets(&'static str),
    /// Takes the connection and never answers.
    Silent,
    /// Writes without being asked, and then no more.
    Greets(&'static str),
    /// Speaks TLS with this certificate, then answers with these bytes.
    Tls(Identity, &'static str),
}

fn says(text: &str) -> Server {
    Server::Says(text.as_bytes().to_vec())
}

impl Server {
    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        match self {
            Self::Says(bytes) => answer(&mut stream, bytes).await,
            Self::GoesOn(head, bytes) => {
                answer(&mut stream, head.as_bytes()).await?;
                loop {
                    stream.write_all(bytes).await?;
                }
            }
            Self::Drips(head) => {
                answer(&mut stream, head.as_bytes()).await?;
                let mut each = tokio::time::interval(Duration::from_millis(20));
                loop {
                    each.tick().await;
                    stream.write_all(b"x").await?;
                }
            }
            Self::Resets(head) => {
                answer(&mut stream, head.as_bytes()).await?;
                stream.set_zero_linger()
            }
            Self::Silent => std::future::pending().await,
            Self::Greets(text) => {
                stream.write_all(text.as_bytes()).await?;
                std::future::pending().await
            }
            Self::Tls(identity, text) => {
                let mut stream = identity.acceptor().accept(stream).await?;
                answer(&mut stream, text.as_bytes()).await?;
                stream.shutdown().await
            }
        }
    }
}

/// Reads the head of a request, then writes.
async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// A certificate with its key.
#[derive(Clone)]
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(self.key.clone().into());
        let config = ServerConfig::builder().with_no_client_auth();
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![self.certificate.clone()], key).unwrap()))
    }
}

/// A certificate authority that the client trusts.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut of = CertificateParams::new(Vec::new()).unwrap();
        of.distinguished_name.push(DnType::CommonName, name);
        of.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = of.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(of, key), certificate }
    }

    fn client(&self) -> reqwest::ClientBuilder {
        let root = reqwest::Certificate::from_der(&self.certificate).unwrap();
        Client::builder().tls_certs_only([root])
    }

    fn certify(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut of = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut of);
        let key = KeyPair::generate().unwrap();
        let certificate = of.signed_by(&key, &self.issuer).unwrap().der().clone();
        Identity { certificate, key: key.serialize_der() }
    }
}

/// A running server; it stops when dropped.
struct Running {
    port: u16,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                // One at a time: a connection that the client does not drop would keep the next request waiting.
                drop(server.serve(stream).await);
            }
        });
        Self { port, connections, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A check as a policy has it.
fn check(text: &str) -> Check {
    parse(&format!("smoke: {{checks: [{text}]}}")).unwrap().smoke.checks.unwrap().remove(0)
}

async fn destination(scheme: &str, host: &str, port: u16) -> Destination {
    let url = Url::parse(&format!("{scheme}://{host}:{port}/")).unwrap();
    let allowed = [host.to_owned()];
    Destination::found(url, Some(NAME.to_owned()), Vec::new(), &allowed).await.unwrap()
}

/// Makes one check at a server that is called by [`NAME`].
async fn made(client: reqwest::ClientBuilder, scheme: &str, port: u16, check: &Check) -> Finding {
    let destination = destination(scheme, "127.0.0.1", port).await;
    let manner = Manner { host: Some(NAME.to_owned()), ..Manner::default() };
    let id = crate::event::DeploymentId::new("d-TEST00000").unwrap();
    let headers = check.headers.iter().map(|(name, source)| match source {
        Source::Text(text) => (name.clone(), text.parse().unwrap()),
        Source::Ssm(_) => panic!("no Parameter Store here"),
    });
    let requests = Requests::new(client, &destination, check, &manner, headers.collect(), &id).unwrap();
    let asked = asked(check, async || Ok(requests.send().await));
    tokio::time::timeout(PATIENCE, asked).await.expect("the check hangs").unwrap()
}

/// What the reader is told of each server: its name, the scheme and the check, and what it does.
async fn told(
    client: impl Fn() -> reqwest::ClientBuilder,
    servers: Vec<(&str, (&str, &str), Server)>,
) -> String {
    let mut table = Vec::new();
    for (name, (scheme, text), server) in servers {
        let running = Running::start(server).await;
        let finding = made(client(), scheme, running.port, &check(text)).await;
        assert_eq!(finding.outcome, Outcome::Fail, "{name}: {}", finding.summary);
        table.push(format!("{name}: {}", finding.summary.trim_start_matches("1 of 1 requests failed: ")));
    }
    table.join("\n")
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const PLAIN: (&str, &str) = ("http", "{get: /, expect: {body: ok}}");
const JSON: (&str, &str) = ("http", "{get: /, expect: {json: {a: 1}}}");
const QUICK: (&str, &str) = ("http", "{get: /, timeout: 300ms}");
const FOLLOWS: (&str, &str) = ("http", "{get: /, follow_redirects: true}");
const TLS: (&str, &str) = ("https", "{get: /}");

#[tokio::test]
async fn slow_servers_are_not_waited_for() {
    let servers = vec![
        ("is silent", QUICK, Server::Silent),
        ("drips a head", QUICK, Server::Drips("HTTP/1.1 200 OK\r\nx: ")),
        ("drips a body", QUICK, Server::Drips("HTTP/1.1 200 OK\r\n\r\n")),
        ("drips a long body", QUICK, Server::Drips("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")),
        ("says that it goes on", QUICK, Server::GoesOn("", b"HTTP/1.1 100 Continue\r\n\r\n")),
        ("does not begin TLS", ("https", QUICK.1), Server::Silent),
    ];
    insta::assert_snapshot!(told(Client::builder, servers).await, @r"
    is silent: no answer within 300 ms (1 times)
    drips a head: no answer within 300 ms (1 times)
    drips a body: the answer did not end within 300 ms (1 times)
    drips a long body: the answer did not end within 300 ms (1 times)
    says that it goes on: no answer within 300 ms (1 times)
    does not begin TLS: no answer within 300 ms (1 times)
    ");
}

#[tokio::test]
async fn broken_and_endless_answers_are_findings() {
    let bomb = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 20\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";
    let nested = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'['; 500_000]].concat();
    let servers = vec![
        ("says nothing", PLAIN, says("")),
        ("speaks SSH", PLAIN, says("SSH-2.0-OpenSSH_9.2p1\r\n")),
        ("speaks noise", PLAIN, Server::Says((0..=255).collect())),
        ("has a broken head", PLAIN, says("HTTP/1.1 200 OK\r\nno header\r\n\r\n")),
        ("has headers without end", PLAIN, Server::GoesOn("HTTP/1.1 200 OK\r\n", b"x: yyyyyyyyyyyyyyy\r\n")),
        ("has a header without end", PLAIN, Server::GoesOn("HTTP/1.1 200 OK\r\nx: ", b"yyyyyyyyyyyyyyyyy")),
        ("has a body without end", PLAIN, Server::GoesOn("HTTP/1.1 200 OK\r\n\r\n", b"yyyyyyyyyyyyyyyyy")),
        ("has JSON without end", JSON, Server::GoesOn("HTTP/1.1 200 OK\r\n\r\n[0", b",0,0,0,0,0,0,0")),
        ("has JSON without a bottom", JSON, Server::Says(nested)),
        ("compresses unasked", PLAIN, Server::Says(bomb.to_vec())),
        ("ends too early", PLAIN, says("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")),
        (
            "has two lengths",
            PLAIN,
            says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"),
        ),
        (
            "has broken chunks",
            PLAIN,
            says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n"),
        ),
        ("resets before the answer", PLAIN, Server::Resets("")),
        ("resets within the answer", PLAIN, Server::Resets("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")),
    ];
    insta::assert_snapshot!(told(Client::builder, servers).await, @r"
    says nothing: no answer: the connection was closed (1 times)
    speaks SSH: no answer: what came back is not HTTP/1.1 (1 times)
    speaks noise: no answer: what came back is not HTTP/1.1 (1 times)
    has a broken head: no answer: what came back is not HTTP/1.1 (1 times)
    has headers without end: no answer: the head of the answer is too long (1 times)
    has a header without end: no answer: the head of the answer is too long (1 times)
    has a body without end: the first 1 MB of the body do not contain `ok` (1 times)
    has JSON without end: the body is longer than 1 MB, too long to be read as JSON (1 times)
    has JSON without a bottom: the body is not JSON (1 times)
    compresses unasked: the body does not contain `ok` (1 times), the body is compressed, and nothing is decompressed (1 times)
    ends too early: the answer broke off: the connection was closed (1 times)
    has two lengths: no answer: what came back is not HTTP/1.1 (1 times)
    has broken chunks: the answer broke off: what came back is not HTTP/1.1 (1 times)
    resets before the answer: no answer: the connection was reset (1 times)
    resets within the answer: the answer broke off: the connection was reset (1 times)
    ");
}

#[tokio::test]
async fn redirects_do_not_leave_the_listener() {
    let to = |location: &str| {
        says(&format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\nconnection: close\r\n\r\n"))
    };
    let servers = vec![
        ("not to be followed", PLAIN, to("http://169.254.169.254/")),
        ("to metadata", FOLLOWS, to("http://169.254.169.254/latest")),
        ("to another host", FOLLOWS, to("//other.example/")),
        ("to another port", FOLLOWS, to("http://shop.example:1/")),
        ("to HTTPS", FOLLOWS, to("https://shop.example/")),
        ("to a file", FOLLOWS, to("file:///etc/passwd")),
        ("to nowhere", FOLLOWS, to("http://")),
        ("in a circle", FOLLOWS, to("/")),
    ];
    insta::assert_snapshot!(told(Client::builder, servers).await, @r"
    not to be followed: status 302 instead of 200-299 (1 times), the body does not contain `ok` (1 times)
    to metadata: no answer: it redirects to another host, which is not followed (1 times)
    to another host: no answer: it redirects to another host, which is not followed (1 times)
    to another port: no answer: it redirects to another port, which is not followed (1 times)
    to HTTPS: no answer: it redirects to another scheme, which is not followed (1 times)
    to a file: status 302 instead of 200-299 (1 times)
    to nowhere: status 302 instead of 200-299 (1 times)
    in a circle: no answer: it redirects more than 5 times (1 times)
    ");
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_told() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let of = |identity| Server::Tls(identity, OK);
    let expired = ours.certify(NAME, |of| of.not_after = rcgen::date_time_ymd(2001, 2, 3));
    let future = ours.certify(NAME, |of| of.not_before = rcgen::date_time_ymd(4001, 2, 3));
    let servers = vec![
        ("speaks TLS on a port for HTTP", QUICK, of(ours.certify(NAME, |_| {}))),
        ("speaks HTTP on a port for TLS", TLS, Server::Greets("HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("is called otherwise", TLS, of(ours.certify("other.example", |_| {}))),
        ("is certified by nobody", TLS, of(others.certify(NAME, |_| {}))),
        ("has an old certificate", TLS, of(expired)),
        ("has a certificate to come", TLS, of(future)),
    ];
    insta::assert_snapshot!(told(|| ours.client(), servers).await, @r"
    speaks TLS on a port for HTTP: no answer: what came back is not HTTP/1.1 (1 times)
    speaks HTTP on a port for TLS: no answer: what answers there does not speak TLS (1 times)
    is called otherwise: no answer: the certificate is not for shop.example but for other.example; let `smoke.host` be a name that it is for (1 times)
    is certified by nobody: no answer: the certificate is of no authority that is trusted (1 times)
    has an old certificate: no answer: the certificate has expired (1 times)
    has a certificate to come: no answer: the certificate is not valid yet (1 times)
    ");
}

#[tokio::test]
async fn an_honest_server_passes() {
    let ours = Authority::new("ours");
    let running = Running::start(Server::Tls(ours.certify(NAME, |_| {}), OK)).await;
    let check = check("{get: /, times: 3, expect: {body: ok}}");
    let finding = made(ours.client(), "https", running.port, &check).await;
    assert_eq!(finding.outcome, Outcome::Pass, "{}", finding.summary);
}

#[tokio::test]
async fn a_body_is_cut_at_the_limit_and_its_connection_dropped() {
    let endless = Server::GoesOn("HTTP/1.1 200 OK\r\n\r\nready", b"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy");
    let running = Running::start(endless).await;
    // The server takes the next connection only when the one before is gone.
    let finding =
        made(Client::builder(), "http", running.port, &check("{get: /, times: 3, expect: {body: ready}}"))
            .await;
    assert_eq!(finding.outcome, Outcome::Pass, "{}", finding.summary);
    assert_eq!(running.connections.load(Ordering::Relaxed), 3);
}

/// A server that sends back what it was sent must not get it into the report.
#[tokio::test]
async fn a_secret_does_not_come_back() {
    let ours = Authority::new("ours");
    let secret = "Tok3n-of-the-shop";
    let servers: Vec<(&str, Server)> = vec![
        (
            "http",
            says(&format!(
                "HTTP/1.1 500 {secret}\r\nx-token: {secret}\r\ncontent-length: 17\r\n\r\n{secret}"
            )),
        ),
        (
            "http",
            says(&format!("HTTP/1.1 302 {secret}\r\nlocation: http://{secret}.example/{secret}\r\n\r\n")),
        ),
        ("http", says(&format!("HTTP/1.1 302 Found\r\nlocation: {secret}://{secret}\r\n\r\n"))),
        ("http", says(&format!("{secret}\r\n\r\n"))),
        ("http", says(&format!("HTTP/1.1 200 OK\r\n{secret} {secret}\r\n\r\n"))),
        ("http", says(&format!("HTTP/1.1 200 OK\r\ncontent-length: {secret}\r\n\r\n"))),
        ("http", says(&format!("HTTP/1.1 200 OK\r\n\r\n{{\"a\": \"{secret}\"}}"))),
        ("https", Server::Tls(ours.certify(&format!("{secret}.example"), |_| {}), OK)),
    ];
    let check = check(&format!(
        "{{get: /, follow_redirects: true, headers: {{authorization: {secret}}}, expect: {{headers: {{x-token: a}}, json: {{a: b}}, jmespath: 'abs(a)'}}}}"
    ));
    for (scheme, server) in servers {
        let running = Running::start(server).await;
        let finding = made(ours.client(), scheme, running.port, &check).await;
        assert_eq!(finding.outcome, Outcome::Fail);
        let kept = Secrets::of(&[secret]).kept(Ok(vec![finding])).unwrap().remove(0);
        let shown = format!("{kept:?}").to_ascii_lowercase();
        assert!(!shown.contains(&secret.to_ascii_lowercase()), "{shown}");
    }
}

#[tokio::test]
async fn a_host_is_refused_at_whatever_address_it_resolves_to() {
    let refused = async |url: &str, allowed: &[&str]| {
        let allowed: Vec<String> = allowed.iter().map(|host| (*host).to_owned()).collect();
        let found = Destination::found(Url::parse(url).unwrap(), None, Vec::new(), &allowed).await;
        found.err().map(|fault| fault.what)
    };
    let loopback = refused("https://localhost/", &[]).await.unwrap();
    assert!(loopback.starts_with("smoke checks do not call localhost at "), "{loopback}");
    assert_eq!(refused("https://localhost/", &["localhost"]).await, None);
    for url in [
        "https://169.254.169.254/",
        "http://2852039166/",
        "tcp://169.254.169.254:80/",
        "https://[fd00:ec2::254]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[::]/",
    ] {
        let host = Url::parse(url).unwrap().host_str().unwrap().to_owned();
        assert!(refused(url, &[&host]).await.unwrap().contains("do not call"), "{url}");
    }
    let unknown = refused("https://nowhere.invalid/", &[]).await.unwrap();
    assert!(unknown.starts_with("cannot resolve nowhere.invalid: "), "{unknown}");
}
