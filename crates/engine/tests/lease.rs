//! Leader election: one candidate, and several candidates whose requests interleave in any order.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use node_readiness_engine::lease::{
    Candidate, Decision, LANDING, LEASE_DURATION, Loss, RENEW_DEADLINE, RETRY_PERIOD,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lease(version: &str, holder: &str) -> Lease {
    serde_json::from_value(json!({
        "metadata": {"name": "l", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 4},
    }))
    .unwrap()
}

fn written(decision: &Decision) -> Value {
    let Decision::Write(lease) = decision else { panic!("{decision:?}") };
    serde_json::to_value(lease).unwrap()
}

/// A candidate `a` that acquired the Lease with a request sent at `sent`.
fn leader(sent: Duration) -> Candidate {
    let mut candidate = Candidate::new("a".to_owned());
    candidate.written(lease("1", "a"), sent);
    candidate
}

#[test]
fn a_missing_lease_is_created() {
    let mut candidate = Candidate::new("a".to_owned());
    candidate.observe(None, secs(1));
    let lease = written(&candidate.decide(secs(1), NOW));
    assert_eq!(lease["metadata"].get("resourceVersion"), None);
    assert_eq!(lease["spec"]["holderIdentity"], "a");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
    assert_eq!(candidate.claim(), None, "a decision alone makes no claim");
}

#[test]
fn a_held_lease_is_acquired_when_it_was_not_renewed_for_its_duration() {
    let mut candidate = Candidate::new("a".to_owned());
    candidate.observe(Some(lease("1", "b")), secs(100));
    assert_eq!(candidate.decide(secs(100), NOW), Decision::Wait(secs(15)));
    candidate.observe(Some(lease("2", "b")), secs(110));
    candidate.observe(Some(lease("2", "b")), secs(120));
    assert_eq!(candidate.decide(secs(124), NOW), Decision::Wait(secs(1)));
    let taken = written(&candidate.decide(secs(125), NOW));
    assert_eq!(taken["metadata"]["resourceVersion"], "2");
    assert_eq!(taken["spec"]["holderIdentity"], "a");
    assert_eq!(taken["spec"]["leaseTransitions"], 5);
}

#[test]
fn a_released_lease_is_acquired_at_once() {
    let mut first = leader(secs(0));
    let released = first.release(NOW).unwrap();
    assert_eq!(first.claim(), None);
    assert_eq!(released.metadata.resource_version.as_deref(), Some("1"));
    let mut second = Candidate::new("b".to_owned());
    second.observe(Some(released), secs(0));
    assert_eq!(written(&second.decide(secs(0), NOW))["spec"]["holderIdentity"], "b");
    assert_eq!(second.release(NOW), None, "it has nothing to release");
}

#[test]
fn a_claim_starts_before_its_request_and_ends_by_itself() {
    let leader = leader(secs(50));
    assert_eq!(leader.claim(), Some(secs(50) + RENEW_DEADLINE));
    assert!(matches!(leader.decide(secs(59), NOW), Decision::Write(_)));
    assert_eq!(leader.decide(secs(60), NOW), Decision::Lost(Loss::Expired));
}

#[test]
fn a_renewal_keeps_changes_of_others_and_counts_no_transition() {
    let mut leader = leader(secs(0));
    let mut edited = lease("7", "a");
    edited.metadata.annotations = Some([("by".to_owned(), "hand".to_owned())].into());
    leader.observe(Some(edited), secs(2));
    let renewed = written(&leader.decide(secs(2), NOW));
    assert_eq!(renewed["metadata"]["annotations"]["by"], "hand");
    assert_eq!(renewed["metadata"]["resourceVersion"], "7");
    assert_eq!(renewed["spec"]["leaseTransitions"], 4);
}

#[test]
fn a_leader_that_reads_another_holder_loses_the_leadership() {
    let mut leader = leader(secs(0));
    leader.observe(Some(lease("2", "b")), secs(2));
    assert_eq!(leader.decide(secs(2), NOW), Decision::Lost(Loss::Taken("b".to_owned())));
}

#[test]
fn a_deleted_lease_does_not_shorten_a_claim() {
    let mut standby = Candidate::new("a".to_owned());
    standby.observe(Some(lease("1", "b")), secs(0));
    standby.observe(None, secs(2));
    assert_eq!(standby.decide(secs(2), NOW), Decision::Wait(secs(13)));
    assert!(matches!(standby.decide(secs(15), NOW), Decision::Write(_)));
}

#[test]
fn a_write_whose_response_was_lost_is_found_by_the_next_read() {
    let mut candidate = Candidate::new("a".to_owned());
    candidate.observe(Some(lease("3", "a")), secs(5));
    assert_eq!(candidate.claim(), None, "the candidate does not know when it sent that write");
    assert!(matches!(candidate.decide(secs(5), NOW), Decision::Write(_)));
}

/// An API server that stores one Lease.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    /// Creates or replaces the Lease, by the resourceVersion.
    fn write(&mut self, mut lease: Lease) -> Option<Lease> {
        let current = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if lease.metadata.resource_version != current {
            return None;
        }
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        Some(lease)
    }
}

/// The state of a candidate's round.
enum Phase {
    Idle,
    ReadSent,
    ReadServed(Option<Lease>),
    WriteSent { lease: Lease, sent: Duration },
    WriteServed { answer: Option<Lease>, sent: Duration },
    Ended,
}

