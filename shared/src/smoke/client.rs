//! The HTTP client of the smoke checks: reaches green through a listener, under the service's own host name.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy as Redirects;
use reqwest::{Client, ClientBuilder, Url};

use super::expect::{LONGEST_BODY, Response};
use super::failure::{self, Astray};
use super::manner::{self, Manner};
use super::reach;
use crate::VERSION;
use crate::event::DeploymentId;
use crate::fault::{Fault, FaultKind};
use crate::policy::plan::Check;
use crate::rollout::Condition;

/// Longest search for the addresses of a host.
const LONGEST_SEARCH: Duration = Duration::from_secs(10);

/// Where requests go: a URL, the name to call it by, and addresses that may be connected to. Only these are.
#[derive(Debug, Clone)]
pub struct Destination {
    url: Url,
    /// Host header and TLS name, if not the URL's own host.
    pub host: Option<String>,
    /// What a request needs to be sent on to green.
    pub conditions: Vec<Condition>,
    addresses: Vec<SocketAddr>,
}

impl Destination {
    /// Looks up the host of `url` (scheme, host and port). Fails if it cannot be found, or if any of its addresses must not
    /// be called; `allowed` are the hosts that the operator lists.
    pub async fn found(
        url: Url,
        host: Option<String>,
        conditions: Vec<Condition>,
        allowed: &[String],
    ) -> Result<Self, Fault> {
        let name = url.host_str().unwrap_or_default();
        let addresses = addresses(name, url.port_or_known_default().unwrap_or(443)).await?;
        let refused = addresses.iter().find_map(|address| reach::refusal(name, address.ip(), allowed));
        refused.map_or(Ok(Self { url, host, conditions, addresses }), Err)
    }

    /// Whether nothing is known of the protocol but that it runs over TCP.
    pub fn is_bare(&self) -> bool {
        self.url.scheme() == "tcp"
    }

    /// What to connect to.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The port that is connected to.
    pub fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    /// The URL to send HTTP requests to. Behind a Network Load Balancer a policy's checks are plain HTTP.
    fn http(&self) -> Result<Url, String> {
        let text = self.url.as_str();
        let text = text.strip_prefix("tcp:").map_or_else(|| text.to_owned(), |rest| format!("http:{rest}"));
        Url::parse(&text).map_err(|error| format!("{text} is no URL: {error}"))
    }
}

async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    let unknown = |why: &str| {
        Fault::new(
            FaultKind::Unavailable,
            format!("cannot resolve {host}: {why}"),
            "an internal load balancer resolves only inside its VPC: give the functions subnets in it",
        )
    };
    let search = tokio::net::lookup_host((reach::bare(host), port));
    let found = match tokio::time::timeout(LONGEST_SEARCH, search).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return Err(unknown(&error.to_string())),
        Err(_) => return Err(unknown(&format!("no answer within {} s", LONGEST_SEARCH.as_secs()))),
    };
    if found.is_empty() { Err(unknown("it has no address")) } else { Ok(found) }
}

/// Answers every search for a name with the addresses that were checked: what is connected to is what was looked at,
/// whatever DNS says by then and whatever name the URL has.
struct Checked(Vec<SocketAddr>);

impl Resolve for Checked {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// Sends the requests of one check.
pub struct Requests<'a> {
    client: Client,
    url: Url,
    headers: HeaderMap,
    check: &'a Check,
}

impl<'a> Requests<'a> {
    /// Prepares a check's requests. `headers` are all that they have, with their values looked up; `builder` is a client that
    /// trusts whom it should.
    pub fn new(
        builder: ClientBuilder,
        destination: &Destination,
        check: &'a Check,
        manner: &Manner,
        headers: Vec<(HeaderName, HeaderValue)>,
        deployment: &DeploymentId,
    ) -> Result<Self, Fault> {
        let url = destination.http().and_then(|base| manner::url(&base, &check.path, manner));
        let url = url.map_err(|why| not_sendable(check, &why))?;
        let mut all = HeaderMap::new();
        if let Some(host) = &manner.host {
            let host =
                HeaderValue::from_str(host).map_err(|error| not_sendable(check, &error.to_string()))?;
            all.insert(HOST, host);
        }
        all.extend(headers);
        // Asked for nothing, a server may compress as it likes.
        all.entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        let client = limited(builder, check)
            .user_agent(format!("Shiftgate/{VERSION} (deployment {deployment})"))
            .dns_resolver(Checked(destination.addresses.clone()))
            .build()
            .map_err(|error| {
                Fault::new(FaultKind::Bug, "cannot set up the HTTP client", "please report this")
                    .because(error)
            })?;
        Ok(Self { client, url, headers: all, check })
    }

    /// Sends one request; the error says in words why there is no answer.
    pub async fn send(&self) -> Result<Response, String> {
        let mut request =
            self.client.request(self.check.method.clone(), self.url.clone()).headers(self.headers.clone());
        if let Some(body) = &self.check.body {
            request = request.body(body.clone());
        }
        let started = tokio::time::Instant::now();
        let sent = request.send().await;
        let mut answer = sent.map_err(|error| failure::without_answer(&error, self.check.timeout))?;
        let (status, headers) = (answer.status().as_u16(), std::mem::take(answer.headers_mut()));
        let mut body = Vec::new();
        // What comes after the limit is not waited for: the answer is dropped, and the connection with it.
        while body.len() <= LONGEST_BODY {
            match answer.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Err(failure::within_answer(&error, self.check.timeout)),
            }
        }
        let cut = body.len() > LONGEST_BODY;
        body.truncate(LONGEST_BODY);
        Ok(Response { status, headers, body, cut, took: started.elapsed() })
    }
}

/// A client that ends in time and reads no more than it is sent: bodies are never decompressed, whatever other crates make
/// of reqwest's features.
fn limited(builder: ClientBuilder, check: &Check) -> ClientBuilder {
    let redirects = if check.follow_redirects { within_the_listener() } else { Redirects::none() };
    builder.timeout(check.timeout).redirect(redirects).no_proxy().no_gzip().no_brotli().no_deflate().no_zstd()
}

/// Follows a few redirects, but never to another listener: it would be another version or another service, and the headers
/// may hold secrets.
fn within_the_listener() -> Redirects {
    Redirects::custom(|attempt| match Astray::of(attempt.previous(), attempt.url()) {
        Some(astray) => attempt.error(astray),
        None => attempt.follow(),
    })
}

fn not_sendable(check: &Check, why: &str) -> Fault {
    Fault::new(
        FaultKind::Policy,
        format!("the check `{}` cannot be sent: {why}", check.name),
        "mend `smoke.host`, the check's path, or the conditions of the listener's rule",
    )
}
