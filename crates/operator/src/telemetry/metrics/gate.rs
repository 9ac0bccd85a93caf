//! Authenticates and authorizes readers of metrics.
//!
//! It sends `TokenReview`s and `SubjectAccessReview`s, as aggregated APIs do, so RBAC decides.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use node_readiness_engine::rbac::METRICS_PATH;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tracing::warn;

/// How long a positive answer is cached.
const ADMITTED: Duration = Duration::from_mins(1);

/// How long a negative answer is cached, so that a new binding works soon.
const REFUSED: Duration = Duration::from_secs(5);

/// The timeout of a review.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of concurrent reviews, because anybody may send any number of tokens.
const QUESTIONS: usize = 4;

/// The maximum number of cached answers.
const REMEMBERED: usize = 256;

/// The decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may read metrics.
    Admitted,
    /// It has no token, or an unknown one.
    Unauthenticated,
    /// The user is known and not authorized.
    Forbidden,
    /// The API server did not answer the review.
    Unknown,
}

/// Admits authorized requests.
pub(super) struct Gate {
    client: Client,
    questions: Semaphore,
    /// By the hash of the token, so that the cache contains no tokens.
    answers: Mutex<Answers>,
}

type Answers = HashMap<[u8; 32], (Verdict, Instant)>;

impl Gate {
    pub(super) fn new(client: Client) -> Self {
        Self { client, questions: Semaphore::new(QUESTIONS), answers: Mutex::default() }
    }

    /// Decides about a request by its headers.
    pub(super) async fn decide(&self, headers: &HeaderMap) -> Verdict {
        let Some(token) = bearer(headers) else { return Verdict::Unauthenticated };
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.known(&hash) {
            return known;
        }
        // The semaphore is never closed.
        let _permit = self.questions.acquire().await;
        if let Some(known) = self.known(&hash) {
            return known;
        }
        let verdict = match tokio::time::timeout(TIMEOUT, self.ask(token)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => {
                warn!("cannot authorize a reader of metrics: {error}");
                Verdict::Unknown
            }
            Err(_) => {
                warn!("cannot authorize a reader of metrics: no answer in {TIMEOUT:?}");
                Verdict::Unknown
            }
        };
        self.remember(hash, verdict);
        verdict
    }

    async fn ask(&self, token: &str) -> kube::Result<Verdict> {
        let Some(user) = self.who(token).await? else { return Ok(Verdict::Unauthenticated) };
        let review = SubjectAccessReview { spec: may_read(user), ..Default::default() };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        Ok(if allowed { Verdict::Admitted } else { Verdict::Forbidden })
    }

    async fn who(&self, token: &str) -> kube::Result<Option<UserInfo>> {
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let reviews = Api::<TokenReview>::all(self.client.clone());
        let review = TokenReview { spec, ..Default::default() };
        let status = reviews.create(&PostParams::default(), &review).await?.status;
        let status = status.filter(|status| status.authenticated == Some(true));
        Ok(status.and_then(|status| status.user))
    }

    fn known(&self, token: &[u8; 32]) -> Option<Verdict> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(token).filter(|(_, until)| Instant::now() < *until).map(|(known, _)| *known)
    }

    fn remember(&self, token: [u8; 32], verdict: Verdict) {
        let kept = match verdict {
            Verdict::Admitted => ADMITTED,
            Verdict::Unauthenticated | Verdict::Forbidden => REFUSED,
            Verdict::Unknown => return,
        };
        let now = Instant::now();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (_, until)| now < *until);
        if answers.len() < REMEMBERED {
            answers.insert(token, (verdict, now + kept));
        }
    }
}

impl IntoResponse for Verdict {
    fn into_response(self) -> Response {
        match self {
            Self::Admitted => StatusCode::OK.into_response(),
            Self::Unauthenticated => {
                let what = "a bearer token that this cluster accepts is required\n";
                (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], what).into_response()
            }
            Self::Forbidden => {
                let what =
                    "get of this path is not allowed; ClusterRole nrr-metrics-reader allows it\n";
                (StatusCode::FORBIDDEN, what).into_response()
            }
            Self::Unknown => {
                let what = "the API server did not answer the access review\n";
                (StatusCode::SERVICE_UNAVAILABLE, what).into_response()
            }
        }
    }
}

/// Returns the bearer token of a request (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Returns the review of whether a user may read metrics.
fn may_read(user: UserInfo) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: user.username,
        groups: user.groups,
        uid: user.uid,
        extra: user.extra,
        non_resource_attributes: Some(NonResourceAttributes {
            path: Some(METRICS_PATH.to_owned()),
            verb: Some("get".to_owned()),
        }),
        resource_attributes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn the_scheme_of_a_bearer_token_is_case_insensitive() {
        assert_eq!(bearer(&with("Bearer abc")), Some("abc"));
        assert_eq!(bearer(&with("bearer  abc")), Some("abc"));
    }

    #[test]
    fn other_schemes_and_empty_tokens_are_no_token() {
        for value in ["Basic abc", "Bearer", "Bearer ", "abc"] {
            assert_eq!(bearer(&with(value)), None, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
