//! Smoke checks: requests to green, and what their answers must look like. They go to nothing but the rollout's listeners and
//! hosts that the operator allows (reach.rs), and no secret comes back from here (secrets.rs).

mod client;
mod connection;
pub mod expect;
mod failure;
mod invocation;
mod manner;
mod reach;
mod secrets;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};
use secrecy::ExposeSecret;

use self::client::{Destination, Requests};
use self::expect::Response;
use self::manner::Manner;
pub use self::secrets::Secrets;
use crate::fault::{Fault, FaultKind};
use crate::hook::Release;
use crate::policy::plan::{Base, Check, Expect};
use crate::policy::raw::HeaderValue as Source;
use crate::rollout::{Condition, Entrance, Listener, Rollout};
use crate::verdict::{Caveat, Finding, Outcome, Quantity};

/// How thoroughly the checks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// As the policy says.
    Full,
    /// Each request once: a last look before traffic shifts.
    Short,
}

/// Requests of the built-in check.
const DEFAULT_TIMES: u32 = 5;
/// Longest answer of the built-in check.
const DEFAULT_WITHIN: Duration = Duration::from_secs(2);

/// Makes the smoke checks of the policy; without any, the target group's health check through the test listener.
pub async fn checks(release: &Release, depth: Depth) -> Result<Vec<Finding>, Fault> {
    let made = if release.rollout.function.is_some() {
        of_function(release).await
    } else {
        of_service(release, depth).await
    };
    release.secrets.kept(made)
}

async fn of_service(release: &Release, depth: Depth) -> Result<Vec<Finding>, Fault> {
    let Some(destination) = destination(release).await? else {
        let caveat = if release.rollout.entrance.is_some() {
            Caveat::NoTestListener
        } else {
            Caveat::NoLoadBalancer { test_header: release.rollout.test_header.clone() }
        };
        let untested =
            Finding::new("smoke", Outcome::Inconclusive, "green could not be tested before it takes traffic");
        return Ok(vec![untested.but(caveat)]);
    };
    if asks_nothing(release) && destination.is_bare() {
        return Ok(vec![connection::check(&destination).await]);
    }
    let mut findings = Vec::new();
    for check in &wanted(release) {
        let check = match depth {
            Depth::Full => check.clone(),
            Depth::Short => once(check),
        };
        findings.push(run(release, &destination, &check).await?);
    }
    Ok(findings)
}

/// Invokes the new version of a function as the policy says; requests go to the policy's URL, if it names one. There is one
/// hook before the shift, so it is no short look.
async fn of_function(release: &Release) -> Result<Vec<Finding>, Fault> {
    let checks = release.plan.smoke.checks.as_deref().unwrap_or_default();
    if checks.is_empty() {
        let untested = "the new version could not be tested before it takes traffic";
        return Ok(vec![Finding::new("smoke", Outcome::Inconclusive, untested).but(Caveat::NoPayload)]);
    }
    let destination = destination(release).await?;
    let mut findings = Vec::new();
    for check in checks {
        findings.push(match (&check.invoke, &destination) {
            (Some(_), _) => invoke(release, check).await?,
            (None, Some(destination)) => run(release, destination, check).await?,
            (None, None) => {
                let unsent = "no request was made: a function has no listener, and `smoke.base` names no URL";
                Finding::new(&check.name, Outcome::Inconclusive, unsent).but(Caveat::NoPayload)
            }
        });
    }
    Ok(findings)
}

async fn invoke(release: &Release, check: &Check) -> Result<Finding, Fault> {
    let payload = check.invoke.clone().unwrap_or_default();
    asked(check, async || invocation::send(&release.aws, &release.rollout, check, &payload).await).await
}

/// The policy's checks, or the built-in one. Those that invoke a function are for releases of functions, with which a
/// service may share its policy.
fn wanted(release: &Release) -> Vec<Check> {
    let checks = release.plan.smoke.checks.iter().flatten();
    let requests: Vec<Check> = checks.filter(|check| check.invoke.is_none()).cloned().collect();
    if requests.is_empty() { vec![health_check(&release.rollout)] } else { requests }
}

/// Whether nothing but the target group's health check is left to ask for.
fn asks_nothing(release: &Release) -> bool {
    release.plan.smoke.checks.iter().flatten().all(|check| check.invoke.is_some())
}

/// Tries of a request while green serves users; it counts as failed when all of them do.
const TRIES: u32 = 3;

/// Whether green still answers, while traffic shifts: an outage shows here before CloudWatch knows of it. Only requests
/// that change nothing (GET and HEAD) are made, once each; one that fails is tried twice more, since a lone failure is
/// for the gates to judge.
pub async fn still_answers(release: &Release) -> Result<Vec<Finding>, Fault> {
    release.secrets.kept(lately(release).await)
}

