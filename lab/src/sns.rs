//! SNS (query protocol), as far as publishers go: the template's topics, and what was published to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::api::ApiError;

/// Version of the API, by which its requests are told from those of other query services.
pub const VERSION: &str = "2010-03-31";
/// Bytes of a message, at most.
const LONGEST: usize = 262_144;
/// Characters of a subject, at most.
const LONGEST_SUBJECT: usize = 100;

/// The topics of the pretended account.
#[derive(Debug, Default)]
pub struct Topics {
    arns: BTreeSet<String>,
    published: Mutex<Vec<Message>>,
}

/// A message as subscribers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// ARN of the topic.
    pub topic: String,
    /// What an e-mail has as its subject.
    pub subject: Option<String>,
    /// The text.
    pub text: String,
}

impl Topics {
    /// These topics.
    pub fn new(arns: impl IntoIterator<Item = String>) -> Self {
        Self { arns: arns.into_iter().collect(), published: Mutex::default() }
    }

    /// The messages so far.
    pub fn published(&self) -> Vec<Message> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers a call; the body is a form, the answer XML.
    pub fn handle(&self, operation: &str, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        if operation != "Publish" {
            return Err(ApiError::client("InvalidAction", format!("the lab does not implement {operation}")));
        }
        let mut form: BTreeMap<String, String> =
            serde_urlencoded::from_bytes(body).map_err(|error| invalid(error.to_string()))?;
        let topic = form.remove("TopicArn").ok_or_else(|| invalid("TopicArn is missing"))?;
        if !self.arns.contains(&topic) {
            return Err(ApiError { status: 404, ..ApiError::client("NotFound", "Topic does not exist") });
        }
        let text = form.remove("Message").filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| invalid("Empty message"))?;
        if text.len() > LONGEST {
            return Err(invalid("Message too long"));
        }
        let subject = form.remove("Subject");
        if subject.as_ref().is_some_and(|subject| !is_subject(subject)) {
            return Err(invalid("Subject"));
        }
        let id = Uuid::new_v4();
        let message = Message { topic, subject, text };
        self.published.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        Ok(format!(
            "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/{VERSION}/\"><PublishResult><MessageId>{id}</MessageId>\
             </PublishResult><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></PublishResponse>"
        )
        .into_bytes())
    }
}

/// One line of ASCII that begins with no space.
fn is_subject(text: &str) -> bool {
    let is_plain = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    (1..=LONGEST_SUBJECT).contains(&text.len()) && is_plain && !text.starts_with(' ')
}

fn invalid(what: impl std::fmt::Display) -> ApiError {
    ApiError::client("InvalidParameter", format!("Invalid parameter: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sns_refuses_is_refused() {
        let topics = Topics::new(["arn:aws:sns:eu-west-1:123456789012:verdicts".to_owned()]);
        let publish = |topic: &str, subject: &str, message: &str| {
            let topic = format!("arn:aws:sns:eu-west-1:123456789012:{topic}");
            let form =
                [("Action", "Publish"), ("TopicArn", &topic), ("Subject", subject), ("Message", message)];
            let body = serde_urlencoded::to_string(form).unwrap();
            topics.handle("Publish", body.as_bytes()).map(drop).map_err(|error| error.code)
        };
        assert_eq!(publish("other", "s", "text"), Err("NotFound".to_owned()));
        let wrong = Err("InvalidParameter".to_owned());
        for (subject, message) in
            [("two\nlines", "text"), ("ünlang", "text"), (&*"x".repeat(101), "text"), ("s", "")]
        {
            assert_eq!(publish("verdicts", subject, message), wrong, "{subject} {message}");
        }
        assert_eq!(publish("verdicts", "s", &"x".repeat(LONGEST + 1)), wrong);
        assert_eq!(topics.published(), []);
        assert_eq!(publish("verdicts", "s", "text"), Ok(()));
        assert_eq!(topics.published()[0].text, "text");
    }
}
