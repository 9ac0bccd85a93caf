//! An API server with one Node and one ConfigMap, which answers as a test says.
//!
//! It keeps the Node, checks the `resourceVersion` of a write, and records every request, so that a
//! test can say exactly how many there were.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// It is refused with this status.
    Refused(u16),
    /// It is refused with this status and a `Retry-After` of so many seconds.
    RetryAfter(u16, u64),
    /// It is carried out, but its answer does not arrive.
    AnswerLost,
    /// It is carried out, and the connection breaks in the middle of the answer.
    AnswerCut,
    /// It is carried out, and the answer stops in the middle.
    AnswerStalls,
    /// It is not carried out, and the answer has no end.
    AnswerEndless,
    /// It is not carried out and not answered.
    Hang,
    /// It is carried out once the test says so.
    Held,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Request {
    pub(crate) fn is_watch(&self) -> bool {
        self.uri.query().is_some_and(|query| query.contains("watch=true"))
    }
}

#[derive(Clone)]
pub(crate) struct ApiServer {
    pub(crate) port: u16,
    state: Arc<Mutex<Inner>>,
    node: Arc<watch::Sender<Value>>,
    config_map: Arc<watch::Sender<Value>>,
    /// A change ends all watches.
    cut: Arc<watch::Sender<u32>>,
    arrived: Arc<watch::Sender<usize>>,
    release: Arc<Notify>,
}

struct Inner {
    /// For each request to come, in order; none for those beyond.
    troubles: VecDeque<Trouble>,
    requests: Vec<Request>,
}

impl ApiServer {
    /// Serves the Node `node-a` with these conditions.
    pub(crate) async fn start(conditions: Value, troubles: &[Trouble]) -> Self {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "node-a", "uid": "u", "resourceVersion": "100"},
            "spec": {"podCIDR": "10.0.0.0/24", "fieldOfTheFuture": {"x": [1, {"y": null}]}},
            "status": {"nodeInfo": {"machineID": "m"}, "conditions": conditions},
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(Inner {
                troubles: troubles.iter().copied().collect(),
                requests: Vec::new(),
            })),
            node: Arc::new(watch::channel(node).0),
            config_map: Arc::new(watch::channel(Value::Null).0),
            cut: Arc::new(watch::channel(0).0),
            arrived: Arc::new(watch::channel(0).0),
            release: Arc::default(),
        };
        let app = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    /// The Node as it is now.
    pub(crate) fn node(&self) -> Value {
        self.node.borrow().clone()
    }

    /// Sets the text of the ConfigMap, which does not exist before.
    pub(crate) fn configure(&self, config: &str) {
        self.config_map.send_replace(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "reporter", "namespace": "reporters"},
            "data": {"config.json": config},
        }));
    }

    /// Deletes the ConfigMap.
    pub(crate) fn delete_config(&self) {
        self.config_map.send_replace(Value::Null);
    }

    /// Replaces the Node's labels.
    pub(crate) fn label(&self, labels: &Value) {
        self.node.send_modify(|node| node["metadata"]["labels"] = labels.clone());
    }

    /// Answers the next requests with these troubles.
    pub(crate) fn trouble(&self, troubles: &[Trouble]) {
        self.state.lock().unwrap().troubles.extend(troubles);
    }

    /// Ends all watches.
    pub(crate) fn end_watches(&self) {
        self.cut.send_modify(|cut| *cut += 1);
    }

    /// Waits until the Node's condition is as `wanted` says, and returns it.
    pub(crate) async fn condition(
        &self,
        condition_type: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut watcher = self.node.subscribe();
        let node = crate::in_time(
            watcher.wait_for(|node| condition(node, condition_type).is_some_and(&wanted)),
        )
        .await
        .unwrap();
        condition(&node, condition_type).unwrap().clone()
    }

    /// Waits until there have been so many requests.
    pub(crate) async fn requested(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        crate::in_time(arrived.wait_for(|arrived| *arrived >= count)).await.unwrap();
    }

    /// Lets a request that is [`Trouble::Held`] go on.
    pub(crate) fn release(&self) {
        self.release.notify_one();
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The methods of the requests so far, such as `GET PUT`, without watches.
    pub(crate) fn conversation(&self) -> String {
        let mut requests = self.requests();
        requests.retain(|request| !request.is_watch());
        let methods: Vec<_> = requests.iter().map(|request| request.method.to_string()).collect();
        methods.join(" ")
    }

    /// Answers a watch without a `resourceVersion`: the object as it is, and its changes.
    fn watch(&self, uri: &Uri) -> Response {
        let is_node = uri.path() == "/api/v1/nodes";
        let object = if is_node { self.node.subscribe() } else { self.config_map.subscribe() };
        let cut = self.cut.subscribe();
        let events =
            stream::unfold((object, cut, None), |(mut object, mut cut, before)| async move {
                let mut event = None;
                while event.is_none() {
                    let now = object.borrow_and_update().clone();
                    event = match (&before, now.is_null()) {
                        (None | Some(Value::Null), true) => None,
                        (None | Some(Value::Null), false) => Some(("ADDED", now)),
                        (Some(before), true) => Some(("DELETED", before.clone())),
                        (Some(before), false) if *before == now => None,
                        (Some(_), false) => Some(("MODIFIED", now)),
                    };
                    if event.is_none() {
                        tokio::select! {
                            changed = object.changed() => changed.ok()?,
                            _ = cut.changed() => return None,
                        }
                    }
                }
                let (kind, object_now) = event?;
                let line = json!({"type": kind, "object": object_now}).to_string() + "\n";
                let after = if kind == "DELETED" { Value::Null } else { object_now };
                Some((Ok::<_, io::Error>(Bytes::from(line)), (object, cut, Some(after))))
            });
        Body::from_stream(events).into_response()
    }

    fn apply(&self, method: &Method, body: &[u8]) -> Response {
        if method == Method::GET {
            return self.node.borrow().to_string().into_response();
        }
        let mut sent: Value = serde_json::from_slice(body).unwrap();
        let version = self.node.borrow()["metadata"]["resourceVersion"].clone();
        if sent["metadata"]["resourceVersion"] != version {
            return refusal(409, "the object has been modified");
        }
        let next: u64 = version.as_str().unwrap().parse::<u64>().unwrap() + 1;
        sent["metadata"]["resourceVersion"] = next.to_string().into();
        self.node.send_replace(sent.clone());
        json!({"kind": "PartialObjectMetadata", "metadata": sent["metadata"]})
            .to_string()
            .into_response()
    }
}

