//! One version of the service under deployment: a real HTTP server whose behaviour can change while it runs.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use rand::RngExt;
use rand_distr::StandardNormal;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::load_balancer::http::serve;

/// How often a version that comes back tries to get its port again.
const BIND_PAUSE: Duration = Duration::from_millis(50);

/// How a version behaves; can be replaced while it runs.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub struct Behaviour {
    /// Share of requests that are answered 500, 0 to 1; the health check is exempt.
    pub errors: f64,
    /// Median response time in milliseconds, of the health check too.
    pub latency_ms: f64,
    /// Sigma of the log-normal distribution around the median; 0 means constant. The default puts the 99th percentile
    /// at 2.5 times the median, far above what a busy machine adds.
    pub latency_spread: f64,
    /// Whether the health check answers 200; else 503.
    pub healthy: bool,
    /// Path of the health check.
    pub health_path: String,
    /// Body of a good answer; without one, a small JSON document that names the version.
    pub body: Option<String>,
    /// Extra headers of a good answer; they replace those of the same name.
    pub headers: BTreeMap<String, String>,
    /// False means that the process is gone: connections break and new ones are refused.
    pub accepting: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            errors: 0.0,
            latency_ms: 20.0,
            latency_spread: 0.4,
            healthy: true,
            health_path: "/health".to_owned(),
            body: None,
            headers: BTreeMap::new(),
            accepting: true,
        }
    }
}

impl Behaviour {
    /// Time that one answer takes.
    pub(crate) fn draw_latency(&self) -> Duration {
        let normal: f64 = rand::rng().sample(StandardNormal);
        let milliseconds = self.latency_ms * (self.latency_spread * normal).exp();
        Duration::try_from_secs_f64(milliseconds / 1_000.0).unwrap_or_default()
    }

    /// Whether one answer is an error.
    pub(crate) fn draw_error(&self) -> bool {
        rand::rng().random::<f64>() < self.errors
    }
}

/// A running version. It stops when dropped.
#[derive(Debug)]
pub struct Application {
    address: SocketAddr,
    behaviour: watch::Sender<Arc<Behaviour>>,
    _server: JoinSet<()>,
}

impl Application {
    /// Starts a version on a free port of 127.0.0.1; `label` is what its answers call it.
    ///
    /// `/echo` answers with the request itself as JSON; every other path but the health check gives the body.
    pub async fn start(label: &str, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (behaviour, changes) = watch::channel(Arc::new(behaviour));
        let mut server = JoinSet::new();
        server.spawn(run(listener, address, Arc::from(label), changes));
        Ok(Self { address, behaviour, _server: server })
    }

    /// Where it listens, also while it refuses connections.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the behaviour, from the next request on.
    pub fn set(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(Arc::new(behaviour));
    }

    /// How it behaves now.
    pub fn behaviour(&self) -> Behaviour {
        Behaviour::clone(&self.behaviour.borrow())
    }
}

async fn run(
    mut listener: TcpListener,
    address: SocketAddr,
    label: Arc<str>,
    mut changes: watch::Receiver<Arc<Behaviour>>,
) {
    let behaviours = changes.clone();
    let service = service_fn(move |request| {
        let behaviour = Arc::clone(&behaviours.borrow());
        answer(Arc::clone(&label), behaviour, request)
    });
    loop {
        // The listener lives no longer than this statement: one that is only kept would still let clients connect.
        tokio::select! {
            biased;
            _ = changes.wait_for(|behaviour| !behaviour.accepting) => {}
            () = serve(listener, service.clone()) => {}
        }
        if changes.wait_for(|behaviour| behaviour.accepting).await.is_err() {
            return;
        }
        listener = bind_again(address).await;
    }
}

/// Tries until it succeeds: someone else may hold the port for a moment.
async fn bind_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => tracing::warn!(%address, %error, "failed to listen again"),
        }
        tokio::time::sleep(BIND_PAUSE).await;
    }
}

async fn answer(
    label: Arc<str>,
    behaviour: Arc<Behaviour>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let latency = behaviour.draw_latency();
    // The timer would make a millisecond of none.
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let path = request.uri().path();
    Ok(if path == behaviour.health_path {
        health(&label, behaviour.healthy)
    } else if behaviour.draw_error() {
        document(StatusCode::INTERNAL_SERVER_ERROR, &json!({"status": "error", "version": *label}))
    } else if path == "/echo" {
        with_headers(echo(request).await, &behaviour.headers)
    } else {
        with_headers(good(&label, behaviour.body.as_ref()), &behaviour.headers)
    })
}

fn health(label: &str, healthy: bool) -> Response<Full<Bytes>> {
    if healthy {
        good(label, None)
    } else {
        document(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "unhealthy", "version": label}))
    }
}

fn good(label: &str, body: Option<&String>) -> Response<Full<Bytes>> {
    match body {
        Some(body) => json_response(StatusCode::OK, body.clone()),
        None => document(StatusCode::OK, &json!({"status": "ok", "version": label})),
    }
}