async fn lately(release: &Release) -> Result<Vec<Finding>, Fault> {
    if release.rollout.function.is_some() {
        // Nobody knows which payload changes nothing.
        return Ok(Vec::new());
    }
    if !release.plan.smoke.during_shift {
        return Ok(Vec::new());
    }
    let Some(destination) = destination(release).await? else {
        // There is nothing to say that was not said before the shift.
        return Ok(Vec::new());
    };
    if asks_nothing(release) && destination.is_bare() {
        return Ok(vec![connection::check(&destination).await]);
    }
    let mut findings = Vec::new();
    for check in wanted(release).iter().filter(|check| matches!(check.method, Method::GET | Method::HEAD)) {
        let check = Check { retries: TRIES - 1, ..once(check) };
        findings.push(run(release, &destination, &check).await?);
    }
    Ok(findings)
}

/// The parameters that hold header values, for the question whether they may be read.
pub fn secret_names(release: &Release) -> Vec<String> {
    let checks = release.plan.smoke.checks.iter().flatten();
    checks
        .flat_map(|check| &check.headers)
        .filter_map(|(_, source)| match source {
            Source::Ssm(name) => Some(name.clone()),
            Source::Text(_) => None,
        })
        .collect()
}

/// The target group's own health check, several times and with a time limit.
fn health_check(rollout: &Rollout) -> Check {
    let group = rollout.green.target_group.as_ref();
    let path = group.and_then(|group| group.health_path.clone()).unwrap_or_else(|| "/".to_owned());
    let mut expect = Expect { within: Some(DEFAULT_WITHIN), ..Expect::default() };
    if let Some(statuses) = group.and_then(|group| group.health_statuses.as_ref()) {
        expect.status = statuses.clone();
    }
    Check {
        name: format!("health check {path}"),
        invoke: None,
        method: Method::GET,
        path,
        headers: Vec::new(),
        body: None,
        times: DEFAULT_TIMES,
        concurrency: 1,
        retries: 0,
        timeout: Duration::from_secs(5),
        follow_redirects: false,
        expect,
    }
}

fn once(check: &Check) -> Check {
    let expect = Expect { percentiles: Vec::new(), ..check.expect.clone() };
    Check { times: 1, expect, ..check.clone() }
}

/// Where the requests go; `None` when they should go through a listener that does not exist.
async fn destination(release: &Release) -> Result<Option<Destination>, Fault> {
    let allowed = &release.environment.allowed_hosts;
    let entrance = release.rollout.entrance.as_ref();
    let listener = match &release.plan.smoke.base {
        Base::Url(url) => {
            let url = allowed_url(url, allowed)?;
            return found(release, url, service_connect(&release.rollout)).await.map(Some);
        }
        Base::ProductionListener => entrance.map(|entrance| (entrance, &entrance.production)),
        Base::TestListener => entrance.and_then(|entrance| Some((entrance, entrance.test.as_ref()?))),
    };
    let Some((entrance, listener)) = listener else { return Ok(None) };
    found(release, listener_url(entrance, listener)?, listener.conditions.clone()).await.map(Some)
}

async fn found(release: &Release, url: Url, conditions: Vec<Condition>) -> Result<Destination, Fault> {
    let host = release.plan.smoke.host.clone();
    Destination::found(url, host, conditions, &release.environment.allowed_hosts).await
}

fn allowed_url(url: &Url, allowed: &[String]) -> Result<Url, Fault> {
    let host = url.host_str().unwrap_or_default();
    if reach::is_listed(host, allowed) {
        return Ok(url.clone());
    }
    Err(Fault::new(
        FaultKind::Policy,
        format!("smoke.base names the host {host}, which this function may not call"),
        "add the host to the template's parameter AllowedHosts",
    ))
}

/// The header by which Service Connect sends a request to green.
fn service_connect(rollout: &Rollout) -> Vec<Condition> {
    let header = rollout.test_header.iter();
    header
        .map(|(name, value)| Condition::Header { name: name.clone(), values: vec![value.clone()] })
        .collect()
}

fn listener_url(entrance: &Entrance, listener: &Listener) -> Result<Url, Fault> {
    let scheme = match listener.protocol.as_str() {
        "HTTPS" | "TLS" => "https",
        "HTTP" => "http",
        // Whatever is spoken behind a Network Load Balancer.
        _ => "tcp",
    };
    let text = format!("{scheme}://{}:{}/", entrance.load_balancer.dns_name, listener.port);
    Url::parse(&text).map_err(|error| {
        Fault::new(FaultKind::NotFound, format!("{text} is not a URL: {error}"), "check the load balancer")
    })
}

