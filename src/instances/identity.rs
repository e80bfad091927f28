//! Identities of new instances.

use crate::model::{AppName, InstanceId, InvalidName, ProcessType};

/// A random identity that was never used before. It is also the name of the container.
pub(super) fn new_id(app: &AppName, process_type: &ProcessType, ordinal: u32) -> Result<InstanceId, InvalidName> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let random: String =
        rand::random::<[u8; 10]>().iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    format!("{app}-{}-{ordinal}-{random}", abbreviated(process_type)).parse()
}

/// The first characters of a process type, with those replaced that an identity may not contain.
fn abbreviated(process_type: &ProcessType) -> String {
    let characters = process_type.as_str().chars().take(9);
    characters.map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_type_gives_a_valid_identity() {
        for (process_type, expected) in [("web", "web"), ("Job_a.v2-x", "job-a-v2-"), ("0", "0")] {
            let process_type = process_type.parse().unwrap();
            assert_eq!(abbreviated(&process_type), expected);
            for app in ["app", "1", "a".repeat(63).as_str()] {
                let id = new_id(&app.parse().unwrap(), &process_type, u32::MAX).unwrap();
                assert!(id.as_str().starts_with(&format!("{app}-{expected}-{}-", u32::MAX)), "{id}");
            }
        }
    }
}