async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return document(StatusCode::BAD_REQUEST, &json!({"status": "incomplete body"}));
    };
    let echoed = json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": header_texts(&head.headers),
        "body": String::from_utf8_lossy(&body.to_bytes()),
    });
    document(StatusCode::OK, &echoed)
}

fn header_texts(headers: &HeaderMap) -> BTreeMap<&str, String> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

fn document(status: StatusCode, document: &serde_json::Value) -> Response<Full<Bytes>> {
    json_response(status, document.to_string())
}

fn json_response(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// Adds the headers; one that HTTP does not allow makes the answer a 500 that names it.
fn with_headers(
    mut response: Response<Full<Bytes>>,
    headers: &BTreeMap<String, String>,
) -> Response<Full<Bytes>> {
    for (name, value) in headers {
        let (Ok(name), Ok(value)) = (name.parse::<hyper::header::HeaderName>(), value.parse()) else {
            return document(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({"status": "invalid header", "header": name}),
            );
        };
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load_balancer::http::client;
    use crate::load_balancer::http::testing::{eventually, get};

    #[tokio::test]
    async fn answers_with_its_version_and_its_health() {
        let application = Application::start("green", Behaviour::default()).await.unwrap();
        let good = r#"{"status":"ok","version":"green"}"#.to_owned();
        assert_eq!(get(application.address(), "/").await, Ok((200, good.clone())));
        assert_eq!(get(application.address(), "/health").await, Ok((200, good)));

        application.set(Behaviour { healthy: false, errors: 1.0, ..Behaviour::default() });
        assert_eq!(get(application.address(), "/health").await.unwrap().0, 503);
        assert_eq!(get(application.address(), "/").await.unwrap().0, 500);
    }

    #[tokio::test]
    async fn answers_with_the_body_and_headers_it_was_given() {
        let headers = BTreeMap::from([("content-type".to_owned(), "text/plain".to_owned())]);
        let behaviour = Behaviour { body: Some("hello".to_owned()), headers, ..Behaviour::default() };
        let application = Application::start("blue", behaviour.clone()).await.unwrap();
        assert_eq!(application.behaviour(), behaviour);

        let uri = format!("http://{}/", application.address()).parse().unwrap();
        let response = client::<Full<Bytes>>(0).get(uri).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    }

    #[tokio::test]
    async fn an_invalid_header_is_told() {
        let headers = BTreeMap::from([("not a name".to_owned(), "1".to_owned())]);
        let application =
            Application::start("blue", Behaviour { headers, ..Behaviour::default() }).await.unwrap();
        let (status, body) = get(application.address(), "/").await.unwrap();
        assert_eq!(status, 500);
        assert!(body.contains("not a name"), "{body}");
    }

    #[tokio::test]
    async fn echoes_the_request() {
        let application = Application::start("blue", Behaviour::default()).await.unwrap();
        let request = Request::post(format!("http://{}/echo?a=1", application.address()))
            .header("x-check", "smoke")
            .body(Full::<Bytes>::from("ping"))
            .unwrap();
        let response = client(0).request(request).await.unwrap();
        let echoed: serde_json::Value =
            serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(echoed["method"], "POST");
        assert_eq!(echoed["path"], "/echo");
        assert_eq!(echoed["query"], "a=1");
        assert_eq!(echoed["headers"]["x-check"], "smoke");
        assert_eq!(echoed["body"], "ping");
    }

    #[tokio::test]
    async fn is_gone_and_comes_back_on_the_same_port() {
        let application = Application::start("blue", Behaviour::default()).await.unwrap();
        let address = application.address();
        for _ in 0..3 {
            application.set(Behaviour { accepting: false, ..Behaviour::default() });
            eventually("connections are refused", async || {
                tokio::net::TcpStream::connect(address).await.is_err()
            })
            .await;
            application.set(Behaviour::default());
            eventually("it is back", async || get(address, "/").await.is_ok()).await;
        }
        drop(application);
        eventually("it stops when dropped", async || get(address, "/").await.is_err()).await;
    }

    #[tokio::test]
    async fn a_version_that_starts_gone_refuses_connections() {
        let gone = Behaviour { accepting: false, ..Behaviour::default() };
        let application = Application::start("blue", gone).await.unwrap();
        let address = application.address();
        eventually("connections are refused", async || {
            tokio::net::TcpStream::connect(address).await.is_err()
        })
        .await;
    }

    #[test]
    fn latency_has_the_given_median() {
        let behaviour = Behaviour { latency_ms: 40.0, latency_spread: 0.5, ..Behaviour::default() };
        let mut drawn: Vec<_> = (0..4_001).map(|_| behaviour.draw_latency()).collect();
        drawn.sort();
        // The median of 4,001 draws has a standard error of about 0.4 ms.
        let median = drawn[2_000].as_secs_f64() * 1_000.0;
        assert!((37.0..43.0).contains(&median), "{median}");
        assert!(drawn[4_000] > 2 * drawn[0]);
    }

    #[test]
    fn a_behaviour_with_an_unknown_key_is_rejected() {
        assert!(serde_json::from_str::<Behaviour>(r#"{"errors": 0.1}"#).is_ok());
        assert!(serde_json::from_str::<Behaviour>(r#"{"error": 0.1}"#).is_err());
    }
}