async fn run(release: &Release, destination: &Destination, check: &Check) -> Result<Finding, Fault> {
    let manner = match manner::manner(&destination.conditions, check, destination.host.as_deref()) {
        Ok(manner) => manner,
        Err(why) => {
            let unreached = "green could not be tested: no such request reaches it";
            return Ok(
                Finding::new(&check.name, Outcome::Inconclusive, unreached).but(Caveat::RuleNotMet { why })
            );
        }
    };
    let headers = headers(release, check, &manner).await?;
    let id = &release.deployment.id;
    let requests = Requests::new(Client::builder(), destination, check, &manner, headers, id)?;
    asked(check, async || Ok(requests.send().await)).await
}

/// What the rule wants, then the check's own headers with their values looked up.
async fn headers(
    release: &Release,
    check: &Check,
    manner: &Manner,
) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
    let mut headers = manner.headers.clone();
    for (name, source) in &check.headers {
        let value = match source {
            Source::Text(text) => HeaderValue::from_str(text.trim_end()),
            Source::Ssm(parameter) => {
                let secret = release.secrets.read(&release.aws, parameter).await?;
                HeaderValue::from_str(secret.expose_secret().trim_end())
            }
        };
        let mut value = value.map_err(|_| unfit(check, name))?;
        value.set_sensitive(matches!(source, Source::Ssm(_)));
        headers.push((name.clone(), value));
    }
    Ok(headers)
}

/// A line break in a value would begin a header, or a request, of its own.
fn unfit(check: &Check, name: &HeaderName) -> Fault {
    Fault::new(
        FaultKind::Policy,
        format!("the value of header {name} in check `{}` is not fit for a header", check.name),
        "header values are one line of visible characters",
    )
}

/// What came of one request, its retries included.
struct Answer {
    took: Option<Duration>,
    faults: Vec<String>,
}

/// Sends a check's requests, `concurrency` of them at a time, and each again while it fails and tries are left.
async fn asked(
    check: &Check,
    send: impl AsyncFn() -> Result<Result<Response, String>, Fault>,
) -> Result<Finding, Fault> {
    let one = async || {
        let mut last = judge(check, send().await?);
        for _ in 0..check.retries {
            if last.faults.is_empty() {
                break;
            }
            last = judge(check, send().await?);
        }
        Ok(last)
    };
    let answers: Vec<Answer> = stream::iter(0..check.times)
        .map(|_| one())
        .buffer_unordered(check.concurrency as usize)
        .try_collect()
        .await?;
    Ok(finding(check, &answers))
}

fn judge(check: &Check, response: Result<Response, String>) -> Answer {
    match response {
        Ok(response) => {
            Answer { took: Some(response.took), faults: expect::faults(&check.expect, &response) }
        }
        Err(why) => Answer { took: None, faults: vec![why] },
    }
}

fn finding(check: &Check, answers: &[Answer]) -> Finding {
    let failed = answers.iter().filter(|answer| !answer.faults.is_empty()).count();
    let times: Vec<Duration> = answers.iter().filter_map(|answer| answer.took).collect();
    let slow: Vec<String> = check
        .expect
        .percentiles
        .iter()
        .filter_map(|(rank, limit)| {
            let seen = expect::percentile(&times, *rank)?;
            (seen > *limit).then(|| {
                format!("p{} is {} ms, longer than {} ms", rank * 100.0, seen.as_millis(), limit.as_millis())
            })
        })
        .collect();
    let outcome = if failed == 0 && slow.is_empty() { Outcome::Pass } else { Outcome::Fail };
    let slowest = times.iter().max().map(Duration::as_secs_f64).map(Quantity::seconds);
    let summary = if let (Outcome::Pass, Some(slowest)) = (outcome, slowest) {
        format!("{} of {} requests as expected, slowest {slowest}", answers.len(), answers.len())
    } else {
        let mut parts = Vec::new();
        if failed > 0 {
            parts.push(format!("{failed} of {} requests failed: {}", answers.len(), most_common(answers)));
        }
        parts.extend(slow);
        parts.join("; ")
    };
    Finding { samples: Some(answers.len() as u64), ..Finding::new(&check.name, outcome, summary) }
}

/// The faults, each once with its number, the most frequent first; three are enough to understand.
fn most_common(answers: &[Answer]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in answers.iter().flat_map(|answer| &answer.faults) {
        // Times differ from answer to answer; their kind is what counts.
        let kind = if fault.starts_with("took ") {
            fault.split_once(", ").map_or(fault.as_str(), |(_, kind)| kind)
        } else {
            fault
        };
        *counts.entry(kind).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown: Vec<String> =
        counts.iter().take(3).map(|(fault, count)| format!("{fault} ({count} times)")).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests;
