use std::{fmt::Display, str::FromStr};

use super::{
    builds::{BuildDir, BuildProperty},
    checks::CheckProperty,
    ports::Mapping,
    ps::{Quantity, TypeTimeout},
};
use crate::properties::{assert_message, check, text_near};

fn check_word<T: FromStr<Err: Display> + Display + PartialEq + std::fmt::Debug>(samples: &[&str]) {
    check(text_near(samples), |text| match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string().parse::<T>().ok(), Some(value)),
        Err(error) => assert_message(&error),
    });
}

#[test]
fn words_of_operations_are_written_as_they_are_read() {
    check_word::<Mapping>(&["http:8080:5000", "tcp:1:65535"]);
    check_word::<Quantity>(&["web=3", "worker=0", "a.b=100"]);
    check_word::<TypeTimeout>(&["web=30", "web=default", "web=", "30"]);
    check_word::<BuildDir>(&["services/api", "./a/", "."]);
    check(text_near(&["dir", "wait", "stop-timeout", "deploy-branch"]), |text| {
        let refused = [text.parse::<BuildProperty>().err(), text.parse::<CheckProperty>().err()];
        for error in refused.iter().flatten() {
            assert_message(error);
        }
    });
}
