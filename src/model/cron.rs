//! Scheduled jobs, as `app.json` declares them.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::Digest;

/// What happens when a job is due while its last run has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Concurrency {
    /// Both run.
    #[default]
    Allow,
    /// The new run is left out.
    Forbid,
    /// The last run is stopped first.
    Replace,
}

impl Concurrency {
    /// Name in `app.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Forbid => "forbid",
            Self::Replace => "replace",
        }
    }
}

impl std::str::FromStr for Concurrency {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Allow, Self::Forbid, Self::Replace].into_iter().find(|policy| policy.as_str() == text).ok_or(())
    }
}

/// A scheduled job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronJob {
    /// Its name, or an identity that follows from schedule and command.
    pub id: String,
    /// Line for the shell, or a process type.
    pub command: String,
    /// When it is due, in five fields as in crontab(5), or as `@daily`.
    pub schedule: String,
    /// IANA name of the time zone of the schedule.
    pub time_zone: String,
    /// What happens when it is due while its last run has not ended.
    pub concurrency: Concurrency,
    /// How long it may run, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Whether `app.json` has switched it off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maintenance: bool,
}

impl CronJob {
    /// Identity of a job without a name.
    pub fn default_id(schedule: &str, command: &str) -> String {
        Digest::of(format!("{schedule}\n{command}").as_bytes()).hex()[..8].to_owned()
    }

    /// The first time after `time` at which the job is due; `None` if it never is, or the schedule is invalid.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let zone = TimeZone::get(&self.time_zone).ok()?;
        let schedule = parse_schedule(&self.schedule).ok()?;
        schedule.find_next_occurrence(&time.to_zoned(zone), false).ok().map(|zoned| zoned.timestamp())
    }
}

/// Checks a schedule; the error is the reason why it is refused.
pub(super) fn check_schedule(text: &str) -> Result<(), String> {
    let schedule = parse_schedule(text)?;
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    schedule.find_next_occurrence(&now, false).map(drop).map_err(|_| "it is never due".to_owned())
}

/// Whether there is a time zone of this name.
pub(super) fn is_time_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

fn parse_schedule(text: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| error.to_string().trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(schedule: &str, time_zone: &str) -> CronJob {
        CronJob {
            id: "x".into(),
            command: "true".into(),
            schedule: schedule.into(),
            time_zone: time_zone.into(),
            concurrency: Concurrency::Allow,
            timeout_seconds: None,
            maintenance: false,
        }
    }

    fn next(schedule: &str, time_zone: &str, after: &str) -> String {
        job(schedule, time_zone).next_after(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn a_schedule_is_followed_in_its_time_zone() {
        assert_eq!(next("*/5 * * * *", "UTC", "2026-03-01T10:05:00Z"), "2026-03-01T10:10:00Z");
        assert_eq!(next("@daily", "UTC", "2026-03-01T10:05:00Z"), "2026-03-02T00:00:00Z");
        assert_eq!(next("30 4 * * mon-fri", "Europe/Vienna", "2026-03-06T12:00:00Z"), "2026-03-09T03:30:00Z");
        // In the hour that is left out in spring, the job is due once, and in the hour that is repeated in autumn, too.
        assert_eq!(next("30 2 * * *", "Europe/Vienna", "2026-03-28T12:00:00Z"), "2026-03-29T01:00:00Z");
        assert_eq!(next("30 2 * * *", "Europe/Vienna", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", "Europe/Vienna", "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in
            ["", "hourly", "* * * *", "* * * * * *", "61 * * * *", "0 25 * * *", "@reboot", "0 0 31 2 *", "a b c d e"]
        {
            assert!(check_schedule(bad).is_err(), "{bad}");
        }
        for good in ["0 1 * * *", "@hourly", "*/15 8-18 * * 1-5", "0 0 1 jan *", "0 0 29 2 *"] {
            assert_eq!(check_schedule(good), Ok(()), "{good}");
        }
        assert!(is_time_zone("Europe/Berlin") && !is_time_zone("Mars/Base"));
    }
}
