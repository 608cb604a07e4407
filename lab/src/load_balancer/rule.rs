//! A listener's rule: which requests it takes, and where they go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Request;
use hyper::header::HOST;
use rand::seq::IndexedRandom;

use super::listener::ListenerKind;
use super::target_group::{Target, TargetGroup};

/// One group of a weighted forward, with its weight (0 to 999).
pub(super) type Weighted = (Arc<TargetGroup>, u32);

/// What a rule is to be like. At first it forwards to the balancer's first target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSpec {
    /// The listener that it belongs to.
    pub listener: ListenerKind,
    /// Rules are tried from the smallest on; no two of a listener have the same.
    pub priority: u32,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
}

/// What a rule asks of a request. Any of its values is enough; they may have the wildcards `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `path-pattern`: the path without the query, case-sensitive.
    Path(Vec<String>),
    /// `host-header`, without regard to case.
    Host(Vec<String>),
    /// `http-header`, values without regard to case.
    Header {
        /// Name of the header.
        name: String,
        /// Its values.
        values: Vec<String>,
    },
    /// `query-string`: keys, which may be left out, with values; without regard to case.
    Query(Vec<(Option<String>, String)>),
}

/// A rule of a running listener, other than its default rule.
#[derive(Debug)]
pub struct Rule {
    /// Its ARN.
    pub arn: String,
    /// What it was made from.
    pub spec: RuleSpec,
    forward: Forward,
}

impl Rule {
    pub(super) fn new(arn: String, spec: RuleSpec, first: Arc<TargetGroup>) -> Self {
        Self { arn, spec, forward: Forward::to(first) }
    }

    /// The groups that it forwards to, with their weights.
    pub fn forwards(&self) -> Vec<(Arc<TargetGroup>, u32)> {
        self.forward.all()
    }

    pub(super) fn forward(&self) -> &Forward {
        &self.forward
    }

    pub(super) fn takes<B>(&self, request: &Request<B>) -> bool {
        self.spec.conditions.iter().all(|condition| condition.holds(request))
    }
}

impl Condition {
    fn holds<B>(&self, request: &Request<B>) -> bool {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        match self {
            Self::Path(patterns) => patterns.iter().any(|pattern| matches(pattern, request.uri().path())),
            Self::Host(patterns) => header(HOST.as_str()).is_some_and(|host| {
                // The port is no part of what the condition sees.
                let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
                patterns.iter().any(|pattern| matches_any_case(pattern, host))
            }),
            Self::Header { name, values } => {
                header(name).is_some_and(|seen| values.iter().any(|pattern| matches_any_case(pattern, seen)))
            }
            Self::Query(pairs) => {
                let query = request.uri().query().unwrap_or_default();
                let seen: Vec<(&str, &str)> = query
                    .split('&')
                    .filter(|pair| !pair.is_empty())
                    .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                    .collect();
                pairs.iter().any(|(key, value)| {
                    seen.iter().any(|(seen_key, seen_value)| {
                        key.as_ref().is_none_or(|key| matches_any_case(key, seen_key))
                            && matches_any_case(value, seen_value)
                    })
                })
            }
        }
    }
}

fn matches_any_case(pattern: &str, text: &str) -> bool {
    matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// Whether a text is as a pattern says: `*` stands for any characters, `?` for one.
fn matches(pattern: &str, text: &str) -> bool {
    let mut characters = pattern.chars();
    match characters.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = characters.as_str();
            text.char_indices().any(|(at, _)| matches(rest, &text[at..])) || matches(rest, "")
        }
        Some(wanted) => {
            let mut seen = text.chars();
            seen.next().is_some_and(|first| wanted == '?' || wanted == first)
                && matches(characters.as_str(), seen.as_str())
        }
    }
}

/// A weighted forward action, of a rule or as a listener's default.
#[derive(Debug)]
pub(super) struct Forward(Mutex<Vec<Weighted>>);

impl Forward {
    pub(super) fn to(first: Arc<TargetGroup>) -> Self {
        Self(Mutex::new(vec![(first, 1)]))
    }

    pub(super) fn all(&self) -> Vec<Weighted> {
        self.lock().clone()
    }

    pub(super) fn set(&self, groups: Vec<Weighted>) {
        *self.lock() = groups;
    }

    /// Whether it names the group, with whatever weight.
    pub(super) fn names(&self, group: &TargetGroup) -> bool {
        self.lock().iter().any(|(forward, _)| forward.name == group.name)
    }

    /// A group by weight, and a target of it. As on AWS, a group without targets does not give way to the other.
    pub(super) fn choose(&self) -> Option<(Arc<TargetGroup>, Target)> {
        let group = self.choose_group()?;
        let target = group.next_target()?;
        Some((group, target))
    }

    fn choose_group(&self) -> Option<Arc<TargetGroup>> {
        let groups = self.lock();
        // An error means that all weights are 0: there is nothing to choose.
        let (group, _) = groups.choose_weighted(&mut rand::rng(), |(_, weight)| *weight).ok()?;
        Some(Arc::clone(group))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weighted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("/api/*", "/api/", true),
            ("/api/*", "/api/orders/7", true),
            ("/api/*", "/apis", false),
            ("*.example.com", "shop.example.com", true),
            ("/img/?.png", "/img/a.png", true),
            ("/img/?.png", "/img/ab.png", false),
            ("*", "", true),
            ("", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn every_condition_asks_for_its_part_of_the_request() {
        let request = Request::get("/api/orders?version=Green&debug")
            .header("host", "Shop.Example.com:8080")
            .header("x-test", "Yes")
            .body(())
            .unwrap();
        let texts = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
        let header =
            |name: &str, values: &[&str]| Condition::Header { name: name.to_owned(), values: texts(values) };
        let query = |key: Option<&str>, value: &str| {
            Condition::Query(vec![(key.map(str::to_owned), value.to_owned())])
        };
        for (condition, expected) in [
            (Condition::Path(texts(&["/web/*", "/api/*"])), true),
            (Condition::Path(texts(&["/API/*"])), false),
            (Condition::Host(texts(&["*.example.com"])), true),
            (Condition::Host(texts(&["example.com"])), false),
            (header("X-Test", &["no", "y?s"]), true),
            (header("x-other", &["*"]), false),
            (query(Some("version"), "green"), true),
            (query(None, "g*"), true),
            (query(Some("debug"), ""), true),
            (query(Some("version"), "blue"), false),
        ] {
            assert_eq!(condition.holds(&request), expected, "{condition:?}");
        }
    }
}
