//! The HTTP client of AWS's clients: the one that smoke checks use as well, so that a function carries one and not two.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use reqwest::redirect::Policy as Redirects;
use reqwest::{Body, Client, Request};

/// One for all clients, so that connections outlive the clients of a run. It makes nothing before the first call: a run has
/// seven clients and calls few of them, and the root certificates, which are parsed then, are most of the work of a start.
pub fn http_client() -> SharedHttpClient {
    SharedHttpClient::new(Http::default())
}

/// Clients by their limits for connecting and for reading: each has its own connections.
#[derive(Debug, Clone, Default)]
struct Http(Arc<Mutex<HashMap<Limits, Client>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Limits {
    connect: Option<Duration>,
    read: Option<Duration>,
}

impl Http {
    fn client(&self, limits: Limits) -> Result<Client, ConnectorError> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&limits) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder().redirect(Redirects::none()).no_proxy();
        if let Some(limit) = limits.connect {
            builder = builder.connect_timeout(limit);
        }
        if let Some(limit) = limits.read {
            builder = builder.read_timeout(limit);
        }
        let client = builder.build().map_err(|error| ConnectorError::user(error.into()))?;
        clients.insert(limits, client.clone());
        Ok(client)
    }
}

impl HttpClient for Http {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let limits = Limits { connect: settings.connect_timeout(), read: settings.read_timeout() };
        SharedHttpConnector::new(Connector { http: self.clone(), limits })
    }
}

#[derive(Debug)]
struct Connector {
    http: Http,
    limits: Limits,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.http.client(self.limits);
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let request = Request::try_from(request.map(Body::wrap)).map_err(told)?;
            let response = client?.execute(request).await.map_err(told)?;
            let response = http::Response::from(response).map(SdkBody::from_body_1_x);
            HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// As the SDK tells errors apart: what it takes to be of the connection, or of time, it tries again.
fn told(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else if error.is_builder() {
        ConnectorError::user(error.into())
    } else {
        ConnectorError::io(error.into())
    }
}
