//! A function with numbered versions and an alias that points to one of them, or is on its way between two.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::meter::Meter;
use crate::api::ApiError;
use crate::application::Behaviour;
use crate::lambda::function_arn;

/// A pretended Lambda function.
#[derive(Debug)]
pub struct AliasedFunction {
    /// Name of the function.
    pub name: String,
    /// Name of its alias.
    pub alias: String,
    meter: Meter,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By number, from 1.
    versions: BTreeMap<u64, Behaviour>,
    /// `FunctionVersion` of the alias.
    live: String,
    /// `AdditionalVersionWeights` of the alias, of which there is one at most.
    additional: Option<(String, f64)>,
}

/// What a function answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The version that was executed.
    pub version: String,
    /// Whether it ended with an error.
    pub failed: bool,
    /// What it answered, or the error.
    pub payload: Value,
}

impl AliasedFunction {
    /// A function whose alias points to its first version.
    pub fn new(name: &str, alias: &str, first: &Behaviour, meter: Meter) -> Self {
        let state =
            State { versions: BTreeMap::from([(1, first.clone())]), live: "1".to_owned(), additional: None };
        Self { name: name.to_owned(), alias: alias.to_owned(), meter, state: Mutex::new(state) }
    }

    /// Publishes a version and returns its number. The alias stays as it is.
    pub fn publish(&self, behaviour: &Behaviour) -> String {
        let mut state = self.lock();
        let number = state.versions.keys().last().map_or(1, |last| last + 1);
        state.versions.insert(number, behaviour.clone());
        number.to_string()
    }

    /// Gives a version another behaviour; an unknown one stays unknown.
    pub fn behave(&self, version: &str, behaviour: &Behaviour) {
        let mut state = self.lock();
        if let Some(known) = number(version).and_then(|number| state.versions.get_mut(&number)) {
            *known = behaviour.clone();
        }
    }

    /// The version that the alias points to; while it is on its way to another one, the old one.
    pub fn live(&self) -> String {
        self.lock().live.clone()
    }

    /// The other version that the alias points to, with its share from 0 to 1.
    pub fn additional(&self) -> Option<(String, f64)> {
        self.lock().additional.clone()
    }

    /// Whether the alias points to two versions.
    pub fn is_between_versions(&self) -> bool {
        self.lock().additional.is_some()
    }

    /// The alias as the dimension `Resource` has it: `<function>:<alias>`.
    pub fn resource(&self) -> String {
        format!("{}:{}", self.name, self.alias)
    }

    /// Gives one version this share of the alias's invocations, from 0 to 1, and another one the rest.
    pub fn shift(&self, from: &str, to: &str, share: f64) -> Result<(), ApiError> {
        let mut state = self.lock();
        for version in [from, to] {
            if !number(version).is_some_and(|number| state.versions.contains_key(&number)) {
                return Err(self.unknown(version));
            }
        }
        (state.live, state.additional) = if share >= 1.0 {
            (to.to_owned(), None)
        } else {
            (from.to_owned(), (share > 0.0).then(|| (to.to_owned(), share)))
        };
        Ok(())
    }

    /// Invokes a version by its number, the alias, or without a qualifier what was published last.
    pub async fn invoke(&self, qualifier: Option<&str>, payload: &[u8]) -> Result<Answer, ApiError> {
        let between = self.is_between_versions();
        let (version, behaviour) = self.resolve(qualifier)?;
        let at = Timestamp::now();
        let latency = behaviour.draw_latency();
        tokio::time::sleep(latency).await;
        let failed = !behaviour.accepting || behaviour.draw_error();
        // The function's own time, not that of this busy machine; Lambda dates it to when the function was invoked.
        let milliseconds = latency.as_secs_f64() * 1000.0;
        if qualifier == Some(&self.alias) {
            let errors = f64::from(u8::from(failed));
            self.meter.through_alias(&version, between, at, 1.0, errors, &[(milliseconds, 1.0)]);
        } else {
            self.meter.direct(qualifier, at, failed, milliseconds);
        }
        let payload = if failed { error(&behaviour) } else { answer(&version, &behaviour, payload) };
        Ok(Answer { version, failed, payload })
    }

    /// Whether a qualifier means a version; the error is what Lambda answers if it does not.
    pub fn check(&self, qualifier: Option<&str>) -> Result<(), ApiError> {
        self.resolve(qualifier).map(drop)
    }

    /// Where its invocations are recorded.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    fn resolve(&self, qualifier: Option<&str>) -> Result<(String, Behaviour), ApiError> {
        let state = self.lock();
        let version = match qualifier {
            None | Some("$LATEST") => state.versions.keys().last().map(u64::to_string),
            Some(alias) if alias == self.alias => Some(match &state.additional {
                Some((additional, share)) if rand::random::<f64>() < *share => additional.clone(),
                _ => state.live.clone(),
            }),
            Some(version) => Some(version.to_owned()),
        };
        let found = version.and_then(|version| {
            let behaviour = state.versions.get(&number(&version)?)?;
            Some((version, behaviour.clone()))
        });
        found.ok_or_else(|| self.unknown(qualifier.unwrap_or("$LATEST")))
    }

    fn unknown(&self, qualifier: &str) -> ApiError {
        ApiError {
            status: 404,
            code: "ResourceNotFoundException".to_owned(),
            message: format!("Function not found: {}:{qualifier}", function_arn(&self.name)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A version's number, which has no leading zeros.
fn number(version: &str) -> Option<u64> {
    version.parse().ok().filter(|number: &u64| number.to_string() == version)
}

/// What the version was given to answer, or which one it is and what it was asked.
fn answer(version: &str, behaviour: &Behaviour, payload: &[u8]) -> Value {
    let json = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
    match &behaviour.body {
        Some(body) => json(body.as_bytes()).unwrap_or_else(|| Value::String(body.clone())),
        None => json!({"version": version, "echo": json(payload)}),
    }
}

fn error(behaviour: &Behaviour) -> Value {
    if behaviour.accepting {
        json!({"errorType": "Error", "errorMessage": "the version was told to fail", "trace": []})
    } else {
        json!({"errorType": "Runtime.ExitError", "errorMessage": "Error: Runtime exited with error: exit status 1"})
    }
}