/// A candidate with a clock that began at another time and runs at another rate.
struct Process {
    candidate: Candidate,
    phase: Phase,
    rate: f64,
    offset: Duration,
}

impl Process {
    fn uptime(&self, time: Duration) -> Duration {
        self.offset + time.mul_f64(self.rate)
    }

    /// Returns whether it may write, or one of its writes may still arrive.
    fn may_reach_the_server(&self, time: Duration) -> bool {
        self.candidate.claim().is_some_and(|end| self.uptime(time) < end + LANDING)
    }

    fn leads(&self, time: Duration) -> bool {
        self.candidate.claim().is_some_and(|end| self.uptime(time) < end)
    }

    /// Takes one step. If it is lost, the request or the response does not arrive; a lost write may arrive later.
    fn step(&mut self, server: &mut Server, late: &mut Vec<Lease>, lost: bool, time: Duration) {
        let uptime = self.uptime(time);
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => Phase::ReadSent,
            Phase::ReadSent if !lost => Phase::ReadServed(server.lease.clone()),
            Phase::ReadServed(lease) if !lost => {
                self.candidate.observe(lease, uptime);
                match self.candidate.decide(uptime, NOW) {
                    Decision::Write(lease) => Phase::WriteSent { lease: *lease, sent: uptime },
                    Decision::Wait(_) => Phase::Idle,
                    Decision::Lost(_) => Phase::Ended,
                }
            }
            Phase::WriteSent { lease, .. } if lost => {
                late.push(lease);
                Phase::Idle
            }
            Phase::WriteSent { lease, sent } => {
                Phase::WriteServed { answer: server.write(lease), sent }
            }
            Phase::WriteServed { answer: Some(lease), sent } if !lost => {
                self.candidate.written(lease, sent);
                Phase::Idle
            }
            Phase::ReadSent | Phase::ReadServed(_) | Phase::WriteServed { .. } => Phase::Idle,
            Phase::Ended => Phase::Ended,
        };
    }
}

/// An event, some time after the previous one.
#[derive(Clone, Debug)]
enum Happening {
    Step {
        who: usize,
        lost: bool,
    },
    /// A lost write arrives late.
    Late,
    Release {
        who: usize,
    },
    Crash {
        who: usize,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        40 => (0_usize..3, prop::bool::weighted(0.1))
            .prop_map(|(who, lost)| Happening::Step { who, lost }),
        2 => Just(Happening::Late),
        1 => (0_usize..3).prop_map(|who| Happening::Release { who }),
        1 => (0_usize..3).prop_map(|who| Happening::Crash { who }),
    ]
}

/// A pause: mostly short, and sometimes so long that a claim ends.
fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![16 => 0_u64..50, 4 => 0_u64..2_000, 1 => 8_000_u64..16_000]
        .prop_map(Duration::from_millis)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Clocks may run 3 % fast or slow, and any two clocks show different times.
    #[test]
    fn there_are_never_two_leaders_nor_late_writes_of_an_earlier_leader(
        clocks in prop::collection::vec((0.97_f64..1.03, 0_u64..100_000), 3),
        script in prop::collection::vec((pause(), happening()), 1..400),
    ) {
        let mut server = Server::default();
        let mut late = Vec::new();
        let mut time = Duration::ZERO;
        let mut processes: Vec<_> = clocks.into_iter().enumerate().map(|(number, (rate, offset))| Process {
            candidate: Candidate::new(number.to_string()),
            phase: Phase::Idle,
            rate,
            offset: Duration::from_millis(offset),
        }).collect();
        for (pause, happening) in script {
            time += pause;
            match happening {
                Happening::Step { who, lost } => {
                    processes[who].step(&mut server, &mut late, lost, time);
                }
                Happening::Late => drop(late.pop().map(|lease| server.write(lease))),
                Happening::Release { who } => {
                    drop(processes[who].candidate.release(NOW).map(|lease| server.write(lease)));
                    processes[who].phase = Phase::Ended;
                }
                // Its writes may still arrive.
                Happening::Crash { who } => processes[who].phase = Phase::Ended,
            }
            for leader in (0..processes.len()).filter(|&number| processes[number].leads(time)) {
                for other in (0..processes.len()).filter(|&number| number != leader) {
                    prop_assert!(
                        !processes[other].may_reach_the_server(time),
                        "{leader} leads while {other} may still write, at {time:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_standby_leads_soon_after_the_leader_ended_and_not_before() {
    let mut server = Server::default();
    let mut late = Vec::new();
    let process = |name: &str| Process {
        candidate: Candidate::new(name.to_owned()),
        phase: Phase::Idle,
        rate: 1.0,
        offset: Duration::ZERO,
    };
    let (mut first, mut second) = (process("a"), process("b"));
    let mut time = Duration::ZERO;
    let mut round = |process: &mut Process, time| {
        process.step(&mut server, &mut late, false, time);
        while !matches!(process.phase, Phase::Idle) {
            process.step(&mut server, &mut late, false, time);
        }
    };
    let died = secs(60);
    while time <= died {
        round(&mut first, time);
        round(&mut second, time);
        assert!(first.leads(time) && !second.leads(time), "at {time:?}");
        time += RETRY_PERIOD;
    }
    while !second.leads(time) {
        assert!(time < died + secs(20), "no candidate leads");
        round(&mut second, time);
        if second.leads(time) {
            assert!(time >= died + LEASE_DURATION, "at {time:?}");
        } else {
            time += RETRY_PERIOD;
        }
    }
}