fn condition<'a>(node: &'a Value, condition_type: &str) -> Option<&'a Value> {
    node["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == condition_type)
}

fn refusal(code: u16, message: &str) -> Response {
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "message": message});
    (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response()
}

async fn answer(
    State(server): State<ApiServer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = Request { method: method.clone(), uri, headers };
    let trouble = {
        let mut state = server.state.lock().unwrap();
        state.requests.push(request.clone());
        state.troubles.pop_front().unwrap_or(Trouble::None)
    };
    server.arrived.send_modify(|arrived| *arrived += 1);
    if let (true, Trouble::None) = (request.is_watch(), trouble) {
        return server.watch(&request.uri);
    }
    match trouble {
        Trouble::None => server.apply(&method, &body),
        Trouble::Refused(code) => refusal(code, "refused by the test"),
        Trouble::RetryAfter(code, seconds) => {
            let code = StatusCode::from_u16(code).unwrap();
            (code, [(header::RETRY_AFTER, seconds.to_string())], "Too many requests")
                .into_response()
        }
        Trouble::AnswerLost => {
            server.apply(&method, &body);
            std::future::pending().await
        }
        Trouble::AnswerCut => {
            beginning(server.apply(&method, &body), stream::iter([Err(broken())])).await
        }
        Trouble::AnswerStalls => beginning(server.apply(&method, &body), stream::pending()).await,
        Trouble::AnswerEndless => {
            let part = || Ok::<_, io::Error>(Bytes::from_static(&[b' '; 16384]));
            Body::from_stream(stream::repeat_with(part)).into_response()
        }
        Trouble::Hang => std::future::pending().await,
        Trouble::Held => {
            server.release.notified().await;
            server.apply(&method, &body)
        }
    }
}

/// The first bytes of an answer, and then something else.
async fn beginning(
    answer: Response,
    rest: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response {
    let whole = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let beginning = stream::iter([Ok(whole.slice(..whole.len() / 2))]);
    Body::from_stream(beginning.chain(rest)).into_response()
}

fn broken() -> io::Error {
    io::Error::other("the connection is to break here")
}
