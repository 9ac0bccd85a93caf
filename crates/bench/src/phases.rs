//! The phases: a cold start, a flip, a storm, and a restart during tainting.

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use tokio::time::sleep;

use crate::answers;
use crate::environment::Environment;
use crate::fixture::{self, Workload, each};
use crate::operator::{Operator, Usage};
use crate::requests::{self, Requests};
use crate::results::{Curve, Events, Latencies, Phase};
use crate::watching::{Change, Counts, Watching};

/// How long nothing may have been written until the phase is over. A status is written at most once a second.
const REST: Duration = Duration::from_millis(2500);

/// The number of nodes that are flipped one after the other.
const SINGLES: usize = 200;

/// What every phase works with.
pub(crate) struct Stage<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) watching: &'a Watching,
    pub(crate) program: &'a Path,
    pub(crate) nodes: usize,
    pub(crate) workload: Workload,
}

/// The state before a phase.
pub(crate) struct Mark {
    begun: Instant,
    requests: Requests,
    cpu: f64,
    /// The length of the operator's log; `None` if no operator runs during the whole phase.
    log: Option<u64>,
}

impl Stage<'_> {
    /// Starts an operator on untainted nodes whose conditions are not met.
    pub(crate) async fn cold_start(&self) -> anyhow::Result<(Operator, Phase)> {
        self.environment.say("operator: a cold start until all nodes are tainted");
        let mark = self.mark(None).await?;
        let operator = self.start()?;
        let done = self.until("tainting", |c| c.tainted == self.nodes).await?;
        let phase = self.finish(&mark, done, &operator, |counts| counts.tainted).await?;
        Ok((operator, phase))
    }

    /// Flips all conditions at full speed until no node is tainted.
    pub(crate) async fn flip(&self, operator: &Operator) -> anyhow::Result<Phase> {
        self.environment.say("operator: all conditions flip to True until no node is tainted");
        let mark = self.mark(Some(operator)).await?;
        self.report_all("True").await?;
        let done = self.until("untainting", |c| c.clean == self.nodes && c.met == c.nodes).await?;
        self.finish(&mark, done, operator, |counts| counts.clean).await
    }

    /// Flips all conditions four times at full speed.
    pub(crate) async fn storm(&self, operator: &Operator) -> anyhow::Result<Phase> {
        self.environment.say("operator: a storm of four flips");
        let mark = self.mark(Some(operator)).await?;
        for status in ["False", "True", "False", "True"] {
            self.report_all(status).await?;
        }
        let done = self.until("the storm", |c| c.clean == self.nodes && c.met == c.nodes).await?;
        self.finish(&mark, done, operator, |counts| counts.clean).await
    }

    /// Kills the operator when half of the nodes are tainted, and starts another one.
    pub(crate) async fn restart(&self, operator: Operator) -> anyhow::Result<(Operator, Phase)> {
        self.environment
            .say("operator: it is killed when half of the nodes are tainted, and started anew");
        let mark = self.mark(Some(&operator)).await?;
        let replace = async {
            self.until("tainting one half", |c| c.tainted >= self.nodes / 2).await?;
            let spent = operator.usage()?.cpu;
            drop(operator);
            anyhow::Ok((self.start()?, spent))
        };
        let ((), (operator, spent)) = tokio::try_join!(self.report_all("False"), replace)?;
        let done = self.until("tainting", |c| c.tainted == self.nodes && c.met == 0).await?;
        let mark = Mark { cpu: mark.cpu - spent, log: None, ..mark };
        let phase = self.finish(&mark, done, &operator, |counts| counts.tainted).await?;
        Ok((operator, phase))
    }

    /// Ends the operator, sets all conditions to met, and starts another one. The time counts from that start.
    pub(crate) async fn met_without_operator(
        &self,
        operator: Operator,
    ) -> anyhow::Result<(Operator, Phase)> {
        self.environment.say("operator: all conditions turn True while none runs, and one starts");
        operator.stop()?;
        self.report_all("True").await?;
        let mark = self.mark(None).await?;
        let operator = self.start()?;
        let done = self.until("untainting", |c| c.clean == self.nodes && c.met == c.nodes).await?;
        let phase = self.finish(&mark, done, &operator, |counts| counts.clean).await?;
        Ok((operator, phase))
    }

    /// Flips one node after the other, each after the last one was confirmed.
    pub(crate) async fn idle_latency(
        &self,
        operator: &Operator,
    ) -> anyhow::Result<Option<Latencies>> {
        self.environment
            .say(&format!("operator: {SINGLES} single nodes flip, one after the other"));
        self.watching.take_notes();
        let log = operator.log_bytes()?;
        let singles = SINGLES.min(self.nodes);
        for number in 0..singles {
            self.report(number, "False").await?;
            self.until("a single node", |c| c.tainted == number + 1).await?;
        }
        // The watch can show the last taint before the operator has logged it.
        self.at_rest().await?;
        let changes = self.watching.take_notes().changes;
        let latencies = self.latencies(&operator.log_since(log)?, &changes);
        each(0..singles, async |n| self.report(n, "True").await).await?;
        self.until("single nodes", |c| c.clean == self.nodes).await?;
        self.at_rest().await?;
        Ok(latencies)
    }

    /// Compares each event that adds a taint with its node by version. All writes have one order of versions.
    pub(crate) async fn events(&self) -> anyhow::Result<Events> {
        let api: Api<Event> = Api::namespaced(self.environment.administrator.clone(), "default");
        let mut found = Events::default();
        let mut params = ListParams::default().limit(500);
        loop {
            let page = api.list(&params).await?;
            for event in &page.items {
                if event.reason.as_deref() != Some("TaintAdded") {
                    continue;
                }
                found.written += 1;
                let node = event.regarding.as_ref().and_then(|regarding| regarding.name.clone());
                let tainted = node.and_then(|node| self.watching.taint_version(&node));
                let version = event.resource_version().and_then(|version| version.parse().ok());
                found.early += usize::from(tainted.is_none() || version < tainted);
            }
            match page.metadata.continue_ {
                Some(more) if !more.is_empty() => params = params.continue_token(&more),
                _ => return Ok(found),
            }
        }
    }

    pub(crate) fn start(&self) -> anyhow::Result<Operator> {
        Operator::start(self.program, &self.environment.kubeconfig)
    }

    pub(crate) async fn mark(&self, operator: Option<&Operator>) -> anyhow::Result<Mark> {
        let requests = requests::count(&self.environment.administrator).await?;
        let cpu = operator.map(Operator::usage).transpose()?.unwrap_or_default().cpu;
        let log = operator.map(Operator::log_bytes).transpose()?;
        self.watching.take_notes();
        Ok(Mark { begun: Instant::now(), requests, cpu, log })
    }

    /// Waits until nothing is written, and returns the results of a phase.
    pub(crate) async fn finish(
        &self,
        mark: &Mark,
        done: Instant,
        operator: &Operator,
        count: impl Fn(&Counts) -> usize,
    ) -> anyhow::Result<Phase> {
        let rest = self.at_rest().await?;
        let Usage { cpu, resident, most_resident } = operator.usage()?;
        let requests = requests::count(&self.environment.administrator).await?;
        let notes = self.watching.take_notes();
        let log = mark.log.map(|bytes| operator.log_since(bytes)).transpose()?;
        let phase = Phase {
            seconds: (done - mark.begun).as_secs_f64(),
            seconds_to_rest: (rest - mark.begun).as_secs_f64(),
            cpu_seconds: cpu - mark.cpu,
            resident_kib: resident,
            most_resident_kib: most_resident,
            requests: requests::between(&mark.requests, &requests),
            changes: notes.changes.len(),
            curve: Curve::of(&notes.curve, mark.begun, count),
            latencies: log.and_then(|log| self.latencies(&log, &notes.changes)),
        };
        self.environment.say(&format!(
            "  {:.2} s, at rest after {:.1} s; {:.2} s of processor time, {} MiB resident",
            phase.seconds,
            phase.seconds_to_rest,
            phase.cpu_seconds,
            phase.resident_kib / 1024,
        ));
        if let Some(Latencies { answered, shown }) = phase.latencies {
            self.environment.say(&format!(
                "  latency p50 {:.0} ms, p99 {:.0} ms; until a watch shows it {:.0} and {:.0} ms",
                answered.p50, answered.p99, shown.p50, shown.p99
            ));
        }
        Ok(phase)
    }

    fn latencies(&self, log: &str, changes: &[Change]) -> Option<Latencies> {
        if changes.is_empty() {
            return None;
        }
        let found = answers::latencies(log, changes, self.workload.rules);
        if let Err(error) = &found {
            self.environment.say(&format!("  the latency is unknown: {error}"));
        }
        found.ok()
    }

    /// Waits until nothing is written. Returns when the writes ended.
    pub(crate) async fn at_rest(&self) -> anyhow::Result<Instant> {
        let written = async || -> anyhow::Result<_> {
            let counts = requests::count(&self.environment.administrator).await?;
            let kinds = ["PATCH nodes", "POST events", "PATCH nodereadinessrules/status"];
            Ok(kinds.map(|kind| requests::of(&counts, kind)))
        };
        let mut known = written().await?;
        loop {
            let since = Instant::now();
            sleep(REST).await;
            let now = written().await?;
            if now == known {
                return Ok(since);
            }
            known = now;
        }
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        reached: impl Fn(&Counts) -> bool,
    ) -> anyhow::Result<Instant> {
        self.watching.until(self.environment.progress(), what, reached).await
    }

    pub(crate) async fn report_all(&self, status: &str) -> anyhow::Result<()> {
        each(0..self.nodes, async |n| self.report(n, status).await).await
    }

    async fn report(&self, number: usize, status: &str) -> anyhow::Result<()> {
        fixture::report(&self.environment.administrator, number, self.workload, status).await
    }
}
