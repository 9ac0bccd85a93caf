//! The reporter's two requests: GET its Node, PUT its Node's status.
//!
//! They use kube's client for the connection and the cluster's CA, and not its typed API, because they need
//! `Retry-After` and the Node as sent. Every request has a deadline, and every answer a maximum size. Nothing
//! is retried here.

use std::time::Duration;

use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use kube::{Client, client::Body};
use tokio::time;

use crate::{api_error::ApiError, identity::Identity, node::Node};

/// etcd stores at most 1.5 MiB for an object, and its JSON may be a bit longer.
const ANSWER_LIMIT: usize = 4 << 20;

/// Only the metadata of the answer, because nobody reads the whole Node.
const METADATA_ONLY: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// The API of one Node.
#[derive(Clone)]
pub struct NodeApi {
    client: Client,
    node: String,
    identity: Identity,
    deadline: Duration,
}

impl NodeApi {
    /// Creates the API of the Node `node`, with a deadline for each request.
    pub fn new(client: Client, node: String, identity: Identity, deadline: Duration) -> Self {
        Self { client, node, identity, deadline }
    }

    /// Reads the Node.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn get(&self) -> Result<Node, ApiError> {
        let request = self
            .identity
            .sign(Request::get(format!("/api/v1/nodes/{}", self.node)))
            .header(header::ACCEPT, "application/json")
            .body(Body::empty());
        Ok(Node::from_json(&self.send(request).await?)?)
    }

    /// Writes the Node's status, if the Node has not changed since it was read.
    ///
    /// # Errors
    /// See [`ApiError`]; a conflict if the Node has changed.
    pub async fn put_status(&self, node: &Node) -> Result<(), ApiError> {
        let uri =
            format!("/api/v1/nodes/{}/status?fieldManager={}", self.node, env!("CARGO_PKG_NAME"));
        let request = self
            .identity
            .sign(Request::put(uri))
            .header(header::ACCEPT, METADATA_ONLY)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(node.to_json()));
        self.send(request).await.map(drop)
    }

    async fn send(&self, request: http::Result<Request<Body>>) -> Result<Vec<u8>, ApiError> {
        let request = request.map_err(|error| ApiError::transport(&error))?;
        let exchange = async {
            let response =
                self.client.send(request).await.map_err(|error| ApiError::transport(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT)
                .collect()
                .await
                .map_err(|error| ApiError::transport(error.as_ref()))?
                .to_bytes();
            if head.status.is_success() {
                Ok(body.to_vec())
            } else {
                Err(ApiError::refusal(head.status, &head.headers, &body))
            }
        };
        time::timeout(self.deadline, exchange)
            .await
            .unwrap_or(Err(ApiError::Deadline(self.deadline)))
    }
}
