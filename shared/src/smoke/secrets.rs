//! Header values that nobody may see: each is read once per invocation, and none leaves in a finding or a fault.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secrecy::{ExposeSecret, SecretString};

use crate::aws::{self, Aws};
use crate::fault::{Fault, FaultKind};
use crate::verdict::Finding;

/// Where Parameter Store passes on what Secrets Manager keeps.
const SECRETS_MANAGER: &str = "/aws/reference/secretsmanager/";
/// What stands in the place of a secret.
const HIDDEN: &str = "***";
/// Shortest word of a secret that is hidden by itself, such as the token in `Bearer <token>`.
const SHORTEST_WORD: usize = 8;

/// The secrets of one invocation, by the name of their parameter.
///
/// They are overwritten in memory when the invocation ends. That holds for these copies only: the SDK's answer, from which
/// they come, and the `HeaderValue`s, which go into requests, are freed as they are.
#[derive(Debug, Default)]
pub struct Secrets(Mutex<BTreeMap<String, Arc<SecretString>>>);

impl Secrets {
    /// The value of a parameter, read from Parameter Store when it is first wanted.
    pub async fn read(&self, aws: &Aws, name: &str) -> Result<Arc<SecretString>, Fault> {
        let known = self.lock().get(name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let secret = Arc::new(read(aws, name).await?);
        self.lock().insert(name.to_owned(), Arc::clone(&secret));
        Ok(secret)
    }

    /// Findings without any secret, even where a server sent one back.
    pub fn kept(&self, result: Result<Vec<Finding>, Fault>) -> Result<Vec<Finding>, Fault> {
        let kept = |finding: Finding| Finding { summary: self.hide(finding.summary), ..finding };
        match result {
            Ok(findings) => Ok(findings.into_iter().map(kept).collect()),
            // Only the whole chain is known to be all that anybody shows of a fault.
            Err(fault) => Err(Fault::new(fault.kind, self.hide(fault.chain()), fault.hint)),
        }
    }

    fn hide(&self, text: String) -> String {
        let secrets = self.lock();
        let texts = secrets.values().map(|secret| secret.expose_secret());
        hide(text, texts)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<SecretString>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(aws: &Aws, name: &str) -> Result<SecretString, Fault> {
    let action = if name.starts_with(SECRETS_MANAGER) {
        "ssm:GetParameter or secretsmanager:GetSecretValue"
    } else {
        "ssm:GetParameter"
    };
    let purpose = format!("read the header value in parameter {name}");
    let sent = aws.ssm.get_parameter().name(name).with_decryption(true).send().await;
    let output = sent.map_err(|error| aws::fault(action, &purpose, error))?;
    output.parameter.and_then(|parameter| parameter.value).map(SecretString::from).ok_or_else(|| {
        Fault::new(
            FaultKind::NotFound,
            format!("parameter {name} has no value"),
            "put the header's value into it",
        )
    })
}

/// A text without the secrets and their longer words, in any letter case: names of hosts come back in lower case.
fn hide<'a>(text: String, secrets: impl Iterator<Item = &'a str>) -> String {
    let mut hidden: Vec<&str> = secrets
        .map(str::trim)
        .flat_map(|secret| {
            let words = secret.split_whitespace().filter(|word| word.len() >= SHORTEST_WORD);
            words.chain((!secret.is_empty()).then_some(secret))
        })
        .collect();
    // A secret may be a part of another one.
    hidden.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    hidden.into_iter().fold(text, |text, secret| without(&text, secret))
}

fn without(text: &str, secret: &str) -> String {
    // Lower case of ASCII alone keeps every byte at its place.
    let (lower, wanted) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let mut kept = String::new();
    let mut from = 0;
    for (at, _) in lower.match_indices(&wanted) {
        kept.push_str(&text[from..at]);
        kept.push_str(HIDDEN);
        from = at + wanted.len();
    }
    kept.push_str(&text[from..]);
    kept
}

#[cfg(test)]
impl Secrets {
    /// As if these had been read.
    pub(super) fn of(values: &[&str]) -> Self {
        let read = values.iter().enumerate();
        let read = read.map(|(at, value)| (format!("/secret/{at}"), Arc::new(SecretString::from(*value))));
        Self(Mutex::new(read.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Outcome;
    use proptest::prelude::*;

    #[test]
    fn a_secret_is_hidden_in_findings_and_in_faults() {
        let secrets = Secrets::of(&["Bearer s3cr3t-t0ken", "s3cr3t"]);
        let finding = Finding::new("a", Outcome::Fail, "not for S3CR3T-T0KEN, bearer s3cr3t-t0ken or s3cr3t");
        let kept = secrets.kept(Ok(vec![finding])).unwrap();
        assert_eq!(kept[0].summary, "not for ***, *** or ***");
        let fault = Fault::new(FaultKind::Unavailable, "cannot", "look again").because(Fault::new(
            FaultKind::Bug,
            "s3cr3t is no header",
            "",
        ));
        let kept = secrets.kept(Err(fault)).unwrap_err();
        assert_eq!((kept.chain().as_str(), kept.kind), ("cannot: *** is no header", FaultKind::Unavailable));
        assert!(kept.source.is_none());
    }

    #[test]
    fn a_secret_does_not_show_in_debug() {
        let shown = format!("{:?}", Secrets::of(&["s3cr3t"]));
        assert!(shown.contains("/secret/0") && !shown.contains("s3cr3t"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_secret_is_left_whatever_stands_around_it(
            before in "\\PC{0,9}",
            after in "\\PC{0,9}",
            secret in "[A-Za-z0-9äß-]{1,12}",
            other in "[A-Za-z0-9]{1,4}",
        ) {
            for written in [secret.clone(), secret.to_ascii_lowercase(), secret.to_ascii_uppercase()] {
                let told = hide(format!("{before}{written}{after}{other}"), [other.as_str(), &secret].into_iter());
                for hidden in [&secret, &other] {
                    prop_assert!(!told.to_ascii_lowercase().contains(&hidden.to_ascii_lowercase()), "{}", told);
                }
            }
        }
    }
}
