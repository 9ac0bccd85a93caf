//! The testkit's test servers for probes of every kind, in a pod on a node, and requests that set their behavior.

use serde_json::json;

use crate::harness::{Exclusive, eventually, image};
use crate::http::request;
use crate::nodes::address;

/// The control port. HTTP, HTTPS, TCP and gRPC are on the next four ports.
const CONTROL: u16 = 9180;

/// The test servers on one node.
pub struct TestServers {
    address: String,
}

impl TestServers {
    /// Starts the test servers, which run until the end of the test. All of them are ready.
    pub fn start(exclusive: &mut Exclusive, node: &str) -> Self {
        exclusive.run_pod(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": format!("test-servers-{node}")},
            "spec": {
                "nodeName": node,
                "hostNetwork": true,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "name": "test-servers",
                    "image": image("testkit"),
                    "args": ["test-servers", "--dir", "/run/e2e"],
                    // It runs as root like most node agents, because root owns the directory.
                    "securityContext": {"runAsUser": 0},
                    "volumeMounts": [{"name": "dir", "mountPath": "/run/e2e"}],
                }],
                "volumes": [{
                    "name": "dir",
                    "hostPath": {"path": "/run/e2e", "type": "DirectoryOrCreate"},
                }],
            },
        }));
        let address = format!("{}:{CONTROL}", address(node));
        eventually("the test servers listen", || request(&address, "GET", "/ca").ok());
        Self { address }
    }

    /// Sets the behavior of these test servers.
    pub fn be(&self, behaviors: &[(&str, &str)]) {
        for (test_server, behavior) in behaviors {
            request(&self.address, "PUT", &format!("/{test_server}/{behavior}")).unwrap();
        }
    }

    /// Returns the certificate with which clients can verify the HTTPS server.
    pub fn certificate(&self) -> String {
        request(&self.address, "GET", "/ca").unwrap()
    }
}
