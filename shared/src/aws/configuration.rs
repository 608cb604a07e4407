//! The configuration of AWS's clients.

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudwatch::config::SharedCredentialsProvider;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use super::http::http_client;
use super::limited;
use crate::environment;

/// The configuration of any client of AWS, with our time limits and retries: from the environment's variables, as Lambda sets
/// them, and from nothing else. A function has no use for profiles, roles to assume and metadata services, and the code
/// that asks them would be a part of it (docs/measured/binaries.md).
pub fn configuration() -> SdkConfig {
    let region = environment::variable("AWS_REGION").or_else(|| environment::variable("AWS_DEFAULT_REGION"));
    let mut builder = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region.map(Region::new))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .http_client(http_client())
        .service_config(Endpoints)
        .use_fips(is_true("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(is_true("AWS_USE_DUALSTACK_ENDPOINT"));
    builder.set_endpoint_url(endpoint(""));
    limited(&builder.build())
}

/// Endpoints of single services, as the SDK asks for them: `AWS_ENDPOINT_URL_CODEDEPLOY`.
#[derive(Debug)]
struct Endpoints;

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        if key.env() != "AWS_ENDPOINT_URL" {
            return None;
        }
        endpoint(&suffix(key.service_id()))
    }
}

/// What the variable with a service's endpoint ends with; `id` is the service's in AWS's models.
fn suffix(id: &str) -> String {
    format!("_{}", id.to_uppercase().replace(' ', "_"))
}

fn endpoint(of: &str) -> Option<String> {
    if is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
        return None;
    }
    environment::variable(&format!("AWS_ENDPOINT_URL{of}"))
}

fn is_true(variable: &str) -> bool {
    environment::variable(variable).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the SDKs and Tools Reference Guide lists them ("Service-specific endpoints").
    #[test]
    fn variables_of_services_are_named_as_for_every_sdk() {
        assert_eq!(suffix("CodeDeploy"), "_CODEDEPLOY");
        assert_eq!(suffix("Elastic Load Balancing v2"), "_ELASTIC_LOAD_BALANCING_V2");
    }
}
