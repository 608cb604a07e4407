//! What CloudWatch Logs hands over: lines of a function's log, of which some are verdicts.

use aws_lambda_events::cloudwatch_logs::LogData;
use serde_json::Value;
use shiftgate::report::Evidence;

/// The evidence of each verdict in a batch, in order; an error says of which one it could not be read, and why.
pub fn verdicts(batch: &LogData) -> Vec<Result<Evidence, String>> {
    // A message of control only says that the subscription works.
    if batch.message_type != "DATA_MESSAGE" {
        return Vec::new();
    }
    let lines: Vec<Value> =
        batch.log_events.iter().filter_map(|event| serde_json::from_str(&event.message).ok()).collect();
    let lines: Vec<&Value> = lines.iter().collect();
    let verdicts = (0..lines.len()).filter(|at| lines[*at]["message"] == "verdict");
    verdicts
        .map(|at| {
            Evidence::on_line(&lines, at).map_err(|why| {
                format!("a verdict in the log group {} cannot be read: {why}", batch.log_group)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::cloudwatch_logs::LogEntry;
    use serde_json::json;

    use super::*;
    use crate::message::tests::failed;

    fn batch(kind: &str, messages: &[String]) -> LogData {
        let mut batch = LogData::default();
        batch.message_type = kind.to_owned();
        batch.log_group = "/aws/lambda/watch".to_owned();
        batch.log_events = messages
            .iter()
            .map(|message| {
                let mut entry = LogEntry::default();
                entry.message.clone_from(message);
                entry
            })
            .collect();
        batch
    }

    fn line(evidence: &Evidence) -> Value {
        let mut line = serde_json::to_value(evidence).unwrap();
        line["message"] = json!("verdict");
        line
    }

    #[test]
    fn a_verdict_gets_the_recording_that_was_logged_before_it() {
        let evidence = failed();
        let mut line = line(&evidence);
        let recording = line["rollout"]["recording"].take();
        assert!(recording.is_object());
        let of_another = json!({"message": "recording", "deployment_id": "d-OTHER0000", "recording": 1});
        let recording =
            json!({"message": "recording", "deployment_id": evidence.deployment_id, "recording": recording});
        let messages =
            [recording.to_string(), of_another.to_string(), "not JSON".to_owned(), line.to_string()];
        assert_eq!(verdicts(&batch("DATA_MESSAGE", &messages)), [Ok(evidence)]);
    }

    #[test]
    fn a_verdict_that_cannot_be_read_does_not_hide_the_next() {
        let messages = [json!({"message": "verdict"}).to_string(), line(&failed()).to_string()];
        let found = verdicts(&batch("DATA_MESSAGE", &messages));
        let why = found[0].as_ref().unwrap_err();
        assert!(why.starts_with("a verdict in the log group /aws/lambda/watch cannot be read: "), "{why}");
        assert!(found[1].is_ok() && found.len() == 2);
    }

    #[test]
    fn a_message_of_control_tells_of_no_verdict() {
        assert_eq!(verdicts(&batch("CONTROL_MESSAGE", &[line(&failed()).to_string()])), []);
    }
}
