//! Clients of AWS whose answers come from an input, without a network.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudwatch::config::http::{HttpRequest, HttpResponse};
use aws_sdk_cloudwatch::config::{
    AsyncSleep, Credentials, HttpClient, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient,
    Sleep, StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::http::StatusCode;
use shiftgate::aws::Aws;
use tokio::runtime::{Builder, Runtime};

/// An answer of AWS.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Content type; the SDK does not read an answer of another one than its protocol's.
    pub content_type: &'static str,
    /// Body.
    pub body: Vec<u8>,
}

/// What AWS says when an input has no more answers: nothing that is tried again.
const REFUSED: Answer = Answer { status: 400, content_type: "application/json", body: Vec::new() };

/// Runs `work` with clients that get these answers, in this order, whatever they ask.
pub fn with_answers<T>(answers: Vec<Answer>, work: impl AsyncFnOnce(&Aws) -> T) -> T {
    thread_local! {
        static STAND_IN: RefCell<Option<StandIn>> = const { RefCell::new(None) };
    }
    STAND_IN.with_borrow_mut(|stand_in| {
        let StandIn { runtime, aws, left } = stand_in.get_or_insert_with(StandIn::new);
        left.put(answers);
        runtime.block_on(work(aws))
    })
}

struct StandIn {
    runtime: Runtime,
    aws: Aws,
    left: Left,
}

impl StandIn {
    fn new() -> Self {
        let left = Left::default();
        let credentials = Credentials::new("AKIDFUZZ", "secret", None, None, "fuzz");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(SharedHttpClient::new(left.clone()))
            .sleep_impl(Impatient)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        let runtime = Builder::new_current_thread().build();
        Self { runtime: runtime.unwrap_or_else(|error| panic!("{error}")), aws: Aws::new(&config), left }
    }
}

/// The answers that are left.
#[derive(Debug, Clone, Default)]
struct Left(Arc<Mutex<VecDeque<Answer>>>);

impl Left {
    fn put(&self, answers: Vec<Answer>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answers.into();
    }

    fn next(&self) -> Answer {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(REFUSED)
    }
}

impl HttpConnector for Left {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let Answer { status, content_type, body } = self.next();
        let status = StatusCode::try_from(status).unwrap_or_else(|error| panic!("{error}"));
        let mut response = HttpResponse::new(status, body.into());
        response.headers_mut().insert("content-type", content_type);
        response.headers_mut().insert("smithy-protocol", "rpc-v2-cbor");
        HttpConnectorFuture::ready(Ok(response))
    }
}

impl HttpClient for Left {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Pauses between two attempts take no time. Nothing runs into a time limit, since every answer is there at once.
#[derive(Debug)]
struct Impatient;

impl AsyncSleep for Impatient {
    fn sleep(&self, _: Duration) -> Sleep {
        Sleep::new(std::future::ready(()))
    }
}
