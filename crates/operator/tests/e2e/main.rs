//! The whole path on two real nodes, the way a user walks it: with `make` and `kubectl`, the
//! operator and its reporters as pods of the images that are built here.
//!
//! `make test` starts the cluster, once for each Kubernetes version, and says where it is.
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
mod settings;
mod shell;
mod test_servers;
mod tokens;
mod without_impersonation;
