//! End-to-end tests on two real nodes. Like a user they use `make` and `kubectl`. The operator and its reporters run in
//! pods, with the images of this checkout.
//!
//! `make test` starts the cluster once for each Kubernetes version, and passes its kubeconfig in a variable.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod addresses;
mod as_kubelet;
mod availability;
mod diagnosis;
mod environment;
mod generated;
mod guard;
mod guide;
mod harness;
mod http;
mod in_service;
mod liveness;
mod matrix;
mod metrics;
mod network;
mod nodes;
mod operator;
mod pods;
mod probes;
mod process;
mod reboots;
mod reporters;
mod sets;
mod settings;
mod shell;
mod signals;
mod test_servers;
mod tokens;
mod without_impersonation;
