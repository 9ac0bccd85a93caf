//! Writing a rule's status: at most once a second, and only if it changed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation};
use kube::api::{Api, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use node_readiness_api::{CONTROLLER_NAME, NodeReadinessRule, NodeReadinessRuleStatus};
use node_readiness_engine::status::{self, Reporters};
use node_readiness_engine::{Rule, status::fold};
use thiserror::Error;
use tokio::time::timeout;

use super::WRITE_TIMEOUT;
use crate::clock;
use crate::ledger::SharedLedger;
use crate::watches::StoredRule;

/// Shortest time between two writes of one rule's status.
const INTERVAL: Duration = Duration::from_secs(1);

/// A status could not be written.
#[derive(Debug, Error)]
#[error("status of NodeReadinessRule {rule} could not be written: {cause}")]
pub struct ReportError {
    rule: String,
    cause: String,
}

/// The one writer of rules' status.
pub(super) struct StatusWriter {
    rules: Api<PartialObjectMeta<NodeReadinessRule>>,
    written: Mutex<HashMap<String, Instant>>,
}

impl StatusWriter {
    pub(super) fn new(client: Client) -> Self {
        Self { rules: Api::all(client), written: Mutex::default() }
    }

    /// Reports how a rule stands. If its turn has not come, says when it will.
    pub(super) async fn report(
        &self,
        rule: &NodeReadinessRule,
        reporters: &Reporters,
        ledger: &SharedLedger,
    ) -> Result<Action, ReportError> {
        let name = rule.name_any();
        if let Some(wait) = self.turn_in(&name) {
            return Ok(Action::requeue(wait));
        }
        let (generation, previous) = (rule.metadata.generation, rule.status.as_ref());
        let next = match Rule::compile(rule) {
            Ok(compiled) => ledger.read(|ledger| {
                let entries = ledger.of(&compiled.uid);
                fold(&compiled, generation, entries, reporters, previous, clock::now())
            }),
            Err(rejection) => {
                status::rejected(&rejection.to_string(), generation, previous, clock::now())
            }
        };
        self.write(&name, &next, previous).await
    }

    /// Reports that a rule cannot be read.
    pub(super) async fn reject(
        &self,
        rule: &StoredRule,
        previous: Option<&NodeReadinessRuleStatus>,
        cause: &str,
    ) -> Result<Action, ReportError> {
        let name = rule.name_any();
        if let Some(wait) = self.turn_in(&name) {
            return Ok(Action::requeue(wait));
        }
        let generation = kube::Resource::meta(rule).generation;
        let next = status::rejected(cause, generation, previous, clock::now());
        self.write(&name, &next, previous).await
    }

    async fn write(
        &self,
        name: &str,
        next: &NodeReadinessRuleStatus,
        previous: Option<&NodeReadinessRuleStatus>,
    ) -> Result<Action, ReportError> {
        if previous == Some(next) {
            return Ok(Action::await_change());
        }
        let failed = |cause: String| ReportError { rule: name.to_owned(), cause };
        // The whole status in one stroke, without a read: nobody else writes it.
        let replace = PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(["status"]),
            value: serde_json::to_value(next).map_err(|error| failed(error.to_string()))?,
        });
        let patch = Patch::Json::<()>(JsonPatch(vec![replace]));
        let params =
            PatchParams { field_manager: Some(CONTROLLER_NAME.into()), ..PatchParams::default() };
        self.note(name);
        match timeout(WRITE_TIMEOUT, self.rules.patch_status(name, &params, &patch)).await {
            Ok(Ok(_)) => Ok(Action::await_change()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(Action::await_change()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer in {WRITE_TIMEOUT:?}"))),
        }
    }

    /// How long a rule has to wait for its next write.
    fn turn_in(&self, rule: &str) -> Option<Duration> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = INTERVAL.checked_sub(written.get(rule)?.elapsed())?;
        (!wait.is_zero()).then_some(wait)
    }

    fn note(&self, rule: &str) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        // Rules whose turn has come need no note; this keeps the map as small as it can be.
        written.retain(|_, at| at.elapsed() < INTERVAL);
        written.insert(rule.to_owned(), Instant::now());
    }
}
