//! How a request must look for a listener's rule to send it to green. Pure.

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use wildmatch::WildMatch;

use crate::policy::plan::Check;
use crate::rollout::Condition;

/// What stands for `*` where a rule takes any text.
const ANY: &str = "shiftgate";

/// What a request needs beside the check's own method and path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manner {
    /// Host header, where the rule wants one.
    pub host: Option<String>,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Further parts of the query, as name and value.
    pub query: Vec<(String, String)>,
}

/// The manner in which a check's requests meet all conditions of a rule, or why they cannot. `host` is the policy's.
pub fn manner(conditions: &[Condition], check: &Check, host: Option<&str>) -> Result<Manner, String> {
    let mut manner = Manner { host: host.map(str::to_owned), ..Manner::default() };
    let path = check.path.split('?').next().unwrap_or_default();
    for condition in conditions {
        match condition {
            Condition::Path(patterns) => {
                if !any_matches(patterns, path) {
                    return Err(format!("the rule serves {}, not {path}", patterns.join(", ")));
                }
            }
            Condition::Method(methods) => {
                if !any_matches(methods, check.method.as_str()) {
                    return Err(format!("the rule serves {}, not {}", methods.join(", "), check.method));
                }
            }
            Condition::Host(patterns) => match host {
                Some(host) if !any_matches(patterns, &host.to_ascii_lowercase()) => {
                    return Err(format!("the rule serves the host {}, not {host}", patterns.join(", ")));
                }
                Some(_) => {}
                None => manner.host = patterns.first().map(|pattern| concrete(pattern)),
            },
            Condition::Header { name, values } => {
                manner.headers.push(header(name, values)?);
            }
            Condition::Query(pairs) => {
                if let Some((name, value)) = pairs.first() {
                    let name = name.as_deref().map_or_else(|| ANY.to_owned(), concrete);
                    manner.query.push((name, concrete(value)));
                }
            }
            Condition::Other(field) => {
                return Err(format!(
                    "the rule has a condition on {field}, which a request cannot be made to meet"
                ));
            }
        }
    }
    Ok(manner)
}

/// The URL of a request to `base`: nothing in the path, the query or the host can lead elsewhere. A host is a name by which
/// the server is called; it must be no address, since those are connected to as they are.
pub fn url(base: &Url, path: &str, manner: &Manner) -> Result<Url, String> {
    let mut url = base.clone();
    // Not `join`, which drops line breaks and tabs: `/<tab>/host` would become `//host`.
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    url.set_path(path);
    url.set_query(query);
    if !manner.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&manner.query);
    }
    if let Some(host) = &manner.host {
        url.set_host(Some(host)).map_err(|error| format!("{host} is no host name: {error}"))?;
        if url.domain().is_none() {
            return Err(format!("{host} is an address, and a host must be a name"));
        }
    }
    Ok(url)
}

/// A header that a rule's condition, or Service Connect, wants.
pub fn header(name: &str, values: &[String]) -> Result<(HeaderName, HeaderValue), String> {
    let value = concrete(values.first().map_or("", String::as_str));
    let name = HeaderName::try_from(name).map_err(|_| format!("{name} is no header name"))?;
    let value = HeaderValue::try_from(&value).map_err(|_| format!("`{value}` is no header value"))?;
    Ok((name, value))
}

/// Load balancers know `*` and `?`; hosts and paths of one letter case are compared as they are.
fn any_matches(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| WildMatch::new(pattern).matches(text))
}

/// The simplest text that a pattern matches.
fn concrete(pattern: &str) -> String {
    if pattern == "*" { ANY.to_owned() } else { pattern.replace('*', ANY).replace('?', "x") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::plan::Expect;
    use std::time::Duration;

    fn check(path: &str) -> Check {
        Check {
            name: "health".to_owned(),
            invoke: None,
            method: reqwest::Method::GET,
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
            times: 1,
            concurrency: 1,
            retries: 0,
            timeout: Duration::from_secs(5),
            follow_redirects: false,
            expect: Expect::default(),
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// What a request is sent to when a rule wants `host`.
    fn sent_to(base: &str, path: &str, host: Option<&str>) -> Result<String, String> {
        let manner = Manner { host: host.map(str::to_owned), ..Manner::default() };
        url(&Url::parse(base).unwrap(), path, &manner).map(String::from)
    }

    #[test]
    fn only_a_name_takes_the_place_of_the_host() {
        let base = "http://lb.example:8443/";
        assert_eq!(sent_to(base, "/a%20b?c=d", None).unwrap(), "http://lb.example:8443/a%20b?c=d");
        assert_eq!(sent_to(base, "/", Some("Shop.example")).unwrap(), "http://shop.example:8443/");
        for address in ["169.254.169.254", "2852039166", "0xa9.0xfe.0xa9.0xfe", "[::1]"] {
            assert!(sent_to(base, "/", Some(address)).is_err(), "{address}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_leads_to_another_server(path in "/([/\\\\@:?#.%a\t\r\n ]|169.254.169.254|\\PC){0,12}") {
            let sent = Url::parse(&sent_to("https://lb.example/", &path, None).unwrap()).unwrap();
            proptest::prop_assert_eq!(sent.origin(), Url::parse("https://lb.example").unwrap().origin());
            proptest::prop_assert!(sent.username().is_empty());
        }
    }

    #[test]
    fn a_request_is_made_to_meet_every_condition() {
        let conditions = [
            Condition::Path(texts(&["/admin/*", "/api/*"])),
            Condition::Host(texts(&["*.shop.example", "shop.example"])),
            Condition::Header { name: "X-Test".to_owned(), values: texts(&["yes?", "no"]) },
            Condition::Query(vec![(Some("version".to_owned()), "green".to_owned())]),
            Condition::Method(texts(&["GET"])),
        ];
        let manner = manner(&conditions, &check("/api/health?deep=1"), None).unwrap();
        assert_eq!(manner.host.as_deref(), Some("shiftgate.shop.example"));
        let (name, value) = &manner.headers[0];
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-test", "yesx"));
        assert_eq!(manner.query, [("version".to_owned(), "green".to_owned())]);
    }

    #[test]
    fn what_cannot_be_met_is_said() {
        let why = |condition, host| manner(&[condition], &check("/healthz"), host).unwrap_err();
        assert_eq!(why(Condition::Path(texts(&["/api/*"])), None), "the rule serves /api/*, not /healthz");
        assert_eq!(
            why(Condition::Host(texts(&["shop.example"])), Some("other.example")),
            "the rule serves the host shop.example, not other.example"
        );
        assert_eq!(why(Condition::Method(texts(&["POST"])), None), "the rule serves POST, not GET");
        assert!(why(Condition::Other("source-ip".to_owned()), None).contains("source-ip"));
        assert!(
            why(Condition::Header { name: "a b".to_owned(), values: texts(&["x"]) }, None).contains("a b")
        );
    }

    #[test]
    fn the_policy_s_host_is_kept_where_the_rule_takes_it() {
        let conditions = [Condition::Host(texts(&["*.example"]))];
        let manner = manner(&conditions, &check("/"), Some("shop.example")).unwrap();
        assert_eq!(manner.host.as_deref(), Some("shop.example"));
    }
}
