//! Steady state: heartbeats and nothing else.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use crate::fixture;
use crate::operator::Operator;
use crate::phases::Stage;
use crate::results::Phase;

/// How often kubelet and each rule's reporter renew a node's conditions, by default.
const HEARTBEAT: Duration = Duration::from_mins(5);

/// Sends the heartbeats of every node's kubelet and reporters for this long, evenly distributed.
pub(crate) async fn measure(
    stage: &Stage<'_>,
    operator: &Operator,
    duration: Duration,
) -> anyhow::Result<Phase> {
    let writers = u32::try_from(stage.nodes * (1 + stage.workload.rules))?;
    let pause = HEARTBEAT / writers;
    let beats = duration.as_secs_f64() / pause.as_secs_f64();
    stage.environment.say(&format!(
        "operator: {beats:.0} heartbeats and nothing else for {} s",
        duration.as_secs()
    ));
    let mark = stage.mark(Some(operator)).await?;
    let begun = Instant::now();
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0;
    while begun.elapsed() < duration {
        ticks.tick().await;
        let client = &stage.environment.administrator;
        let (node, rules) = (number % stage.nodes, stage.workload.rules);
        fixture::report_conditions(client, node, rules, "True").await?;
        number += 1;
    }
    stage.finish(&mark, Instant::now(), operator, |counts| counts.clean).await
}
