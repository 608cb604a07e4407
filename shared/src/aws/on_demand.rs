//! One HTTP client for all clients of AWS, which makes nothing before the first call.

use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// One for all clients, so that connections outlive the clients of a run.
pub(crate) fn http_client() -> SharedHttpClient {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    SharedHttpClient::new(OnDemand(Builder::new().tls_provider(tls).build_https()))
}

/// What it wraps parses all root certificates whenever a client of AWS is made with it, to be ready for the first call. A run
/// has seven clients and calls few of them; that was most of the work of a start, and of a warm invocation.
#[derive(Debug)]
struct OnDemand(SharedHttpClient);

impl HttpClient for OnDemand {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}
