//! Why a request has no answer, in the reader's words. Names neither the URL nor what the server sent: both may hold secrets.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::time::Duration;

use reqwest::Url;
use rustls::CertificateError;

/// Redirects that are followed where the check asks for it.
const MOST_REDIRECTS: usize = 5;
/// Names of a certificate that are told.
const MOST_NAMES: usize = 3;

/// A redirect that is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Astray {
    /// To something else than the listener that was asked.
    #[error("it redirects to another {0}, which is not followed")]
    Elsewhere(&'static str),
    /// In a circle, as a rule.
    #[error("it redirects more than {MOST_REDIRECTS} times")]
    TooOften,
}

impl Astray {
    /// What is wrong with going on to `next` after `previous`.
    pub fn of(previous: &[Url], next: &Url) -> Option<Self> {
        let first = previous.first()?;
        if next.scheme() != first.scheme() {
            Some(Self::Elsewhere("scheme"))
        } else if next.host() != first.host() {
            Some(Self::Elsewhere("host"))
        } else if next.port_or_known_default() != first.port_or_known_default() {
            Some(Self::Elsewhere("port"))
        } else {
            (previous.len() > MOST_REDIRECTS).then_some(Self::TooOften)
        }
    }
}

/// Why there is no answer at all.
pub fn without_answer(error: &reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() {
        format!("no answer within {} ms", timeout.as_millis())
    } else {
        format!("no answer: {}", why(error))
    }
}

/// Why an answer that began has no end.
pub fn within_answer(error: &reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() {
        format!("the answer did not end within {} ms", timeout.as_millis())
    } else {
        format!("the answer broke off: {}", why(error))
    }
}

fn why(error: &reqwest::Error) -> String {
    if let Some(astray) = find::<Astray>(error) {
        astray.to_string()
    } else if let Some(tls) = find::<rustls::Error>(error) {
        of_tls(tls)
    } else if let Some(told) = find::<hyper::Error>(error).and_then(of_http) {
        told.to_owned()
    } else if let Some(told) = find::<io::Error>(error).and_then(of_connection) {
        told.to_owned()
    } else {
        causes(error).last().unwrap_or(error).to_string()
    }
}

fn of_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(certificate) => of_certificate(certificate),
        rustls::Error::InvalidMessage(_) => "what answers there does not speak TLS".to_owned(),
        other => format!("TLS failed: {other}"),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the certificate is not for {} but for {}; let `smoke.host` be a name that it is for",
            expected.to_str(),
            names(presented)
        ),
        CertificateError::UnknownIssuer => "the certificate is of no authority that is trusted".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet".to_owned()
        }
        other => format!("the certificate is not accepted: {other}"),
    }
}

/// The first names of a certificate; rustls tells each as `DnsName("name")`.
fn names(presented: &[String]) -> String {
    let names: Vec<&str> =
        presented.iter().filter_map(|name| name.split('"').nth(1)).take(MOST_NAMES).collect();
    if names.is_empty() { "no name".to_owned() } else { names.join(", ") }
}

fn of_http(error: &hyper::Error) -> Option<&'static str> {
    if error.is_parse_too_large() {
        Some("the head of the answer is too long")
    } else if error.is_parse() {
        Some("what came back is not HTTP/1.1")
    } else if error.is_incomplete_message() {
        Some("the connection was closed")
    } else {
        None
    }
}

fn of_connection(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some("the connection was refused"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Some("the connection was reset"),
        io::ErrorKind::UnexpectedEof => Some("the connection was closed"),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Some("what came back is not HTTP/1.1"),
        _ => None,
    }
}

/// The first cause of one type.
fn find<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    causes(error).find_map(<dyn Error>::downcast_ref)
}

/// An error and its causes; an `io::Error` hides the one that it is made of.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    successors(Some(error as &(dyn Error + 'static)), |error| {
        let error: &(dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(hidden) => Some(hidden),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(previous: &[&str], next: &str, expect: Option<Astray>) {
        let url = |text: &&str| Url::parse(text).unwrap();
        let previous: Vec<Url> = previous.iter().map(url).collect();
        assert_eq!(Astray::of(&previous, &url(&next)), expect, "{previous:?} -> {next}");
    }

    #[test]
    fn a_redirect_stays_with_the_listener() {
        check(&["https://shop.example/"], "https://shop.example/login", None);
        check(&["https://shop.example/"], "https://shop.example:443/login", None);
        check(&["http://shop.example:8080/"], "http://shop.example:8080/", None);
        check(&["https://shop.example/"], "http://shop.example/", Some(Astray::Elsewhere("scheme")));
        check(&["http://shop.example/"], "https://shop.example/", Some(Astray::Elsewhere("scheme")));
        check(&["https://shop.example/"], "https://other.example/", Some(Astray::Elsewhere("host")));
        check(&["https://shop.example/"], "https://169.254.169.254/", Some(Astray::Elsewhere("host")));
        check(&["http://127.0.0.1:9000/"], "http://127.0.0.1:9001/", Some(Astray::Elsewhere("port")));
        let circle = ["https://shop.example/"; MOST_REDIRECTS];
        check(&circle, "https://shop.example/", None);
        check(&[&circle[..], &circle[..1]].concat(), "https://shop.example/", Some(Astray::TooOften));
    }
}
