//! A kubeconfig whose only credentials are a token.

use serde_json::{Value, json};

/// Returns a kubeconfig for the same cluster whose only credentials are a token. It must have no client certificate,
/// because the API server checks that before a token.
pub(super) fn with_only_token(kubeconfig: &str, token: &str) -> Result<String, String> {
    let mut config: Value =
        serde_saphyr::from_str(kubeconfig).map_err(|error| error.to_string())?;
    let contexts = config["contexts"].as_array().ok_or("it has no contexts")?;
    let user = contexts
        .iter()
        .find(|context| context["name"] == config["current-context"])
        .map(|context| context["context"]["user"].clone())
        .ok_or("its current context is not among its contexts")?;
    config["users"] = json!([{"name": user, "user": {"token": token}}]);
    serde_saphyr::to_string(&config).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn the_kubeconfig_keeps_the_cluster_without_the_administrators_credentials() {
        let admin = "
clusters:
- name: c
  cluster: {server: 'https://127.0.0.1:443', certificate-authority: /pki/ca.crt}
users:
- name: admin
  user: {client-certificate: /pki/admin.crt, client-key: /pki/admin.key}
contexts:
- name: x
  context: {cluster: c, user: admin}
current-context: x
";
        let text = with_only_token(admin, "abc").unwrap();
        assert!(!text.contains("client-certificate") && !text.contains("client-key"), "{text}");
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read["users"], json!([{"name": "admin", "user": {"token": "abc"}}]));
        assert_eq!(read["clusters"][0]["cluster"]["certificate-authority"], "/pki/ca.crt");
        assert_eq!(read["contexts"][0]["context"]["user"], "admin");
        assert!(with_only_token("{}", "abc").is_err_and(|error| error.contains("contexts")));
    }
}
