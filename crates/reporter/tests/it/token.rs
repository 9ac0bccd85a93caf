//! The token that requests carry.

use std::{fs, time::Duration};

use node_readiness_reporter::cluster::{self, ClusterError};
use serde_json::json;

use crate::{api_server::ApiServer, writing::node_api};

/// A way to this server with the token that is in `file`.
fn client(server: &ApiServer, file: &str) -> Result<kube::Client, ClusterError> {
    let url = format!("http://127.0.0.1:{}", server.port).parse().unwrap();
    let mut config = kube::Config::new(url);
    config.auth_info.token_file = Some(file.to_owned());
    cluster::connect(config)
}

#[tokio::test]
async fn a_new_token_is_used_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "first").unwrap();
    let server = ApiServer::start(json!([]), &[]).await;
    let client = client(&server, file.to_str().unwrap()).unwrap();
    let api = node_api(client, Duration::from_secs(5));
    api.get().await.unwrap();
    fs::write(&file, "second\n").unwrap();
    api.get().await.unwrap();
    // What cannot be read or used leaves the one before.
    fs::write(&file, "\0").unwrap();
    api.get().await.unwrap();
    fs::remove_file(&file).unwrap();
    api.get().await.unwrap();
    let tokens: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.headers["authorization"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(tokens, ["Bearer first", "Bearer second", "Bearer second", "Bearer second"]);
}

#[tokio::test]
async fn a_missing_token_is_reported_at_the_start() {
    let server = ApiServer::start(json!([]), &[]).await;
    let error = client(&server, "/nonexistent/token").err().unwrap().to_string();
    assert!(error.contains("/nonexistent/token"), "{error}");
    assert!(error.contains("kubelet mount"), "{error}");
}
