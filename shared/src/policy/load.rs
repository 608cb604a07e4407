//! Finds the policy of a deployment group: inline, in Parameter Store, or built in.

use std::fmt::{self, Write};

use aws_sdk_ssm::operation::get_parameters::GetParametersOutput;
use aws_sdk_ssm::types::Parameter;

use super::plan::Plan;
use super::raw;
use crate::aws::{self, Aws};
use crate::fault::{Fault, FaultKind};
use crate::yaml::{Document, Problem};

/// The IAM action that it takes.
const PARAMETERS: &str = "ssm:GetParameters";

/// Where a policy came from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub enum Source {
    /// The environment variable `SHIFTGATE_POLICY`.
    Environment,
    /// The key `policy` of the details that a hook of ECS is configured with.
    HookDetails,
    /// A parameter of Parameter Store, by name.
    Parameter(String),
    /// The defaults.
    BuiltIn,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("the environment variable SHIFTGATE_POLICY"),
            Self::HookDetails => f.write_str("the hook's details"),
            Self::Parameter(name) => write!(f, "parameter {name}"),
            Self::BuiltIn => f.write_str("built-in defaults"),
        }
    }
}

/// Parameter Store takes half of it; more would be no policy, and take memory that a function does not have.
const LONGEST: usize = 16 * 1024;

/// Keys below which a policy has JSON of the user's own.
const FREE: [&str; 2] = ["invoke", "json"];

/// What is no policy at all is told as what it is, and not key by key.
fn something_else(document: &Document) -> Option<Problem> {
    let has = |key: &str| document.value.get(key).is_some();
    let what = if !document.value.is_object() {
        "a policy is a map of keys such as `mode: observe`, without `-` before them"
    } else if has("Hooks") || (has("Resources") && has("version")) {
        "this is an AppSpec, not a policy: the functions go into its Hooks, and the policy is a document of its own"
    } else {
        return None;
    };
    Some(Problem { line: 1, key: String::new(), what: what.to_owned() })
}

/// Reads a policy's text into a plan, or tells all its faults, in the order of the lines.
pub fn parse(text: &str) -> Result<Plan, Vec<Problem>> {
    if text.len() > LONGEST {
        let what = format!("a policy has at most {LONGEST} bytes, and this has {}", text.len());
        return Err(vec![Problem { line: 0, key: String::new(), what }]);
    }
    let mut document = Document::parse(text).map_err(|problem| vec![problem])?;
    if let Some(problem) = something_else(&document) {
        return Err(vec![problem]);
    }
    let empty = document.take_empty(&FREE);
    let (policy, mut problems) = document.read::<raw::Policy>();
    problems.extend(empty);
    let unread: Vec<String> = problems.iter().map(|problem| problem.key.clone()).collect();
    match Plan::new(policy) {
        Ok(plan) if problems.is_empty() => return Ok(plan),
        Ok(_) => {}
        // A key that could not be read is not also reported as missing.
        Err(faults) => problems.extend(
            faults
                .into_iter()
                .filter(|fault| !unread.iter().any(|key| is_about(key, &fault.key)))
                .map(|fault| Problem { line: document.line_of(&fault.key), ..fault }),
        ),
    }
    problems.sort_by_key(|problem| problem.line);
    Err(problems)
}

