//! The Runtime API: the four HTTP calls by which a function's process gets events and answers them.
//!
//! Each process has a server of its own, so a call needs no more than its port to tell whose it is.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{Request, function_arn};
use crate::endpoint::{self, Endpoint};

/// Lambda's limit for an answer, in bytes.
const ANSWER_LIMIT: usize = 6 * 1024 * 1024;

/// What a process told its Runtime API.
#[derive(Debug)]
pub(super) enum Told {
    /// It asks for an event: it is ready.
    Ready,
    /// It could not start.
    InitError(Bytes),
    /// It answered the event of this request id.
    Answer(String, Bytes),
    /// It answered the event of this request id with an error.
    Error(String, Bytes),
}

/// The lab's end of one process's Runtime API.
pub(super) struct RuntimeApi {
    /// Where the process finds it.
    pub address: SocketAddr,
    /// Events for the process.
    pub events: mpsc::UnboundedSender<Event>,
    /// What the process said.
    pub told: mpsc::UnboundedReceiver<Told>,
    /// Aborted when dropped.
    _server: JoinSet<()>,
}

/// An event as the process gets it.
pub(super) struct Event {
    request: Request,
    headers: [(&'static str, String); 5],
}

impl Event {
    /// The event of `request` for the function `name`, to be answered within `timeout` from now.
    pub fn new(request: Request, name: &str, timeout: Duration) -> Self {
        let deadline_ms = jiff::Timestamp::now().as_millisecond() + timeout.as_millis() as i64;
        let trace = uuid::Uuid::new_v4().simple().to_string();
        let headers = [
            ("lambda-runtime-aws-request-id", request.id.clone()),
            ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
            ("lambda-runtime-invoked-function-arn", function_arn(name)),
            ("lambda-runtime-trace-id", format!("Root=1-{}-{};Sampled=0", &trace[..8], &trace[8..])),
            ("content-type", "application/json".to_owned()),
        ];
        Self { request, headers }
    }
}

/// The process's end.
struct Ends {
    /// A lock that may be held while waiting: a process asks for one event at a time.
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>,
    told: mpsc::UnboundedSender<Told>,
}

impl RuntimeApi {
    pub async fn start() -> std::io::Result<Self> {
        let (events, events_receiver) = mpsc::unbounded_channel();
        let (told_sender, told) = mpsc::unbounded_channel();
        let ends = Ends { events: events_receiver.into(), told: told_sender };
        let listener = Endpoint::bind(0).await?;
        let address = listener.local_addr()?;
        let server = endpoint::serve(listener, router(Arc::new(ends)));
        Ok(Self { address, events, told, _server: server })
    }
}

fn router(ends: Arc<Ends>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .layer(DefaultBodyLimit::max(ANSWER_LIMIT))
        .with_state(ends)
}

async fn next(State(ends): State<Arc<Ends>>) -> Response {
    ends.tell(Told::Ready);
    match ends.events.lock().await.recv().await {
        Some(Event { request, headers }) => (headers, request.payload).into_response(),
        None => StatusCode::GONE.into_response(),
    }
}

async fn response(State(ends): State<Arc<Ends>>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    ends.tell(Told::Answer(id, body))
}

async fn error(State(ends): State<Arc<Ends>>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    ends.tell(Told::Error(id, body))
}

async fn init_error(State(ends): State<Arc<Ends>>, body: Bytes) -> StatusCode {
    ends.tell(Told::InitError(body))
}

impl Ends {
    fn tell(&self, told: Told) -> StatusCode {
        match self.told.send(told) {
            Ok(()) => StatusCode::ACCEPTED,
            Err(_) => StatusCode::GONE, // the sandbox is being torn down
        }
    }
}
