//! Leader election: the requests for the Lease.
//!
//! [`node_readiness_engine::lease`] makes the decisions. On the leader and on standbys, each round reads the
//! Lease, decides, and writes it if necessary.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, PostParams};
use node_readiness_api::{CONTROLLER_NAME, LEASE_NAME};
use node_readiness_engine::lease::{Candidate, Decision, Loss, RENEW_DEADLINE, RETRY_PERIOD};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::leadership::{Claim, Leadership};
use crate::api_error;
use crate::clock;
use crate::identity;

/// The timeout of one request for the Lease. Several requests fit into a claim.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The file with the namespace of the pod.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The reason why this process lost its leadership. The process then exits, as other controllers do, so no plan
/// or queue of the old claim survives.
#[derive(Debug, Error)]
pub enum Lost {
    /// The Lease was not renewed in time.
    #[error(
        "Lease {namespace}/{LEASE_NAME} was not renewed for {RENEW_DEADLINE:?}; another operator \
         may lead soon, so this one exits"
    )]
    Expired {
        /// Namespace of the Lease.
        namespace: String,
    },
    /// Another operator holds the Lease.
    #[error("Lease {namespace}/{LEASE_NAME} is now held by {holder:?}, so this operator exits")]
    Taken {
        /// Namespace of the Lease.
        namespace: String,
        /// The holder.
        holder: String,
    },
}

/// This process as a candidate.
pub(crate) struct Election {
    leases: Api<Lease>,
    namespace: String,
    candidate: Candidate,
    began: Instant,
    claim: watch::Sender<Claim>,
}

/// A request for the Lease that failed.
enum Failed {
    /// Another client wrote the Lease concurrently.
    Conflict,
    /// Another cause.
    Other(String),
}

impl Election {
    /// Creates a candidate for the Lease in a namespace. Use the client for nothing else, so that no other
    /// request delays a renewal.
    pub(crate) fn new(client: Client, namespace: String) -> (Self, Leadership) {
        let (claim, leadership) = Leadership::new();
        let identity = identity::unique();
        info!(
            lease = format!("{namespace}/{LEASE_NAME}"),
            identity, "taking part in leader election"
        );
        let election = Self {
            leases: Api::namespaced(client, &namespace),
            namespace,
            candidate: Candidate::new(identity),
            began: Instant::now(),
            claim,
        };
        (election, leadership)
    }

    /// Waits as a standby, leads when it acquires the Lease, and returns when it loses the leadership.
    pub(crate) async fn run(&mut self) -> Lost {
        loop {
            let end = self.candidate.claim().map(|end| self.began + end);
            let expired = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            let round = async {
                let pause = self.round().await?;
                sleep(pause).await;
                Ok(())
            };
            let loss = tokio::select! {
                biased;
                () = expired => Loss::Expired,
                done = round => match done {
                    Ok(()) => continue,
                    Err(loss) => loss,
                },
            };
            self.claim.send_replace(Claim::Standby);
            let namespace = self.namespace.clone();
            return match loss {
                Loss::Expired => Lost::Expired { namespace },
                Loss::Taken(holder) => Lost::Taken { namespace, holder },
            };
        }
    }

    /// Releases the Lease, so that others need not wait for its end. Call it after the last write.
    pub(crate) async fn release(mut self) {
        self.claim.send_replace(Claim::Standby);
        // A renewal may have been interrupted, so the Lease is read again.
        if let Ok(lease) = self.read().await {
            self.candidate.observe(lease, self.began.elapsed());
        }
        let Some(lease) = self.candidate.release(clock::precisely()) else { return };
        match self.write(&lease).await {
            Ok(_) => info!("released the lease"),
            Err(Failed::Conflict) => debug!("the lease is not held by this operator"),
            Err(Failed::Other(cause)) => {
                warn!("the lease could not be released and will expire: {cause}");
            }
        }
    }

    /// Runs one round: reads, decides and writes. Returns the wait until the next round.
    async fn round(&mut self) -> Result<Duration, Loss> {
        // Jitter, so that candidates that started together do not stay synchronized.
        let retry = RETRY_PERIOD.mul_f64(1.0 - fastrand::f64() / 5.0);
        match self.read().await {
            Ok(lease) => self.candidate.observe(lease, self.began.elapsed()),
            Err(cause) => {
                warn!("lease {}/{LEASE_NAME} could not be read: {cause}", self.namespace);
                return Ok(retry);
            }
        }
        let sent = self.began.elapsed();
        let lease = match self.candidate.decide(sent, clock::precisely()) {
            Decision::Write(lease) => lease,
            Decision::Wait(wait) => return Ok(wait.min(retry)),
            Decision::Lost(loss) => return Err(loss),
        };
        match self.write(&lease).await {
            Ok(lease) => self.written(lease, sent),
            Err(Failed::Conflict) => debug!("another operator wrote the lease"),
            Err(Failed::Other(cause)) => {
                warn!("lease {}/{LEASE_NAME} could not be written: {cause}", self.namespace);
            }
        }
        Ok(retry)
    }

    fn written(&mut self, lease: Lease, sent: Duration) {
        if self.candidate.claim().is_none() {
            info!("this operator leads");
        }
        self.candidate.written(lease, sent);
        if let Some(end) = self.candidate.claim() {
            self.claim.send_replace(Claim::Until(self.began + end));
        }
    }

    async fn read(&self) -> Result<Option<Lease>, String> {
        match timeout(REQUEST_TIMEOUT, self.leases.get_opt(LEASE_NAME)).await {
            Ok(lease) => lease.map_err(|error| api_error::of_request(&error).message),
            Err(_) => Err(format!("no answer in {REQUEST_TIMEOUT:?}")),
        }
    }

    async fn write(&self, lease: &Lease) -> Result<Lease, Failed> {
        let params =
            PostParams { field_manager: Some(CONTROLLER_NAME.to_owned()), ..PostParams::default() };
        let mut lease = lease.clone();
        lease.metadata.name = Some(LEASE_NAME.to_owned());
        let write = async {
            // A Lease without a resourceVersion did not exist. Creating it fails if it exists by now, as
            // replacing it fails if it has changed.
            if lease.metadata.resource_version.is_none() {
                self.leases.create(&params, &lease).await
            } else {
                self.leases.replace(LEASE_NAME, &params, &lease).await
            }
        };
        match timeout(REQUEST_TIMEOUT, write).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Failed::Conflict),
            Ok(Err(error)) => Err(Failed::Other(api_error::of_request(&error).message)),
            Err(_) => Err(Failed::Other(format!("no answer in {REQUEST_TIMEOUT:?}"))),
        }
    }
}

/// Returns the namespace of this process's pod.
///
/// # Errors
///
/// When the process does not run in a pod.
pub(crate) fn pod_namespace() -> std::io::Result<String> {
    Ok(std::fs::read_to_string(NAMESPACE_FILE)?.trim().to_owned())
}
