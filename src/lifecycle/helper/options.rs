//! Options of the helper's verbs.

use super::answer::{Refusal, wrong};

/// Refuses options that a verb does not have: those of `alone` have no value, those of `valued` have one.
pub(super) fn check_options(verb: &str, options: &[&str], alone: &[&str], valued: &[&str]) -> Result<(), Refusal> {
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if valued.contains(option) {
            options.next();
        } else if !alone.contains(option) {
            return Err(wrong(format!("bp {verb}: there is no option {option}")));
        }
    }
    Ok(())
}
