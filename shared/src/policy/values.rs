//! Values as people write them: `5%`, `1.25x`, `30s`, `2xx`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use crate::verdict::{Quantity, Unit};

/// Implements `Deserialize` (from a text or a number) through `parse(&str)`, and `JsonSchema` with a pattern.
macro_rules! written_as {
    ($type:ident, $parse:expr, $expecting:literal, $pattern:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOrNumber($expecting, $parse))
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": ["string", "number"], "pattern": $pattern, "description": $expecting})
            }
        }
    };
}

struct TextOrNumber<T>(&'static str, fn(&str) -> Result<T, String>);

impl<T> Visitor<'_> for TextOrNumber<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        self.1(text.trim()).map_err(|why| E::custom(format!("{why}, expected {}", self.0)))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// A ratio from 0 to 1, written `5%` or `0.05`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);
written_as!(Share, parse_share, "a percentage such as 5%, or a ratio from 0 to 1", r"^\d+(\.\d+)?\s*%?$");

/// A factor of at least 1, written `1.25x` or `1.25`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times(pub f64);
written_as!(Times, parse_times, "a factor of at least 1, such as 1.5x", r"^\d+(\.\d+)?\s*x?$");

/// A length of time, written `500ms`, `30s`, `10m`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);
written_as!(
    Span,
    parse_span,
    "a length of time such as 500ms, 30s, 10m or 1h",
    r"^(\d+(\.\d+)?\s*[a-z]+\s*)+$"
);

/// A limit in the unit of what it limits: `5%`, `500ms`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit(pub Quantity);
written_as!(
    Limit,
    parse_limit,
    "a limit such as 5%, 500ms or a plain number",
    r"^\d+(\.\d+)?\s*(%|ns|us|ms|s|m|h)?$"
);

/// From where on a sample is slow: `auto`, or a limit such as `500ms`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowerThan(pub Option<Quantity>);
written_as!(
    SlowerThan,
    parse_slower_than,
    "`auto`, a time such as 500ms, or a plain number for other metrics",
    r"^(auto|\d+(\.\d+)?\s*(ns|us|ms|s|m|h)?)$"
);

/// HTTP statuses that count as good: `200`, `2xx`, `200-299`, or several with commas (`200,302`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);
written_as!(
    Statuses,
    Statuses::from_str,
    "HTTP statuses such as 200, 2xx, 200-299 or 200,302",
    r"^\s*(\d{3}(-\d{3})?|[1-5]xx)(\s*,\s*(\d{3}(-\d{3})?|[1-5]xx))*\s*$"
);

impl Statuses {
    /// Whether `status` is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ranges: Vec<String> = self.0.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        serializer.serialize_str(&ranges.join(","))
    }
}

impl FromStr for Statuses {
    type Err = String;

    /// Reads the form of a target group's matcher and of the policy alike.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a set of HTTP statuses");
        let number = |text: &str| -> Result<u16, String> {
            text.trim().parse().ok().filter(|status| (100..=599).contains(status)).ok_or_else(wrong)
        };
        text.split(',')
            .map(|part| match (part.trim().to_ascii_lowercase().strip_suffix("xx"), part.split_once('-')) {
                (Some(class), _) => {
                    let first = number(&format!("{class}00"))?;
                    Ok((first, first + 99))
                }
                (None, Some((first, last))) => {
                    let range = (number(first)?, number(last)?);
                    if range.0 <= range.1 { Ok(range) } else { Err(wrong()) }
                }
                (None, None) => number(part).map(|status| (status, status)),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

fn parse_number(text: &str) -> Result<f64, String> {
    text.trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("`{text}` is not a number"))
}

fn parse_share(text: &str) -> Result<Share, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => parse_number(percent)? / 100.0,
        None => parse_number(text)?,
    };
    if share <= 1.0 { Ok(Share(share)) } else { Err(format!("`{text}` is more than 100 %")) }
}

fn parse_times(text: &str) -> Result<Times, String> {
    let factor = parse_number(text.strip_suffix(['x', 'X']).unwrap_or(text))?;
    if factor >= 1.0 { Ok(Times(factor)) } else { Err(format!("`{text}` is less than 1")) }
}

fn parse_span(text: &str) -> Result<Span, String> {
    if text.parse::<f64>().is_ok() {
        return Err(format!("`{text}` has no unit"));
    }
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|span| Duration::try_from(span).ok())
        .map(Span)
        .ok_or_else(|| format!("`{text}` is not a length of time"))
}

fn parse_slower_than(text: &str) -> Result<SlowerThan, String> {
    if text == "auto" {
        return Ok(SlowerThan(None));
    }
    let Limit(limit) = parse_limit(text)?;
    if limit.unit == Unit::Share { Err(format!("`{text}` is no time")) } else { Ok(SlowerThan(Some(limit))) }
}

fn parse_limit(text: &str) -> Result<Limit, String> {
    if text.ends_with('%') {
        return parse_share(text).map(|share| Limit(Quantity::share(share.0)));
    }
    if let Ok(number) = parse_number(text) {
        return Ok(Limit(Quantity::plain(number)));
    }
    parse_span(text).map(|span| Limit(Quantity::seconds(span.0.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(read::<Share>(json!("5%")), Ok(Share(0.05)));
        assert_eq!(read::<Share>(json!(0.05)), Ok(Share(0.05)));
        assert_eq!(read::<Times>(json!("1.25x")), Ok(Times(1.25)));
        assert_eq!(read::<Span>(json!("1h 30m")), Ok(Span(Duration::from_mins(90))));
        assert_eq!(read::<Span>(json!("500ms")), Ok(Span(Duration::from_millis(500))));
        assert_eq!(read::<Limit>(json!("500ms")), Ok(Limit(Quantity::seconds(0.5))));
        assert_eq!(read::<Limit>(json!("2%")), Ok(Limit(Quantity::share(0.02))));
        assert_eq!(read::<Limit>(json!(7)), Ok(Limit(Quantity::plain(7.0))));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (error, part) in [
            (read::<Share>(json!("120%")).unwrap_err(), "more than 100 %"),
            (read::<Share>(json!(-0.1)).unwrap_err(), "not a number"),
            (read::<Times>(json!("0.5x")).unwrap_err(), "less than 1"),
            (read::<Span>(json!(30)).unwrap_err(), "has no unit, expected a length of time"),
            (read::<Span>(json!("-5s")).unwrap_err(), "not a length of time"),
            (read::<Statuses>(json!("2x")).unwrap_err(), "not a set of HTTP statuses"),
            (read::<Statuses>(json!("300-200")).unwrap_err(), "not a set of HTTP statuses"),
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn statuses_hold_what_they_say() {
        let statuses: Statuses = "2xx, 302,400-404".parse().unwrap();
        let held: Vec<u16> = [199, 200, 299, 300, 302, 400, 404, 405]
            .into_iter()
            .filter(|status| statuses.contains(*status))
            .collect();
        assert_eq!(held, [200, 299, 302, 400, 404]);
        assert_eq!(statuses.to_string(), "200-299,302,400-404");
    }

    proptest! {
        #[test]
        fn statuses_survive_being_shown(ranges in proptest::collection::vec((100_u16..600, 0_u16..50), 1..4)) {
            let text = ranges.iter().map(|(first, more)| format!("{first}-{}", (first + more).min(599))).collect::<Vec<_>>().join(",");
            let statuses: Statuses = text.parse().unwrap();
            prop_assert_eq!(statuses.to_string().parse::<Statuses>().unwrap(), statuses);
        }
    }
}
