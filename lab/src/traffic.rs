//! Users: requests that arrive at random times, whether or not earlier ones were answered (an open loop).

use std::net::SocketAddr;
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use rand::RngExt;
use rand_distr::Exp1;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::load_balancer::VERSION;
use crate::load_balancer::http::client;
use crate::service::Label;

/// Requests that wait for their answers at most; more are dropped, so that a dead service cannot fill the memory.
const MOST_IN_FLIGHT: usize = 2_000;
/// Connections that are kept for the next request.
const IDLE_CONNECTIONS: usize = 200;
/// A user gives up after this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// A longer wait for the next request need not be told apart.
const LONGEST_GAP: Duration = Duration::from_hours(24);

type Requests = Client<HttpConnector, Empty<Bytes>>;

/// Running traffic. It stops when dropped.
#[derive(Debug)]
pub struct Traffic {
    rate: watch::Sender<f64>,
    counters: Arc<Counters>,
    _task: JoinSet<()>,
}

/// How many requests there were since the traffic began. The difference of two is what happened in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sent, answered or not.
    pub sent: u64,
    /// Answered with a status below 500.
    pub ok: u64,
    /// Answered with a status of 500 or above.
    pub errors: u64,
    /// Not answered: refused, broken off, or after 30 s.
    pub failed: u64,
    /// Not sent, because 2,000 were under way.
    pub dropped: u64,
    /// Those of them that the old version had to answer.
    pub blue: Served,
    /// Those of them that the new version had to answer.
    pub green: Served,
}

/// What users got of one version. Requests that are under way, and those that reached no version, are not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Requests, answered well or not.
    pub requests: u64,
    /// Of them answered with an error, also by the balancer in the version's stead, or broken off.
    pub bad: u64,
}

impl Sub for Served {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { requests: self.requests - earlier.requests, bad: self.bad - earlier.bad }
    }
}

impl Sub for Stats {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            ok: self.ok - earlier.ok,
            errors: self.errors - earlier.errors,
            failed: self.failed - earlier.failed,
            dropped: self.dropped - earlier.dropped,
            blue: self.blue - earlier.blue,
            green: self.green - earlier.green,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    ok: AtomicU64,
    errors: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    blue: ServedCounters,
    green: ServedCounters,
}

#[derive(Debug, Default)]
struct ServedCounters {
    requests: AtomicU64,
    bad: AtomicU64,
}

