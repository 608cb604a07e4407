//! What one call of a hook leaves for the next: ECS keeps it in the hook's details. Nothing that a verdict rests on, only
//! since when something is waited for. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::LifecycleStage;

/// Key of the details under which it stands.
pub const KEY: &str = "shiftgate";
/// Version of its form.
const VERSION: u32 = 1;

/// What is carried. Times are seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    version: u32,
    /// The stage that is waited at.
    pub stage: String,
    /// Green's share of production traffic in percent, if it was told.
    pub weight: Option<f64>,
    since: i64,
    shift_began: Option<i64>,
    /// Calls in a row that ended with a fault which may heal.
    #[serde(default)]
    pub tries: u32,
}

impl Carried {
    /// For the next call.
    pub fn new(
        stage: LifecycleStage,
        weight: Option<f64>,
        since: Timestamp,
        shift_began: Option<Timestamp>,
        tries: u32,
    ) -> Self {
        Self {
            version: VERSION,
            stage: stage.as_str().to_owned(),
            weight,
            since: since.as_second(),
            shift_began: shift_began.map(Timestamp::as_second),
            tries,
        }
    }

    /// Since when the stage is waited at with this weight.
    pub fn since(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.since).ok()
    }

    /// When production traffic began to shift.
    pub fn shift_began(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.shift_began?).ok()
    }
}

/// What was carried, if anything; the error says why it cannot be used.
pub fn read(details: &Map<String, Value>, now: Timestamp) -> Result<Option<Carried>, String> {
    let Some(value) = details.get(KEY) else { return Ok(None) };
    if let Some(version) = value["version"].as_u64().filter(|version| *version != u64::from(VERSION)) {
        return Err(format!(
            "hookDetails.{KEY} has version {version}, and {VERSION} is understood; it was left out"
        ));
    }
    let carried = Carried::deserialize(value).map_err(|error| {
        format!("hookDetails.{KEY} was not written by Shiftgate ({error}); it was left out")
    })?;
    let latest = now.as_second();
    if carried.since > latest || carried.shift_began.is_some_and(|began| began > latest) {
        return Err(format!("hookDetails.{KEY} is of the future; it was left out"));
    }
    Ok(Some(carried))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_this_version_wrote_is_taken_over() {
        let now = Timestamp::from_second(1000).unwrap();
        let read = |value: Value| {
            let details = Map::from_iter([(KEY.to_owned(), value)]);
            read(&details, now)
        };
        let carried = Carried::new(LifecycleStage::ProductionTrafficShift, Some(5.0), now, None, 1);
        assert_eq!(read(json!(carried)), Ok(Some(carried.clone())));
        assert!(read(json!({"version": 2})).unwrap_err().contains("version 2"));
        assert!(read(json!("later")).unwrap_err().contains("was not written by Shiftgate"));
        assert!(
            read(json!({"version": 1, "stage": 7})).unwrap_err().contains("was not written by Shiftgate")
        );
        let future = Carried { since: 1001, ..carried };
        assert!(read(json!(future)).unwrap_err().contains("future"));
        assert_eq!(super::read(&Map::new(), now), Ok(None));
    }
}
