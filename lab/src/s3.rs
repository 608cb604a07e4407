//! S3 (REST with XML), as far as objects go that are put and read in one piece: the template's buckets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use uuid::Uuid;

use crate::api::ApiError;

/// The buckets of the pretended account.
#[derive(Debug, Default)]
pub struct Buckets {
    objects: Mutex<BTreeMap<String, BTreeMap<String, Object>>>,
}

/// What lies under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its media type.
    pub content_type: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// What a request asks for, by its method.
pub fn operation(method: &Method) -> Option<&'static str> {
    match *method {
        Method::PUT => Some("PutObject"),
        Method::GET => Some("GetObject"),
        _ => None,
    }
}

impl Buckets {
    /// These buckets, empty.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { objects: Mutex::new(names.into_iter().map(|name| (name, BTreeMap::new())).collect()) }
    }

    /// What a bucket holds, by key.
    pub fn objects(&self, bucket: &str) -> BTreeMap<String, Object> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).get(bucket).cloned().unwrap_or_default()
    }

    /// Answers a call; `path` is `BUCKET/KEY`.
    pub fn handle(
        &self,
        operation: &str,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Response<Body>, ApiError> {
        let (name, key) = path.split_once('/').unwrap_or((path, ""));
        let mut buckets = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets
            .get_mut(name)
            .ok_or_else(|| missing("NoSuchBucket", "The specified bucket does not exist"))?;
        if operation == "GetObject" {
            let found = bucket.get(key);
            return found
                .map(content)
                .ok_or_else(|| missing("NoSuchKey", "The specified key does not exist."));
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if text(header::CONTENT_ENCODING).is_some_and(|encoding| encoding.contains("aws-chunked")) {
            let why = "the lab takes objects in one piece only";
            return Err(ApiError { status: 501, ..ApiError::client("NotImplemented", why) });
        }
        let content_type = text(header::CONTENT_TYPE).unwrap_or("binary/octet-stream").to_owned();
        bucket.insert(key.to_owned(), Object { content_type, content: body.to_vec() });
        let mut response = Response::new(Body::empty());
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", Uuid::new_v4().simple())) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        Ok(response)
    }
}

fn content(object: &Object) -> Response<Body> {
    let mut response = Response::new(Body::from(object.content.clone()));
    if let Ok(kind) = HeaderValue::from_str(&object.content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

fn missing(code: &str, message: &str) -> ApiError {
    ApiError { status: StatusCode::NOT_FOUND.as_u16(), ..ApiError::client(code, message) }
}

/// An error as S3 writes it.
pub fn error_response(error: &ApiError) -> Vec<u8> {
    let escaped = quick_xml::escape::escape(&error.message);
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{escaped}</Message></Error>", error.code)
        .into_bytes()
}
