//! The result of `periodic:list`.

use super::{
    output::Text,
    table::{or_hyphen, table},
};
use crate::operations::PeriodicInfo;

impl Text for Vec<PeriodicInfo> {
    fn text(&self) -> String {
        let rows = self.iter().map(|periodic| {
            let result = periodic.error.as_ref().map(|error| format!("failed: {error}"));
            [
                periodic.name.clone(),
                format!("{} s", periodic.period_seconds),
                periodic.runs.to_string(),
                periodic.failures.to_string(),
                or_hyphen(periodic.last.map(|time| time.to_string())),
                or_hyphen(result.or_else(|| periodic.result.clone().filter(|result| !result.is_empty()))),
            ]
        });
        table(["NAME", "EVERY", "RUNS", "FAILURES", "LAST", "RESULT"], rows)
    }
}
