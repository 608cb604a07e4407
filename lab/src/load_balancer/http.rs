//! HTTP/1.1 over loopback: the accept loop and the pooled client that the lab's traffic runs through.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long accepting rests after an error, which is nearly always "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Idle connections are closed after this time.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Serves connections for ever. Dropping the future closes the listener and all its connections.
pub(crate) async fn serve<S, B>(listener: TcpListener, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(serve_connection(stream, service.clone())); }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection<S, B>(stream: TcpStream, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    // Without it, Nagle's algorithm and delayed acknowledgements add 40 ms to small answers.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "failed to set TCP_NODELAY");
    }
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A client that keeps at most `idle_connections` open per address; 0 means a new connection for every request.
pub(crate) fn client<B>(idle_connections: usize) -> Client<HttpConnector, B>
where
    B: Body<Data: Send> + Send,
{
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(idle_connections)
        .build(connector)
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of the lab's HTTP parts share.

    use std::net::SocketAddr;
    use std::time::Duration;

    use http_body_util::{BodyExt, Empty};
    use hyper::Request;
    use hyper::body::Bytes;

    /// `GET path` on a new connection: status and body, or why there was no answer.
    pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
        let request = Request::get(format!("http://{address}{path}")).body(Empty::<Bytes>::new()).unwrap();
        let response = super::client(0).request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Waits until `condition` holds; panics after five seconds.
    pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let held = async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(5), held).await.is_ok(),
            "never became true: {what}"
        );
    }
}