impl Counters {
    fn count(&self, answer: Answer) {
        let counter = match answer.how {
            Answered::Ok => &self.ok,
            Answered::Error => &self.errors,
            Answered::Not => &self.failed,
        };
        counter.fetch_add(1, Ordering::SeqCst);
        let served = match answer.by {
            Some(Label::Blue) => &self.blue,
            Some(Label::Green) => &self.green,
            None => return,
        };
        served.requests.fetch_add(1, Ordering::SeqCst);
        if answer.how != Answered::Ok {
            served.bad.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl ServedCounters {
    /// Bad ones are read first, so that there are never more of them than requests.
    fn read(&self) -> Served {
        let bad = self.bad.load(Ordering::SeqCst);
        Served { requests: self.requests.load(Ordering::SeqCst), bad }
    }
}

/// How a request was answered, and by which version, if it reached one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// How.
    pub how: Answered,
    /// By which version; by neither when the balancer had no target for it.
    pub by: Option<Label>,
}

impl Answer {
    const NONE: Self = Self { how: Answered::Not, by: None };
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// Well.
    Ok,
    /// With an error.
    Error,
    /// Not at all.
    Not,
}

impl Traffic {
    /// Begins to send `GET /` to the address, with Poisson arrivals; a rate of 0 or less sends nothing.
    ///
    /// It must be called within a tokio runtime.
    pub fn start(target: SocketAddr, requests_per_second: f64) -> Self {
        let uri = Uri::builder().scheme("http").authority(target.to_string()).path_and_query("/").build();
        let client: Requests = client(IDLE_CONNECTIONS);
        Self::of(requests_per_second, move || {
            let (client, uri) = (client.clone(), uri.as_ref().ok().cloned());
            async move {
                let Some(uri) = uri else { return Answer::NONE };
                ask(&client, uri).await.unwrap_or(Answer::NONE)
            }
        })
    }

    /// Begins to make requests of any kind, with Poisson arrivals; a rate of 0 or less makes none.
    ///
    /// It must be called within a tokio runtime.
    pub fn of<Request>(
        requests_per_second: f64,
        request: impl Fn() -> Request + Send + Sync + 'static,
    ) -> Self
    where
        Request: Future<Output = Answer> + Send + 'static,
    {
        let (rate, rates) = watch::channel(requests_per_second);
        let counters = Arc::new(Counters::default());
        let mut task = JoinSet::new();
        task.spawn(send_for_ever(request, rates, Arc::clone(&counters)));
        Self { rate, counters, _task: task }
    }

    /// Changes the rate at once.
    pub fn set_rate(&self, requests_per_second: f64) {
        self.rate.send_replace(requests_per_second);
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        // Outcomes are read before what was sent, so that there are never more answers than requests.
        let ok = self.counters.ok.load(Ordering::SeqCst);
        let errors = self.counters.errors.load(Ordering::SeqCst);
        let failed = self.counters.failed.load(Ordering::SeqCst);
        let dropped = self.counters.dropped.load(Ordering::SeqCst);
        let (blue, green) = (self.counters.blue.read(), self.counters.green.read());
        let sent = self.counters.sent.load(Ordering::SeqCst);
        Stats { sent, ok, errors, failed, dropped, blue, green }
    }
}

async fn send_for_ever<Request>(
    request: impl Fn() -> Request,
    mut rates: watch::Receiver<f64>,
    counters: Arc<Counters>,
) where
    Request: Future<Output = Answer> + Send + 'static,
{
    let mut in_flight = JoinSet::new();
    let mut next = Instant::now();
    loop {
        // Each time follows from the one before and not from the clock, so that a late wake-up is made up for.
        next += draw_gap(*rates.borrow_and_update());
        tokio::select! {
            () = tokio::time::sleep_until(next) => send(&mut in_flight, &request, &counters),
            changed = rates.changed() => match changed {
                // Poisson arrivals have no memory: the wait may begin anew.
                Ok(()) => next = Instant::now(),
                Err(_) => return,
            },
        }
    }
}

/// Time between two requests, exponentially distributed.
fn draw_gap(requests_per_second: f64) -> Duration {
    let gap: f64 = rand::rng().sample::<f64, _>(Exp1) / requests_per_second.max(0.0);
    Duration::try_from_secs_f64(gap).map_or(LONGEST_GAP, |gap| gap.min(LONGEST_GAP))
}

fn send<Request>(in_flight: &mut JoinSet<()>, request: impl Fn() -> Request, counters: &Arc<Counters>)
where
    Request: Future<Output = Answer> + Send + 'static,
{
    while in_flight.try_join_next().is_some() {}
    if in_flight.len() >= MOST_IN_FLIGHT {
        counters.dropped.fetch_add(1, Ordering::SeqCst);
        return;
    }
    counters.sent.fetch_add(1, Ordering::SeqCst);
    let (request, counters) = (request(), Arc::clone(counters));
    in_flight.spawn(async move {
        counters.count(tokio::time::timeout(PATIENCE, request).await.unwrap_or(Answer::NONE));
    });
}

/// How it was answered, once the body is there too; an error when there was no answer at all.
async fn ask(client: &Requests, uri: Uri) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let response = client.get(uri).await?;
    let by = response.headers().get(VERSION).and_then(|name| Label::named(name.as_bytes()));
    let is_good = response.status().as_u16() < 500;
    let is_whole = response.into_body().collect().await.is_ok();
    let how = match (is_whole, is_good) {
        (false, _) => Answered::Not,
        (true, true) => Answered::Ok,
        (true, false) => Answered::Error,
    };
    Ok(Answer { how, by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::{Application, Behaviour};
    use crate::load_balancer::http::testing::eventually;

    async fn application(behaviour: Behaviour) -> Application {
        Application::start("blue", Behaviour { latency_ms: 0.0, ..behaviour }).await.unwrap()
    }

    #[tokio::test]
    async fn gaps_are_exponential() {
        let gaps: Vec<_> = (0..10_000).map(|_| draw_gap(50.0).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let longer = gaps.iter().filter(|&&gap| gap > 0.02).count() as f64 / gaps.len() as f64;
        // Mean 1/50 s; a share of 1/e is longer than the mean. Five standard errors.
        assert!((mean - 0.02).abs() < 0.001, "{mean}");
        assert!((longer - (-1.0_f64).exp()).abs() < 0.025, "{longer}");
    }

    #[test]
    fn a_rate_that_is_none_waits() {
        for rate in [0.0, -1.0, f64::NAN, 1e-300] {
            assert_eq!(draw_gap(rate), LONGEST_GAP, "{rate}");
        }
        assert!(draw_gap(f64::INFINITY).is_zero());
    }

    #[tokio::test]
    async fn sends_at_the_rate_and_counts_answers() {
        let application = application(Behaviour::default()).await;
        let started = Instant::now();
        let traffic = Traffic::start(application.address(), 500.0);
        eventually("200 answers", async || traffic.stats().ok >= 200).await;
        let expected = 500.0 * started.elapsed().as_secs_f64();
        let sent = traffic.stats().sent as f64;
        assert!((sent - expected).abs() < 6.0 * expected.sqrt() + 20.0, "{sent} sent, {expected} expected");

        application.set(Behaviour { errors: 1.0, latency_ms: 0.0, ..Behaviour::default() });
        let before = traffic.stats();
        eventually("errors", async || (traffic.stats() - before).errors >= 20).await;
        application.set(Behaviour { accepting: false, ..Behaviour::default() });
        eventually("failures", async || (traffic.stats() - before).failed >= 20).await;
        let stats = traffic.stats();
        assert!(stats.ok + stats.errors + stats.failed <= stats.sent);
        assert_eq!(stats.dropped, 0);
    }

    #[tokio::test]
    async fn does_not_wait_for_answers_but_has_a_limit() {
        let application = application(Behaviour::default()).await;
        application.set(Behaviour { latency_ms: 60_000.0, ..Behaviour::default() });
        let traffic = Traffic::start(application.address(), 20_000.0);
        eventually("the limit", async || traffic.stats().dropped > 0).await;
        let stats = traffic.stats();
        assert_eq!((stats.sent, stats.ok), (MOST_IN_FLIGHT as u64, 0));
    }

    #[tokio::test]
    async fn the_rate_can_change() {
        let application = application(Behaviour::default()).await;
        let traffic = Traffic::start(application.address(), 0.0);
        traffic.set_rate(1_000.0);
        eventually("it sends", async || traffic.stats().ok >= 10).await;
    }
}
