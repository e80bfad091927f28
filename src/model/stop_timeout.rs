//! Grace period of a process type.

use super::Line;

/// Grace period of the instances and tasks of a process type, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(try_from = "u32", into = "u32")]
#[cfg_attr(feature = "server", schemars(extend("minimum" = 1, "maximum" = 3600)))]
pub struct StopTimeout(u32);

impl StopTimeout {
    /// Longest grace period, in seconds: a deploy that replaces the last instances of a type waits for it.
    pub const MAX_SECONDS: u32 = 3600;

    /// The seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for StopTimeout {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, String> {
        let max = Self::MAX_SECONDS;
        let valid = (1..=max).contains(&seconds).then_some(Self(seconds));
        valid.ok_or_else(|| format!("a stop timeout is from 1 to {max} seconds, not {seconds}"))
    }
}

impl From<StopTimeout> for u32 {
    fn from(timeout: StopTimeout) -> Self {
        timeout.0
    }
}

impl std::str::FromStr for StopTimeout {
    type Err = String;

    /// Reads `30` or `30s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.strip_suffix('s').unwrap_or(text).parse::<u32>();
        let max = Self::MAX_SECONDS;
        seconds
            .map_err(|_| {
                format!("{:?} is no stop timeout; write seconds from 1 to {max}, such as 30", Line::excerpt(text))
            })?
            .try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_within_limits_are_read() {
        for (text, seconds) in [("30", 30), ("30s", 30), ("1", 1), ("3600", 3600)] {
            assert_eq!(text.parse::<StopTimeout>().unwrap().seconds(), seconds);
        }
        for text in ["", "0", "3601", "-1", "1m", "1.5"] {
            assert!(text.parse::<StopTimeout>().is_err(), "{text}");
        }
    }
}
