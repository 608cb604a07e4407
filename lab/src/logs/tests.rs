//! What a client of CloudWatch Logs is answered.

use super::*;

const GROUP: &str = "/aws/lambda/CodeDeployHook_lab_watch";

fn at(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(millisecond).unwrap()
}

/// A group with so many events, a millisecond apart, every hundredth of which is a verdict.
fn logs(events: i64) -> Logs {
    let logs = Logs::default();
    logs.create(GROUP, Some(90));
    for number in 0..events {
        let message = if number % 100 == 99 { "verdict" } else { "look" };
        let line = json!({"message": message, "number": number, "about": {"id": format!("d-{number}")}});
        logs.write(GROUP, at(number), line.to_string());
    }
    logs
}

fn ask(logs: &Logs, operation: &str, request: &Value) -> Result<Value, String> {
    let answer = logs.handle(operation, request.to_string().as_bytes());
    answer.map(|answer| serde_json::from_slice(&answer).unwrap()).map_err(|error| error.code)
}

/// The numbers of all events that a filter finds, and in how many pages.
fn found(logs: &Logs, mut request: Value) -> (Vec<i64>, usize) {
    let (mut numbers, mut pages) = (Vec::new(), 0);
    loop {
        let answer = ask(logs, "FilterLogEvents", &request).unwrap();
        pages += 1;
        for event in answer["events"].as_array().unwrap() {
            let line: Value = serde_json::from_str(event["message"].as_str().unwrap()).unwrap();
            assert_eq!(line["number"], event["timestamp"]);
            numbers.push(line["number"].as_i64().unwrap());
        }
        match answer.get("nextToken") {
            Some(token) => request["nextToken"] = token.clone(),
            None => return (numbers, pages),
        }
    }
}

#[test]
fn events_are_found_by_pattern_and_time_over_all_pages() {
    let logs = logs(1000);
    let filter = |pattern: &str| json!({"logGroupName": GROUP, "filterPattern": pattern});
    let verdicts = found(&logs, filter("{ $.message = \"verdict\" }"));
    assert_eq!(verdicts, (vec![99, 199, 299, 399, 499, 599, 699, 799, 899, 999], 5));
    let one = filter("{$.message=\"verdict\"&&$.about.id=\"d-499\"}");
    assert_eq!(found(&logs, one).0, [499]);
    assert_eq!(found(&logs, filter("{ $.number = 7 }")).0, [7]);
    let either = "{ ($.number = 7) || ($.message = \"verdict\" && $.number = 99) }";
    assert_eq!(found(&logs, filter(either)).0, [7, 99]);
    // Both ends belong to it.
    let within = json!({"logGroupName": GROUP, "startTime": 199, "endTime": 201});
    assert_eq!(found(&logs, within), (vec![199, 200, 201], 1));
    let few = json!({"logGroupName": GROUP, "limit": 2, "endTime": 5});
    assert_eq!(found(&logs, few), (vec![0, 1, 2, 3, 4, 5], 3));
    let by_arn =
        json!({"logGroupIdentifier": format!("arn:aws:logs:eu-west-1:1:log-group:{GROUP}"), "endTime": 0});
    assert_eq!(found(&logs, by_arn).0, [0]);
}

#[test]
fn what_is_no_json_is_found_only_without_a_pattern() {
    let logs = logs(0);
    logs.write(GROUP, at(1), "START RequestId: 1".to_owned());
    let all = ask(&logs, "FilterLogEvents", &json!({"logGroupName": GROUP})).unwrap();
    assert_eq!(all["events"][0]["message"], "START RequestId: 1");
    let pattern = json!({"logGroupName": GROUP, "filterPattern": "{ $.message = \"START\" }"});
    assert_eq!(found(&logs, pattern).0, [0_i64; 0]);
}

#[test]
fn faults_have_the_names_of_aws() {
    let logs = logs(1);
    let refused = |request: Value| ask(&logs, "FilterLogEvents", &request).unwrap_err();
    assert_eq!(refused(json!({"logGroupName": "/nothing"})), "ResourceNotFoundException");
    assert_eq!(refused(json!({})), INVALID);
    assert_eq!(refused(json!({"logGroupName": GROUP, "nextToken": "x"})), INVALID);
    assert_eq!(refused(json!({"logGroupName": GROUP, "limit": 0})), INVALID);
    for pattern in
        ["verdict", "{ message = 1 }", "{ $.a = \"x }", "{ ($.a = 1 || }", "{ $.a = \"x*\" }", "{}"]
    {
        assert_eq!(refused(json!({"logGroupName": GROUP, "filterPattern": pattern})), INVALID, "{pattern}");
    }
}

#[test]
fn groups_are_listed_by_prefix_in_pages() {
    let logs = logs(1);
    for name in ["/aws/lambda/CodeDeployHook_lab_a", "/aws/lambda/other"] {
        logs.create(name, None);
    }
    let ask = |request: Value| ask(&logs, "DescribeLogGroups", &request).unwrap();
    let page = ask(json!({"logGroupNamePrefix": "/aws/lambda/CodeDeployHook_", "limit": 1}));
    assert_eq!(page["logGroups"][0]["logGroupName"], "/aws/lambda/CodeDeployHook_lab_a");
    assert_eq!(page["logGroups"][0].get("retentionInDays"), None);
    let token = page["nextToken"].as_str().unwrap();
    let last =
        ask(json!({"logGroupNamePrefix": "/aws/lambda/CodeDeployHook_", "limit": 1, "nextToken": token}));
    assert_eq!(last["logGroups"][0]["logGroupName"], GROUP);
    assert_eq!(last["logGroups"][0]["retentionInDays"], 90);
    assert_eq!(last.get("nextToken"), None);
    assert_eq!(ask(json!({}))["logGroups"].as_array().unwrap().len(), 3);
}

#[test]
fn a_group_keeps_the_latest_events() {
    let logs = logs(KEPT as i64 + 5);
    let first = ask(&logs, "FilterLogEvents", &json!({"logGroupName": GROUP, "limit": 1})).unwrap();
    assert_eq!(first["events"][0]["timestamp"], 5);
}
