//! Answers that are not what they should be, in each of the wire protocols.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, Response, header};
use ciborium::Value;
use futures_util::StreamExt;
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

use super::Fault;

/// How far the clocks are apart, in seconds.
const SKEW: f64 = 300.0;
/// What a page that the lab makes up calls the next one, before its number: clients notice a page that names itself.
const TOKEN: &str = "a-page-of-the-lab";
/// A value that no client knows.
const TOMORROW: &str = "VALUE_OF_TOMORROW";
/// Time between two bytes of a slow answer: slower than any client waits for the whole.
const TRICKLE: Duration = Duration::from_millis(100);
/// Fields that hold one of a few values.
const CHOICES: [&str; 9] = [
    "status",
    "deploymentstatus",
    "state",
    "statevalue",
    "statuscode",
    "creator",
    "type",
    "protocol",
    "lifecyclestage",
];
/// Seconds since the epoch from 2020 to 2050: nothing else that AWS answers is as large.
const TIMES: std::ops::Range<f64> = 1.58e9..2.53e9;

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// JSON.
    Json,
    /// CBOR.
    Cbor,
    /// A form in the request, XML in the answer.
    Xml,
}

/// The request as the service is to see it: by its own clock, and without the name of a page that it never gave. The flag
/// says whether the request asked for such a page.
pub fn distort_request(fault: Fault, syntax: Syntax, body: &[u8]) -> (Vec<u8>, bool) {
    if syntax == Syntax::Xml {
        let text = String::from_utf8_lossy(body);
        let fields = text.split('&').filter(|field| !field.starts_with(&format!("Marker={TOKEN}")));
        let kept = fields.collect::<Vec<_>>().join("&");
        let paged = kept.len() < text.len();
        return (kept.into_bytes(), paged);
    }
    let Some(mut message) = read(syntax, body) else { return (body.to_vec(), false) };
    let mut paged = false;
    if let Value::Map(fields) = &mut message {
        let before = fields.len();
        fields.retain(|(_, value)| !value.as_text().is_some_and(|text| text.starts_with(TOKEN)));
        paged = fields.len() < before;
    }
    if let Some(ahead) = ahead(fault) {
        shift_times(&mut message, -ahead);
    }
    (write(syntax, &message).unwrap_or_else(|| body.to_vec()), paged)
}

/// The answer as the caller gets to see it. `paged` says whether it is a page after the first.
pub async fn distort_response(
    fault: Fault,
    syntax: Syntax,
    paged: bool,
    response: Response<Body>,
) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else { return Response::from_parts(head, Body::empty()) };
    if let Some(date) = ahead(fault).and_then(http_date) {
        head.headers.insert(header::DATE, date);
    }
    let body = match fault {
        Fault::Slow => Body::from_stream(trickle(body)),
        Fault::Reset => Body::from_stream(torn(body)),
        Fault::Truncated => Body::from(body.slice(..body.len() / 2)),
        Fault::Garbage => {
            head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            Body::from("<html>proxy error</html>")
        }
        Fault::WrongType => {
            head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            Body::from(body)
        }
        // Errors are not pages, and hold nothing to change.
        _ if !head.status.is_success() => Body::from(body),
        Fault::UnknownFields
        | Fault::UnknownValues
        | Fault::EmptyPage
        | Fault::EndlessPages
        | Fault::ClockAhead
        | Fault::ClockBehind => Body::from(changed(fault, syntax, paged, &body)),
        _ => Body::from(body),
    };
    Response::from_parts(head, body)
}

/// How many seconds AWS's clock is ahead of the caller's, for a fault of clocks.
fn ahead(fault: Fault) -> Option<f64> {
    match fault {
        Fault::ClockAhead => Some(SKEW),
        Fault::ClockBehind => Some(-SKEW),
        _ => None,
    }
}

/// The `Date` of a clock that is so many seconds ahead.
fn http_date(ahead: f64) -> Option<HeaderValue> {
    let now = Timestamp::now().checked_add(SignedDuration::try_from_secs_f64(ahead).ok()?).ok()?;
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
    HeaderValue::from_str(&text).ok()
}

/// One byte after the other.
fn trickle(body: Bytes) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    futures_util::stream::iter(0..body.len()).then(move |at| {
        let byte = body.slice(at..=at);
        async move {
            tokio::time::sleep(TRICKLE).await;
            Ok(byte)
        }
    })
}

/// Half of it, and then a broken connection.
fn torn(body: Bytes) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    futures_util::stream::iter([Ok(body.slice(..body.len() / 2)), Err(broken)])
}

