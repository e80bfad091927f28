//! Points in time, as results show them and inputs name them.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::{SpanRelativeTo, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::store::Millis;

/// A point in time; shown as RFC 3339 in UTC, in whole seconds unless the format asks for more digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Millis);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.*}", f.precision().unwrap_or(0)),
            Err(_) => f.write_str("-"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = Timestamp::from_millisecond(self.0).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&format_args!("{time:.3}"))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// A length of time, as a user names it: `12h`, `90d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(Millis);

/// Text that names no length of time; prints as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time; use for example 30m, 12h, 90d, at most 10 years")]
pub struct InvalidLifetime(String);

impl Lifetime {
    const MAX: Millis = 3653 * 24 * 3600 * 1000;

    /// The length in milliseconds, from 1 second to 10 years.
    pub fn milliseconds(self) -> Millis {
        self.0
    }
}

impl FromStr for Lifetime {
    type Err = InvalidLifetime;

    fn from_str(text: &str) -> Result<Self, InvalidLifetime> {
        let span = text.parse::<jiff::Span>().ok();
        let length = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        let milliseconds = length.and_then(|length| Millis::try_from(length.as_millis()).ok());
        let valid = milliseconds.filter(|length| (1000..=Self::MAX).contains(length));
        valid.map(Self).ok_or_else(|| InvalidLifetime(text.chars().take(80).collect()))
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Lifetime {
    fn schema_name() -> Cow<'static, str> {
        "Lifetime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "lifetime", "description": "a length of time such as 30m, 12h, 90d" })
    }
}

/// The beginning of a period that ends now, as a user names it: `10m`, `1h 30m`, `2d`, or a time of RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since(pub Millis);

/// Text that names no period; prints as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a period; use for example 30s, 10m, 1h30m, 2d, or a time such as 2026-01-02T15:04:05Z")]
pub struct InvalidSince(String);

impl Since {
    fn parse(text: &str, now: Timestamp) -> Option<Self> {
        let at = if let Ok(time) = text.parse::<Timestamp>() {
            time
        } else {
            let span: jiff::Span = text.parse().ok()?;
            let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
            now.checked_sub(length).ok().filter(|_| !length.is_negative())?
        };
        (at <= now).then(|| Self(at.as_millisecond()))
    }
}

impl FromStr for Since {
    type Err = InvalidSince;

    fn from_str(text: &str) -> Result<Self, InvalidSince> {
        Self::parse(text, Timestamp::now()).ok_or_else(|| InvalidSince(text.chars().take(80).collect()))
    }
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Since {
    fn schema_name() -> Cow<'static, str> {
        "Since".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "period", "description": "a period such as 10m, 1h30m, 2d, or an RFC 3339 time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(Time(1_767_366_245_678).to_string(), "2026-01-02T15:04:05Z");
        assert_eq!(serde_json::to_string(&Time(1_767_366_245_678)).unwrap(), "\"2026-01-02T15:04:05.678Z\"");
    }

    #[test]
    fn periods_and_times_are_read_and_others_refused() {
        let now: Timestamp = "2026-01-02T15:04:05Z".parse().unwrap();
        let seconds = |text: &str| Since::parse(text, now).map(|since| (now.as_millisecond() - since.0) / 1000);
        for (text, expected) in [
            ("30s", 30),
            ("10m", 600),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("2d", 172_800),
            ("1w", 604_800),
            ("2026-01-02T15:04:00Z", 5),
            ("2026-01-02T16:04:00+01:00", 5),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for bad in ["", "10", "m", "yesterday", "-10m", "2027-01-01T00:00:00Z", "1y", "10m x", "99999999999d"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        let error = "yesterday".parse::<Since>().unwrap_err().to_string();
        assert!(error.starts_with("\"yesterday\" is not a period; use for example 30s"), "{error}");
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{assert_message, check, text_near};

    #[test]
    fn periods_end_now() {
        check(text_near(&["30s", "1h 30m", "2d", "2026-01-02T15:04:05Z", "P1DT2H", "1 month"]), |text| {
            match text.parse::<Since>() {
                Ok(since) => assert!(since.0 <= Timestamp::now().as_millisecond()),
                Err(error) => assert_message(&error),
            }
        });
    }
}
