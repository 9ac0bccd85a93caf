//! Tests of the operator against a real API server, with exactly the permissions that `config/` grants it. `make test`
//! starts the control plane, and the tests write the nodes.
//!
//! A test with `lesson` and numbers in its name shows that a problem that users reported in these issues of the Go
//! project does not occur here.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod access;
mod bad_input;
mod examples;
mod flood;
mod gateway;
mod harness;
mod installer;
mod leader;
mod limits;
mod manifests;
mod metrics;
mod migration;
mod no_pods;
mod nodes;
mod odd_events;
mod permissions;
mod pod_security;
mod process;
mod reporters;
mod restarts;
mod scale;
mod scraper;
mod signals;
mod status;
mod terminating;
mod unreadable;
mod warnings;
