//! The API server's own count of requests, by kind.
//!
//! It does not name clients. Requests of the operator are recognized by resource: patches of nodes, events, the
//! status of rules. The bench writes only `nodes/status` while the operator is measured.

use std::collections::BTreeMap;

use anyhow::Context;
use kube::Client;

/// Answered requests, by verb and resource with its subresource, such as `PATCH nodes/status`.
pub(crate) type Requests = BTreeMap<String, u64>;

const METRIC: &str = "apiserver_request_total{";

/// Counts since the API server started.
pub(crate) async fn count(administrator: &Client) -> anyhow::Result<Requests> {
    let request = http_get("/metrics")?;
    let text = administrator.request_text(request).await.context("the API server's metrics")?;
    Ok(read(&text))
}

/// Returns the requests between two counts.
pub(crate) fn between(before: &Requests, after: &Requests) -> Requests {
    let grown = after.iter().filter_map(|(kind, count)| {
        let more = count - before.get(kind).copied().unwrap_or(0);
        (more > 0).then(|| (kind.clone(), more))
    });
    grown.collect()
}

/// Returns the number of a kind.
pub(crate) fn of(requests: &Requests, kind: &str) -> u64 {
    requests.get(kind).copied().unwrap_or(0)
}

/// Returns the number of reads of nodes, rules or events other than watches.
pub(crate) fn reads(requests: &Requests) -> u64 {
    let kinds = requests.iter().filter(|(kind, _)| {
        let Some((verb, resource)) = kind.split_once(' ') else { return false };
        matches!(verb, "GET" | "LIST")
            && ["nodes", "nodereadinessrules", "events"].contains(&resource)
    });
    kinds.map(|(_, count)| count).sum()
}

fn http_get(path: &str) -> anyhow::Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

fn read(text: &str) -> Requests {
    let mut requests = Requests::new();
    for line in text.lines().filter_map(|line| line.strip_prefix(METRIC)) {
        let Some((labels, value)) = line.rsplit_once("} ") else { continue };
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0)
        };
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
        let of = match label("subresource") {
            None | Some("") => resource.to_owned(),
            Some(subresource) => format!("{resource}/{subresource}"),
        };
        let Ok(count) = value.parse::<f64>() else { continue };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter is a whole number, in a form for floats"
        )]
        let count = count as u64;
        *requests.entry(format!("{verb} {of}")).or_default() += count;
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_verb_and_resource_whatever_their_code() {
        let text = concat!(
            "# HELP apiserver_request_total x\n",
            "apiserver_request_total{code=\"200\",resource=\"nodes\",subresource=\"\",verb=\"PATCH\"} 3\n",
            "apiserver_request_total{code=\"422\",resource=\"nodes\",subresource=\"\",verb=\"PATCH\"} 1\n",
            "apiserver_request_total{code=\"200\",resource=\"nodes\",subresource=\"status\",verb=\"PATCH\"} 5\n",
        );
        let requests = read(text);
        assert_eq!(of(&requests, "PATCH nodes"), 4);
        assert_eq!(of(&requests, "PATCH nodes/status"), 5);
        let none = between(&requests, &requests);
        assert!(none.is_empty());
    }
}
