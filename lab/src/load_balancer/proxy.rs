//! The way of one request: choose a target, pass the request on, count what happened.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::http::{client, serve};
use super::listener::Listener;
use super::metrics::{Meter, Place};
use super::target_group::Target;

/// A target's answer, or the balancer's own.
type ProxyBody = Either<Incoming, Full<Bytes>>;

/// Idle timeout of an Application Load Balancer, by default.
const TARGET_TIMEOUT: Duration = Duration::from_mins(1);
/// Connections that are kept to each target: more than the lab's traffic has in flight when all is well.
const IDLE_CONNECTIONS: usize = 100;
/// Headers that concern one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Tells the lab's users which version a request went to, whoever answered it: an error of the balancer itself names no version
/// otherwise. AWS has no such header, and nothing but the lab's users reads it.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("x-lab-version");

/// What every request of a listener needs.
struct Proxy {
    listener: Arc<Listener>,
    meter: Arc<Meter>,
    client: Client<HttpConnector, Incoming>,
}

/// Proxies the connections of a listener for ever.
pub(super) async fn proxy_for_ever(socket: TcpListener, listener: Arc<Listener>, meter: Arc<Meter>) {
    let proxy = Arc::new(Proxy { listener, meter, client: client(IDLE_CONNECTIONS) });
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.answer(request).await) }
    });
    serve(socket, service).await;
}

impl Proxy {
    async fn answer(&self, request: Request<Incoming>) -> Response<ProxyBody> {
        self.listener.arrived(super::metrics::now());
        // As on AWS, a request without a target is no request of any target group.
        let Some((group, target)) = self.listener.choose(&request) else {
            return self.own_error(StatusCode::SERVICE_UNAVAILABLE);
        };
        let place = Place { target_group: &group.dimension, zone: &target.zone };
        self.meter.request(place);
        let mut response =
            self.ask(place, &target, request).await.unwrap_or_else(|status| self.own_error(status));
        response.headers_mut().insert(VERSION, HeaderValue::from_static(target.version.as_str()));
        response
    }

    /// The target's answer, or the status that the balancer gives in its stead.
    async fn ask(
        &self,
        place: Place<'_>,
        target: &Target,
        request: Request<Incoming>,
    ) -> Result<Response<ProxyBody>, StatusCode> {
        let request = to_target(request, target).map_err(|_| StatusCode::BAD_GATEWAY)?;
        let started = Instant::now();
        let answer = tokio::time::timeout(TARGET_TIMEOUT, self.client.request(request)).await;
        let mut response = answer.map_err(|_| StatusCode::GATEWAY_TIMEOUT)?.map_err(|error| {
            if error.is_connect() {
                self.meter.connection_error(place);
            }
            StatusCode::BAD_GATEWAY
        })?;
        self.meter.answer(place, response.status(), started.elapsed());
        remove_hop_by_hop(response.headers_mut());
        Ok(response.map(Either::Left))
    }

    fn own_error(&self, status: StatusCode) -> Response<ProxyBody> {
        self.meter.own_error();
        let mut response = Response::new(Either::Right(Full::from(status.to_string())));
        *response.status_mut() = status;
        response.headers_mut().insert(header::SERVER, HeaderValue::from_static("awselb/2.0"));
        response
    }
}

fn to_target(
    mut request: Request<Incoming>,
    target: &Target,
) -> Result<Request<Incoming>, hyper::http::Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri =
        Uri::builder().scheme("http").authority(target.address.to_string()).path_and_query(path).build()?;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    remove_hop_by_hop(request.headers_mut());
    Ok(request)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}
