//! What probes of every kind look at on a node, in the testkit's image, and how to tell it to
//! behave.

use serde_json::json;

use crate::harness::{Exclusive, eventually, image};
use crate::http::request;
use crate::nodes::address;

/// Where they listen: HTTP, HTTPS, TCP and gRPC on the ports after this one.
const CONTROL: u16 = 9180;

/// The test servers on one node.
pub struct TestServers {
    address: String,
}

impl TestServers {
    /// Starts them until the end of the turn, all of them ready.
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
                    // As node agents do, for the directory is root's.
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

    /// Has these behave so from now on.
    pub fn be(&self, behaviors: &[(&str, &str)]) {
        for (test_server, behavior) in behaviors {
            request(&self.address, "PUT", &format!("/{test_server}/{behavior}")).unwrap();
        }
    }

    /// The certificate that the HTTPS server can be verified with.
    pub fn certificate(&self) -> String {
        request(&self.address, "GET", "/ca").unwrap()
    }
}
