//! How many requests a token may send.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use axum::http::StatusCode;
use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::HashMapStateStore,
};

use super::problem::Problem;
use crate::{config::Http, operations::FailureKind};

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// Requests after which keys without recent requests are forgotten.
const CLEANUP: u32 = 1024;

pub(super) struct Limits {
    requests: Keyed<String>,
    counted: AtomicU32,
}

impl Limits {
    pub(super) fn new(config: &Http) -> Self {
        let per_minute = NonZeroU32::new(config.requests_per_minute).unwrap_or(NonZeroU32::MAX);
        Self { requests: RateLimiter::hashmap(Quota::per_minute(per_minute)), counted: AtomicU32::new(0) }
    }

    /// Counts a request with a token.
    pub(super) fn request(&self, token: &str) -> Result<(), Problem> {
        self.clean_up();
        self.requests.check_key(&token.to_owned()).map_err(|not_until| {
            refused(&not_until, "this token has sent too many requests; wait, or raise http.requests_per_minute")
        })
    }

    fn clean_up(&self) {
        if self.counted.fetch_add(1, Ordering::Relaxed) % CLEANUP == CLEANUP - 1 {
            self.requests.retain_recent();
        }
    }
}

fn refused(not_until: &NotUntil<<DefaultClock as governor::clock::Clock>::Instant>, message: &str) -> Problem {
    let wait = not_until.wait_time_from(DefaultClock::default().now());
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, FailureKind::TooMany, message);
    Problem { retry_after: Some(wait.as_secs() + 1), ..problem }
}