/// Whether one of two keys is within the other.
fn is_about(key: &str, other: &str) -> bool {
    let (outer, inner) = if key.len() < other.len() { (key, other) } else { (other, key) };
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| outer.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The plan of a deployment group: `inline` if given, else `/shiftgate/<application>/<group>`, else
/// `/shiftgate/default`, else the defaults. An invalid policy is a fault; it never falls back to another one.
pub async fn load(
    aws: &Aws,
    inline: Option<&str>,
    application: &str,
    group: &str,
) -> Result<(Plan, Source), Fault> {
    if let Some(text) = inline {
        return plan_of(text, Source::Environment);
    }
    let names = parameter_names(application, group);
    let answer = parameters(aws, &names).await?;
    for name in names {
        if let Some(text) = value(&answer, &name)? {
            return plan_of(&text, Source::Parameter(name));
        }
    }
    Ok((Plan::default(), Source::BuiltIn))
}

/// The plan that a policy's text makes, or all its faults as one.
pub fn plan_of(text: &str, source: Source) -> Result<(Plan, Source), Fault> {
    match parse(text) {
        Ok(plan) => Ok((plan, source)),
        Err(problems) => {
            let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(Fault::new(
                FaultKind::Policy,
                format!("the policy in {source} is invalid: {}", list.join("; ")),
                "mend the policy; `shiftgate policy check FILE` shows the same faults before you deploy",
            ))
        }
    }
}

/// What Parameter Store says of the parameters, in one call: an account may make 40 of them a second.
async fn parameters(aws: &Aws, names: &[String]) -> Result<GetParametersOutput, Fault> {
    let sent = aws.ssm.get_parameters().set_names(Some(names.to_vec())).with_decryption(true).send().await;
    sent.map_err(|error| aws::fault(PARAMETERS, &format!("read parameters {}", names.join(", ")), error))
}

/// The value of a parameter; none where the answer says that there is no such parameter. An answer that says neither is no
/// reason to judge by the defaults.
fn value(answer: &GetParametersOutput, name: &str) -> Result<Option<String>, Fault> {
    let found = answer.parameters().iter().find(|parameter| parameter.name() == Some(name));
    if let Some(value) = found.and_then(Parameter::value) {
        return Ok(Some(value.to_owned()));
    }
    if answer.invalid_parameters().iter().any(|missing| missing == name) {
        return Ok(None);
    }
    Err(Fault::new(
        FaultKind::Unavailable,
        format!("{PARAMETERS} tells neither what parameter {name} is nor that there is none"),
        "AWS gave an incomplete answer; deploy again",
    ))
}

/// The parameters to look into, in order.
pub fn parameter_names(application: &str, group: &str) -> [String; 2] {
    [
        format!("/shiftgate/{}/{}", parameter_segment(application), parameter_segment(group)),
        "/shiftgate/default".to_owned(),
    ]
}

/// A name as a segment of a parameter's name. Parameter Store takes letters, digits, `.`, `-` and `_`; every other
/// byte is written `_xHH_`, and so is the underscore of a literal `_x`, so that no two names meet.
pub fn parameter_segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    let bytes = name.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let escapes = *byte == b'_' && bytes.get(index + 1) == Some(&b'x');
        if (byte.is_ascii_alphanumeric() || b".-_".contains(byte)) && !escapes {
            segment.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(segment, "_x{byte:02X}_");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_encoded_by_the_documented_rule() {
        assert_eq!(
            parameter_names("shop", "blue_green-1"),
            ["/shiftgate/shop/blue_green-1".to_owned(), "/shiftgate/default".to_owned()]
        );
        assert_eq!(parameter_segment("a b@c"), "a_x20_b_x40_c");
        assert_eq!(parameter_segment("my_xray"), "my_x5F_xray");
    }

    #[test]
    fn a_policy_of_any_length_is_answered() {
        let problems = parse(&"#".repeat(LONGEST + 1)).unwrap_err();
        assert!(problems[0].what.contains("16384 bytes"), "{}", problems[0]);
        assert!(parse(&"#".repeat(LONGEST)).is_ok());
    }

    proptest! {
        #[test]
        fn no_two_names_share_a_parameter(a in "[a_x0-9F @]{0,8}", b in "[a_x0-9F @]{0,8}") {
            prop_assert_eq!(parameter_segment(&a) == parameter_segment(&b), a == b);
        }

        #[test]
        fn every_segment_is_acceptable(name in "\\PC{1,20}") {
            prop_assert!(parameter_segment(&name).bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)));
        }
    }
}