fn changed(fault: Fault, syntax: Syntax, paged: bool, body: &[u8]) -> Vec<u8> {
    if syntax == Syntax::Xml {
        return changed_xml(fault, paged, &String::from_utf8_lossy(body)).into_bytes();
    }
    let Some(mut message) = read(syntax, body) else { return body.to_vec() };
    match fault {
        Fault::UnknownFields => each_map(&mut message, &|fields| {
            fields.push((
                Value::Text("fieldOfTomorrow".to_owned()),
                Value::Array(vec![Value::Integer(1.into())]),
            ));
        }),
        Fault::UnknownValues => each_map(&mut message, &|fields| {
            for (name, value) in fields {
                let is_choice = name.as_text().is_some_and(|name| CHOICES.contains(&&*name.to_lowercase()));
                if is_choice && value.is_text() {
                    *value = Value::Text(TOMORROW.to_owned());
                }
            }
        }),
        Fault::EmptyPage if !paged => {
            if let Value::Map(fields) = &mut message {
                for (_, value) in fields.iter_mut().filter(|(_, value)| value.is_array()) {
                    *value = Value::Array(Vec::new());
                }
            }
            name_next(&mut message);
        }
        Fault::EndlessPages => name_next(&mut message),
        fault => {
            if let Some(ahead) = ahead(fault) {
                shift_times(&mut message, ahead);
            }
        }
    }
    write(syntax, &message).unwrap_or_else(|| body.to_vec())
}

/// The load balancer's answers have no times that anybody reads.
fn changed_xml(fault: Fault, paged: bool, text: &str) -> String {
    match fault {
        Fault::UnknownFields => {
            text.replace("<member>", "<member><FieldOfTomorrow><Value>1</Value></FieldOfTomorrow>")
        }
        Fault::UnknownValues => ["State", "Type", "Protocol"].iter().fold(text.to_owned(), |text, tag| {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
            let mut parts = text.split(&open);
            let mut changed = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                changed.push_str(&open);
                match part.split_once(&close) {
                    // A field of fields keeps them.
                    Some((value, rest)) if !value.contains('<') => {
                        changed.push_str(TOMORROW);
                        changed.push_str(&close);
                        changed.push_str(rest);
                    }
                    _ => changed.push_str(part),
                }
            }
            changed
        }),
        Fault::EmptyPage if !paged => {
            let emptied = text.split_once("<member>").and_then(|(before, _)| {
                // From the first item to the end of the list, which is the last field of a result.
                let list = before.rfind('<').map(|at| before[at..].trim_matches(['<', '>']).to_owned())?;
                let (_, after) = text.rsplit_once(&format!("</{list}>"))?;
                Some(format!("{before}</{list}>{after}"))
            });
            name_next_xml(emptied.as_deref().unwrap_or(text))
        }
        Fault::EndlessPages => name_next_xml(text),
        _ => text.to_owned(),
    }
}

/// The name of a page that nobody has asked for yet.
fn next_page() -> String {
    static PAGES: AtomicU64 = AtomicU64::new(0);
    format!("{TOKEN}-{}", PAGES.fetch_add(1, Ordering::Relaxed))
}

fn name_next_xml(text: &str) -> String {
    let next = format!("<NextMarker>{}</NextMarker>", next_page());
    match text.rfind("Result>").and_then(|end| text[..end].rfind("</")) {
        Some(end) => format!("{}{next}{}", &text[..end], &text[end..]),
        None => text.to_owned(),
    }
}

/// Services disagree in how they spell it; clients leave out what they do not know.
fn name_next(message: &mut Value) {
    if let Value::Map(fields) = message {
        let next = next_page();
        for name in ["NextToken", "nextToken"] {
            fields.push((Value::Text(name.to_owned()), Value::Text(next.clone())));
        }
    }
}

fn shift_times(message: &mut Value, seconds: f64) {
    match message {
        Value::Map(fields) => fields.iter_mut().for_each(|(_, value)| shift_times(value, seconds)),
        Value::Array(items) => items.iter_mut().for_each(|item| shift_times(item, seconds)),
        Value::Tag(_, inner) => shift_times(inner, seconds),
        Value::Float(time) if TIMES.contains(time) => *time += seconds,
        Value::Integer(time) => {
            let time_f64 = i128::from(*time) as f64;
            if TIMES.contains(&time_f64) {
                *message = Value::Integer(((time_f64 + seconds) as i64).into());
            }
        }
        _ => {}
    }
}

fn each_map(message: &mut Value, change: &impl Fn(&mut Vec<(Value, Value)>)) {
    match message {
        Value::Map(fields) => {
            for (_, value) in fields.iter_mut() {
                each_map(value, change);
            }
            change(fields);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_map(item, change)),
        _ => {}
    }
}

