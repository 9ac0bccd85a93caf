//! The operator against a real API server, with the permissions that `config/` gives it and no
//! more. `make test` starts the control plane; nodes are objects that the tests write.
//!
//! A test with `lesson` and numbers in its name shows that what users reported under these numbers of
//! the Go project's tracker does not happen here.
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
mod no_pods;
mod nodes;
mod odd_events;
mod permissions;
mod pod_security;
mod process;
mod reporters;
mod restarts;
mod scraper;
mod status;
mod terminating;
mod unreadable;
mod warnings;
