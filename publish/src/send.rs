//! The calls: store, send, tell. In this order, since an event names what was stored, and people come last.

use aws_config::SdkConfig;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_s3::primitives::ByteStream;
use shiftgate::aws;
use shiftgate::environment::Environment;
use shiftgate::fault::{Fault, FaultKind};
use shiftgate::report::Evidence;
use shiftgate::report::verdict_event::{DETAIL_TYPE, Entry, Page, SOURCE};
use shiftgate_report::page;

use crate::{message, store};

/// The clients, and whom they tell.
#[derive(Debug, Clone)]
pub struct Publisher {
    events: aws_sdk_eventbridge::Client,
    s3: aws_sdk_s3::Client,
    sns: aws_sdk_sns::Client,
    bucket: Option<String>,
    topic: Option<String>,
    of_all: bool,
    region: Option<String>,
}

impl Publisher {
    /// What the environment asks for, with clients of this configuration.
    pub fn new(config: &SdkConfig, environment: &Environment) -> Self {
        Self {
            events: aws_sdk_eventbridge::Client::new(config),
            s3: aws_sdk_s3::Client::new(config),
            sns: aws_sdk_sns::Client::new(config),
            bucket: environment.report_bucket.clone(),
            topic: environment.verdict_topic_arn.clone(),
            of_all: environment.notify_of_all,
            region: environment.region.clone(),
        }
    }

    /// Stores the report of a verdict, sends its event, and tells the topic if that is to hear of it. Gives back what could not be
    /// done; one of these does not keep the others from being tried. `owner` is the ARN of the function that runs this.
    pub async fn tell(&self, evidence: &Evidence, owner: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let stored = match &self.bucket {
            Some(bucket) => self.store(evidence, bucket).await.map_err(|fault| faults.push(fault)).ok(),
            None => None,
        };
        faults.extend(self.send(evidence, stored.clone(), owner).await.err());
        if let Some(topic) = self.topic.as_ref().filter(|_| self.of_all || evidence.is_bad()) {
            faults.extend(self.notify(evidence, stored.as_ref(), topic).await.err());
        }
        faults
    }

    /// Stores the page, with the evidence beside it.
    async fn store(&self, evidence: &Evidence, bucket: &str) -> Result<Page, Fault> {
        let key = store::key(evidence);
        let json = serde_json::to_vec(evidence).map_err(|error| bug("evidence", error))?;
        self.put(bucket, format!("{key}.json"), "application/json", json).await?;
        let stored = store::page(bucket, &key, self.region.as_deref());
        self.put(bucket, stored.key.clone(), "text/html; charset=utf-8", page(evidence).into_bytes()).await?;
        Ok(stored)
    }

    async fn put(&self, bucket: &str, key: String, content_type: &str, body: Vec<u8>) -> Result<(), Fault> {
        let purpose = format!("store {key} in the bucket {bucket}");
        let put = self.s3.put_object().bucket(bucket).key(key).content_type(content_type);
        let sent = put.body(ByteStream::from(body)).send().await;
        sent.map(drop).map_err(|error| aws::fault("s3:PutObject", &purpose, error))
    }

    async fn send(&self, evidence: &Evidence, page: Option<Page>, owner: &str) -> Result<(), Fault> {
        let purpose = format!("send the event of {}", evidence.deployment_id);
        let entry = Entry::new(evidence, page, owner).map_err(|error| bug("event", error))?;
        let entry = PutEventsRequestEntry::builder()
            .source(SOURCE)
            .detail_type(DETAIL_TYPE)
            .time(DateTime::from_millis(entry.at.as_millisecond()))
            .set_resources(Some(entry.resources))
            .detail(entry.detail)
            .build();
        let answer = self.events.put_events().entries(entry).send().await;
        let answer = answer.map_err(|error| aws::fault("events:PutEvents", &purpose, error))?;
        // The call succeeds where the entry does not.
        let refused = answer.entries().iter().find_map(|entry| entry.error_code().map(|code| (code, entry)));
        refused.map_or(Ok(()), |(code, entry)| {
            Err(Fault::new(
                FaultKind::Unavailable,
                format!("cannot {purpose}: {code}: {}", entry.error_message().unwrap_or("no message")),
                "Lambda calls this function again",
            ))
        })
    }

    async fn notify(&self, evidence: &Evidence, page: Option<&Page>, topic: &str) -> Result<(), Fault> {
        let sent = self
            .sns
            .publish()
            .topic_arn(topic)
            .subject(message::subject(evidence))
            .message(message::text(evidence, page))
            .send()
            .await;
        let purpose = format!("tell the topic {topic} of {}", evidence.deployment_id);
        sent.map(drop).map_err(|error| aws::fault("sns:Publish", &purpose, error))
    }
}

fn bug(what: &str, error: serde_json::Error) -> Fault {
    Fault::new(
        FaultKind::Bug,
        format!("cannot write the {what} as JSON"),
        "this is a bug of Shiftgate; please report it with this message",
    )
    .because(error)
}
