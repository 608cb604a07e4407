//! The HTTP client of the smoke checks: reaches green through a listener, under the service's own host name.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy as Redirects;
use reqwest::{Client, Url};

use super::expect::Response;
use super::manner::Manner;
use crate::VERSION;
use crate::event::DeploymentId;
use crate::fault::{Fault, FaultKind};
use crate::policy::plan::Check;
use crate::rollout::Condition;

/// Longest body that is read; what a smoke check wants to see comes early.
const LONGEST_BODY: usize = 1024 * 1024;
/// Redirects that are followed where the check asks for it.
const MOST_REDIRECTS: usize = 5;

/// Where requests go: a URL, and the name to call it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Scheme, host and port to connect to.
    pub url: Url,
    /// Host header and TLS name, if not the URL's own host.
    pub host: Option<String>,
    /// What a request needs to be sent on to green.
    pub conditions: Vec<Condition>,
}

impl Destination {
    /// Whether nothing is known of the protocol but that it runs over TCP.
    pub fn is_bare(&self) -> bool {
        self.url.scheme() == "tcp"
    }

    /// The URL to send HTTP requests to. Behind a Network Load Balancer a policy's checks are plain HTTP.
    fn http(&self) -> String {
        let text = self.url.as_str();
        text.strip_prefix("tcp:").map_or_else(|| text.to_owned(), |rest| format!("http:{rest}"))
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
    /// Prepares a check's requests. `headers` are all that they have, with their values looked up.
    pub async fn new(
        destination: &Destination,
        check: &'a Check,
        manner: &Manner,
        headers: Vec<(HeaderName, HeaderValue)>,
        deployment: &DeploymentId,
    ) -> Result<Self, Fault> {
        let redirects = if check.follow_redirects { within_the_host() } else { Redirects::none() };
        let mut builder = Client::builder()
            .user_agent(format!("Shiftgate/{VERSION} (deployment {deployment})"))
            .redirect(redirects)
            .no_proxy()
            .timeout(check.timeout);
        let http = Url::parse(&destination.http());
        let mut url = http.and_then(|http| http.join(&check.path)).map_err(|error| {
            Fault::new(
                FaultKind::Policy,
                format!("`{}` is not a path: {error}", check.path),
                "mend `smoke.checks`",
            )
        })?;
        if !manner.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&manner.query);
        }
        let mut all = HeaderMap::new();
        if let Some(host) = &manner.host {
            // TLS takes the server's name from the URL, so the URL gets the name and the client the addresses.
            builder = builder.resolve_to_addrs(host, &addresses(&destination.url).await?);
            url.set_host(Some(host)).map_err(|error| not_a_host(host, &error))?;
            let bare = HeaderValue::from_str(host).map_err(|error| not_a_host(host, &error))?;
            all.insert(HOST, bare);
        }
        all.extend(headers);
        let client = builder.build().map_err(|error| {
            Fault::new(FaultKind::Bug, "cannot set up the HTTP client", "please report this").because(error)
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
        let mut answer = request.send().await.map_err(|error| told(&error, self.check.timeout))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| told(&error, self.check.timeout))? {
            body.extend_from_slice(&chunk);
            if body.len() >= LONGEST_BODY {
                body.truncate(LONGEST_BODY);
                break;
            }
        }
        Ok(Response {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body,
            took: started.elapsed(),
        })
    }
}

/// Follows a few redirects, but never to another host: the headers may hold secrets.
fn within_the_host() -> Redirects {
    Redirects::custom(|attempt| {
        let same = attempt.previous().last().is_some_and(|previous| previous.host() == attempt.url().host());
        if same && attempt.previous().len() <= MOST_REDIRECTS { attempt.follow() } else { attempt.stop() }
    })
}

pub(super) async fn addresses(url: &Url) -> Result<Vec<SocketAddr>, Fault> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| {
        Fault::new(
            FaultKind::Unavailable,
            format!("cannot resolve {host}"),
            "an internal load balancer resolves only inside its VPC: give the functions subnets in it",
        )
        .because(error)
    })?;
    Ok(found.collect())
}

fn not_a_host(host: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(
        FaultKind::Policy,
        format!("`smoke.host` {host} is not a host name: {error}"),
        "mend `smoke.host`",
    )
}

/// Why there is no answer, without the URL (its query may hold a secret).
fn told(error: &reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() {
        return format!("no answer within {} ms", timeout.as_millis());
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("no answer: {innermost}")
}
