//! Writes a rule's status: at most once a second, and only if it changed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};
use node_readiness_api::{CONTROLLER_NAME, NodeReadinessRule, NodeReadinessRuleStatus};
use node_readiness_engine::status;
use tracing::warn;

use super::error::StatusError;
use super::rate_limiter::RateLimiter;
use crate::api_error;
use crate::cache::StoredRule;
use crate::clock;
use crate::leader::{Leadership, NotWritten};
use crate::write_backoff::WriteBackoff;

/// The only writer of rules' status.
pub(super) struct StatusWriter {
    rules: Api<PartialObjectMeta<NodeReadinessRule>>,
    leadership: Leadership,
    rate_limiter: RateLimiter,
    write_backoff: WriteBackoff,
    /// Uid and generation of rules that were reported as unreadable.
    rejected: Mutex<HashMap<String, (String, Option<i64>)>>,
}

impl StatusWriter {
    pub(super) fn new(client: Client, leadership: Leadership) -> Self {
        Self {
            rules: Api::all(client),
            leadership,
            rate_limiter: RateLimiter::default(),
            write_backoff: WriteBackoff::default(),
            rejected: Mutex::default(),
        }
    }

    /// Returns the wait if the rate limit does not permit a write yet.
    pub(super) fn rate_limited(&self, rule: &NodeReadinessRule) -> Option<Duration> {
        self.rate_limiter.wait(&rule.name_any(), Instant::now())
    }

    /// Writes the status of a rule unless it has this status. Returns the wait if another client reverts it.
    pub(super) async fn report(
        &self,
        rule: &NodeReadinessRule,
        next: &NodeReadinessRuleStatus,
    ) -> Result<Option<Duration>, StatusError> {
        let name = rule.name_any();
        self.rate_limiter.acquire(&name, Instant::now());
        if rule.status.as_ref() == Some(next) {
            return Ok(None);
        }
        let content = content(next);
        let wait = self.write_backoff.wait(&name, content);
        if !wait.is_zero() {
            return Ok(Some(wait));
        }
        self.write(&name, replacement(&name, next)?).await?;
        if self.write_backoff.repeats(&name, content) == Some(0) {
            warn!(rule = name, "another client reverts the status; writing it with backoff");
        }
        self.write_backoff.written(&name, content);
        Ok(None)
    }

    /// Reports the nodes that a deleted rule waits for.
    pub(super) async fn deleting(
        &self,
        rule: &NodeReadinessRule,
        claimed: &[String],
    ) -> Result<(), StatusError> {
        let name = rule.name_any();
        if self.rate_limiter.wait(&name, Instant::now()).is_some() {
            return Ok(());
        }
        self.rate_limiter.acquire(&name, Instant::now());
        let (generation, previous) = (rule.metadata.generation, rule.status.as_ref());
        let next = status::deleting(claimed, generation, previous, clock::now());
        if previous != Some(&next) {
            self.write(&name, replacement(&name, &next)?).await?;
        }
        Ok(())
    }

    /// Reports that a rule cannot be read, once for each generation. Replaces the whole status, which may be the
    /// unreadable part.
    pub(super) async fn reject(&self, rule: &StoredRule, cause: &str) -> Result<(), StatusError> {
        let (name, generation) = (rule.name_any(), rule.meta().generation);
        let version = (rule.uid().unwrap_or_default(), generation);
        if self.lock_rejected().get(&name) == Some(&version) {
            return Ok(());
        }
        self.rate_limiter.acquire(&name, Instant::now());
        let next = status::rejected(cause, generation, None, clock::now());
        self.write(&name, replacement(&name, &next)?).await?;
        self.lock_rejected().insert(name, version);
        Ok(())
    }

    async fn write(&self, name: &str, patch: Patch<()>) -> Result<(), StatusError> {
        let failed = |cause: String| StatusError { rule: name.to_owned(), cause };
        let params =
            PatchParams { field_manager: Some(CONTROLLER_NAME.into()), ..PatchParams::default() };
        match self.leadership.write(self.rules.patch_status(name, &params, &patch)).await {
            Ok(_) => Ok(()),
            Err(NotWritten::Failed(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Err(error) => Err(failed(api_error::of_write(&error).message)),
        }
    }

    fn lock_rejected(&self) -> MutexGuard<'_, HashMap<String, (String, Option<i64>)>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a hash of a status without transition times, which change when another client reverts the status.
fn content(status: &NodeReadinessRuleStatus) -> u64 {
    let mut status = status.clone();
    for condition in &mut status.conditions {
        condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
    }
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(&status).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// Returns a patch that replaces the whole status, because the operator is its only writer.
fn replacement(rule: &str, status: &NodeReadinessRuleStatus) -> Result<Patch<()>, StatusError> {
    let value = serde_json::to_value(status)
        .map_err(|error| StatusError { rule: rule.to_owned(), cause: error.to_string() })?;
    let path = PointerBuf::from_tokens(["status"]);
    Ok(Patch::Json(JsonPatch(vec![PatchOperation::Add(AddOperation { path, value })])))
}
