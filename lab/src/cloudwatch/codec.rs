//! Bodies to structs and back, for the two protocols that SDKs speak with CloudWatch.

use ciborium::value::Value as CborValue;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as JsonValue;

use super::invalid;
use crate::api::ApiError;

/// The wire format of a call and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Smithy RPC v2 CBOR: the Rust SDK, and botocore since 1.43.
    Cbor,
    /// AWS JSON 1.0.
    Json,
}

/// The body that carries an error, to be sent with [`ApiError::status`].
pub fn error_body(protocol: Protocol, error: &ApiError) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "__type")]
        code: &'a str,
        message: &'a str,
    }
    encode(protocol, &Body { code: &error.code, message: &error.message }).unwrap_or_default()
}

/// Writes an answer.
pub(super) fn encode(protocol: Protocol, answer: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    let written = match protocol {
        Protocol::Cbor => ciborium::into_writer(answer, &mut body).map_err(|error| error.to_string()),
        Protocol::Json => serde_json::to_writer(&mut body, answer).map_err(|error| error.to_string()),
    };
    match written {
        Ok(()) => Ok(body),
        Err(message) => Err(ApiError { status: 500, code: "InternalServiceFault".to_owned(), message }),
    }
}

/// Reads a request. An error names the member that is wrong.
///
/// CBOR takes the way over JSON values because SDKs disagree on how they write numbers: a timestamp is an integer
/// from botocore and a float from the Rust SDK, and JavaScript writes every whole number as an integer.
pub(super) fn decode<T: DeserializeOwned>(protocol: Protocol, body: &[u8]) -> Result<T, ApiError> {
    if body.starts_with(&[0x1f, 0x8b]) {
        return Err(malformed("the lab reads no gzip; set AWS_DISABLE_REQUEST_COMPRESSION=true"));
    }
    let document = match protocol {
        Protocol::Cbor => cbor_document(body)?,
        Protocol::Json => serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))?,
    };
    serde_path_to_error::deserialize(document)
        .map_err(|error| invalid(format!("{}: {}", error.path(), error.inner())))
}

fn cbor_document(body: &[u8]) -> Result<JsonValue, ApiError> {
    let value = ciborium::from_reader(body).map_err(|error| malformed(&error.to_string()))?;
    plain(value).ok_or_else(|| malformed("the body holds a CBOR type that no CloudWatch member has"))
}

fn malformed(message: &str) -> ApiError {
    ApiError::client("SerializationException", message)
}

/// The same document without CBOR's tags (only timestamps are tagged) and with JSON's one kind of number.
fn plain(value: CborValue) -> Option<JsonValue> {
    Some(match value {
        CborValue::Null => JsonValue::Null,
        CborValue::Bool(flag) => flag.into(),
        CborValue::Integer(number) => i64::try_from(number).ok()?.into(),
        CborValue::Float(number) => number.into(),
        CborValue::Text(text) => text.into(),
        CborValue::Tag(_, inner) => plain(*inner)?,
        CborValue::Array(items) => items.into_iter().map(plain).collect::<Option<Vec<_>>>()?.into(),
        CborValue::Map(members) => {
            let member =
                |(name, value): (CborValue, CborValue)| Some((name.into_text().ok()?, plain(value)?));
            members.into_iter().map(member).collect::<Option<serde_json::Map<_, _>>>()?.into()
        }
        _ => return None,
    })
}
