//! The reporter against scripted test servers on loopback: probed servers of every kind, an API
//! server that refuses, loses and delays, and the binary itself with wrong settings.
//!
//! Real permissions are not tested here; that takes a real API server, and there are end-to-end
//! tests for it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod api_server;
mod binary;
mod exec;
mod file;
mod following;
mod grpc;
mod metrics;
mod observe;
mod probes;
mod site;
mod tcp;
mod token;
mod troubles;
mod unix;
mod writing;

use std::{future::Future, time::Duration};

/// Far more than anything here takes: whoever waits longer waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits, but not for ever.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this should have happened by now")
}
