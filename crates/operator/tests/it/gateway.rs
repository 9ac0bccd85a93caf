//! A proxy to the API server for one process. It records each write and can stop traffic.
//!
//! It speaks plain HTTP and adds the operator's token, so it can read every request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt;
use http::Method;
use http::header::CONTENT_TYPE;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The traffic that the gateway stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Nothing,
    /// The gateway answers no requests for Leases. Other requests work.
    Lease,
    /// The gateway answers no requests, and stops answers that it is sending.
    Everything,
}

/// A write that passed through the gateway. Writes of Leases are not recorded.
#[derive(Clone, Debug)]
pub struct Write {
    pub at: Instant,
    /// The time of the API server's answer, if there was one.
    pub answered: Option<Instant>,
    #[expect(dead_code, reason = "it is shown when a test fails")]
    pub what: String,
}

pub struct Gateway {
    pub address: SocketAddr,
    way: Arc<Way>,
}

struct Way {
    client: Client,
    writes: Mutex<Vec<Write>>,
    cut: watch::Sender<Cut>,
}

impl Gateway {
    /// Listens until the test's runtime ends. `client` forwards the requests.
    pub async fn start(client: Client) -> Self {
        let way = Arc::new(Way {
            client,
            writes: Mutex::default(),
            cut: watch::Sender::new(Cut::Nothing),
        });
        let listener = TcpListener::bind("127.96.255.3:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(pass).with_state(Arc::clone(&way));
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { address, way }
    }

    pub fn cut(&self, cut: Cut) {
        self.way.cut.send_replace(cut);
    }

    pub fn writes(&self) -> Vec<Write> {
        self.way.writes.lock().unwrap().clone()
    }
}

async fn pass(State(way): State<Arc<Way>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let of_lease = head.uri.path().contains("/leases");
    let number = (head.method != Method::GET && !of_lease).then(|| {
        let mut writes = way.writes.lock().unwrap();
        let what = format!("{} {}", head.method, head.uri);
        writes.push(Write { at: Instant::now(), answered: None, what });
        writes.len() - 1
    });
    let mut cut = way.cut.subscribe();
    let passes = move |cut: &Cut| match cut {
        Cut::Nothing => true,
        Cut::Lease => !of_lease,
        Cut::Everything => false,
    };
    cut.wait_for(passes).await.unwrap();

    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mut onward = http::Request::builder().method(head.method).uri(head.uri);
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        onward = onward.header(CONTENT_TYPE, kind);
    }
    let answer = way.client.send(onward.body(body.to_vec().into()).unwrap()).await.unwrap();
    if let Some(number) = number {
        way.writes.lock().unwrap()[number].answered = Some(Instant::now());
    }
    cut.wait_for(passes).await.unwrap();
    let (head, body) = answer.into_parts();
    let pieces = Body::new(body).into_data_stream().then(move |piece| {
        let mut cut = cut.clone();
        async move {
            cut.wait_for(passes).await.unwrap();
            piece
        }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    *response.status_mut() = head.status;
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    response
}