fn read(syntax: Syntax, body: &[u8]) -> Option<Value> {
    match syntax {
        Syntax::Json => serde_json::from_slice(body).ok(),
        Syntax::Cbor => ciborium::from_reader(body).ok(),
        Syntax::Xml => None,
    }
}

fn write(syntax: Syntax, message: &Value) -> Option<Vec<u8>> {
    match syntax {
        Syntax::Json => serde_json::to_vec(message).ok(),
        Syntax::Cbor => {
            let mut body = Vec::new();
            ciborium::into_writer(message, &mut body).ok().map(|()| body)
        }
        Syntax::Xml => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed_json(fault: Fault, paged: bool, body: &serde_json::Value) -> serde_json::Value {
        serde_json::from_slice(&changed(fault, Syntax::Json, paged, body.to_string().as_bytes())).unwrap()
    }

    #[test]
    fn json_is_changed_as_the_fault_says() {
        let body = json!({"items": [{"status": "Ready", "at": 1_800_000_000.5, "n": 7}]});
        let tomorrow = changed_json(Fault::UnknownValues, false, &body);
        assert_eq!(tomorrow["items"][0]["status"], TOMORROW);
        assert_eq!(changed_json(Fault::ClockAhead, false, &body)["items"][0]["at"], 1_800_000_300.5);
        assert_eq!(changed_json(Fault::ClockBehind, false, &body)["items"][0]["at"], 1_799_999_700.5);
        assert_eq!(changed_json(Fault::ClockBehind, false, &body)["items"][0]["n"], 7);
        assert_eq!(
            changed_json(Fault::UnknownFields, false, &body)["items"][0]["fieldOfTomorrow"],
            json!([1])
        );
        let empty = changed_json(Fault::EmptyPage, false, &body);
        assert_eq!(empty["items"], json!([]));
        assert!(empty["nextToken"].as_str().unwrap().starts_with(TOKEN));
        assert_eq!(changed_json(Fault::EmptyPage, true, &body), body);
        let next = || changed_json(Fault::EndlessPages, true, &body)["NextToken"].clone();
        assert_ne!(next(), next());
    }

    #[test]
    fn requests_lose_pages_that_the_service_never_named() {
        let body = json!({"id": "d-1", "nextToken": next_page(), "from": 1_800_000_000});
        let (asked, paged) = distort_request(Fault::ClockAhead, Syntax::Json, body.to_string().as_bytes());
        assert!(paged);
        let asked: serde_json::Value = serde_json::from_slice(&asked).unwrap();
        assert_eq!(asked, json!({"id": "d-1", "from": 1_799_999_700}));
        let (form, paged) = distort_request(
            Fault::EmptyPage,
            Syntax::Xml,
            format!("Action=A&Marker={}", next_page()).as_bytes(),
        );
        assert_eq!((form.as_slice(), paged), (b"Action=A".as_slice(), true));
        assert_eq!(
            distort_request(Fault::EmptyPage, Syntax::Xml, b"Action=A"),
            (b"Action=A".to_vec(), false)
        );
    }

    #[test]
    fn xml_is_changed_as_the_fault_says() {
        let xml = "<R><ThingsResult><Things><member><State><Code>on</Code></State><Type>alb</Type></member><member/></Things></ThingsResult><M/></R>";
        let tomorrow = changed_xml(Fault::UnknownValues, false, xml);
        assert!(tomorrow.contains("<Type>VALUE_OF_TOMORROW</Type>") && tomorrow.contains("<Code>on</Code>"));
        let emptied = changed_xml(Fault::EmptyPage, false, xml);
        assert!(
            emptied.starts_with(&format!("<R><ThingsResult><Things></Things><NextMarker>{TOKEN}-")),
            "{emptied}"
        );
        assert!(emptied.ends_with("</NextMarker></ThingsResult><M/></R>"), "{emptied}");
        assert_eq!(changed_xml(Fault::EmptyPage, true, xml), xml);
        assert!(changed_xml(Fault::EndlessPages, true, xml).contains("<member/></Things><NextMarker>"));
        assert!(changed_xml(Fault::UnknownFields, false, xml).contains("<FieldOfTomorrow>"));
    }

    #[test]
    fn cbor_keeps_its_times_as_times() {
        let message = Value::Map(vec![(
            Value::Text("At".to_owned()),
            Value::Tag(1, Box::new(Value::Float(1_800_000_000.0))),
        )]);
        let mut body = Vec::new();
        ciborium::into_writer(&message, &mut body).unwrap();
        let moved = read(Syntax::Cbor, &changed(Fault::ClockAhead, Syntax::Cbor, false, &body)).unwrap();
        let Value::Map(fields) = moved else { panic!("not a map") };
        assert_eq!(fields[0].1, Value::Tag(1, Box::new(Value::Float(1_800_000_300.0))));
    }
}
