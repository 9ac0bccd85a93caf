//! Servers with unusual answers, which a reporter and kubelet probe at the same time. A Pod's probe has the same result
//! in a rule.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use crate::harness::{Exclusive, eventually, image};
use crate::network::{cluster, node_without_leader};
use crate::reporters::{Rule, type_of};
use crate::shell::kubectl;

/// The port of the first server. Each server has its own port.
const FIRST_PORT: u16 = 9300;

const POD: &str = "as-kubelet";

/// The timeout of a probe. It is longer than an answer takes on a loaded machine.
const TIMEOUT_SECONDS: u32 = 5;

/// The behavior of a server after its answer.
#[derive(Clone, Copy)]
enum After {
    Close,
    /// It closes without reading the request, which resets the connection.
    Reset,
    /// It sends more data without end.
    GoOn,
}

/// Returns unusual HTTP answers.
fn answers(other_port: u16) -> Vec<(&'static str, String, After)> {
    let headers = |number: usize, length: usize| -> String {
        let header = |number| format!("x-{number}: {}\r\n", "x".repeat(length));
        (0..number).map(header).collect::<Vec<_>>().concat()
    };
    let ok = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}");
    vec![
        ("no-reason", "HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok".to_owned(), After::Close),
        ("bare-lf", "HTTP/1.1 200 OK\ncontent-length: 2\n\nok".to_owned(), After::Close),
        ("http10", "HTTP/1.0 200 OK\r\n\r\nok".to_owned(), After::Close),
        ("many-headers", ok(&format!("{}\r\n", headers(120, 1))), After::Close),
        ("long-header", ok(&format!("{}\r\n", headers(1, 20_000))), After::Close),
        ("folded", ok("x: a\r\n b\r\ncontent-length: 0\r\n\r\n"), After::Close),
        (
            "early-hints",
            format!("HTTP/1.1 103 Early Hints\r\n\r\n{}", ok("content-length: 0\r\n\r\n")),
            After::Close,
        ),
        ("no-content", "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), After::Close),
        ("event-stream", ok("content-type: text/event-stream\r\n\r\n"), After::GoOn),
        ("reset", ok("content-length: 100\r\n\r\n"), After::Reset),
        (
            "other-port",
            format!("HTTP/1.1 302 Found\r\nlocation: http://localhost:{other_port}/\r\n\r\n"),
            After::Close,
        ),
        ("no-location", "HTTP/1.1 302 Found\r\n\r\n".to_owned(), After::Close),
        // This is the target of the redirect.
        ("unavailable", "HTTP/1.1 503 Unavailable\r\n\r\n".to_owned(), After::Close),
        ("not-http", "SSH-2.0-x\r\n".to_owned(), After::Close),
    ]
}

/// The `openssl` options that create a certificate, and those of its server.
const TLS: [(&str, &str, &str); 11] = [
    ("v1", "-newkey rsa:2048", ""),
    ("expired", "-newkey rsa:2048", ""),
    ("sha1", "-x509 -newkey rsa:2048 -sha1", "-cipher DEFAULT@SECLEVEL=0"),
    ("rsa1024", "-x509 -newkey rsa:1024", "-cipher DEFAULT@SECLEVEL=0"),
    ("p521", "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-521", ""),
    ("ed25519", "-x509 -newkey ed25519", ""),
    ("no-names", "-x509 -newkey rsa:2048", ""),
    ("tls12", "-x509 -newkey rsa:2048", "-tls1_2"),
    ("asks", "-x509 -newkey rsa:2048", "-verify 1"),
    ("demands", "-x509 -newkey rsa:2048", "-Verify 1"),
    ("demands12", "-x509 -newkey rsa:2048", "-Verify 1 -tls1_2"),
];

/// The servers of all cases, in a node's network. They end with the test.
struct Servers {
    tls: Vec<Child>,
    cases: Vec<(&'static str, u16, &'static str)>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &mut self.tls {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }
}

impl Servers {
    /// Starts the servers from a thread that joins the network namespace. Threads and processes that it starts
    /// inherit the namespace.
    fn start(network: PathBuf) -> Self {
        let start = move || {
            let network = File::open(network).unwrap();
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), kind).unwrap();
            let mut servers = Self { tls: Vec::new(), cases: Vec::new() };
            let number = answers(0).len();
            let port = |index: usize| FIRST_PORT + u16::try_from(index).unwrap();
            let unavailable = answers(0).iter().position(|(name, ..)| *name == "unavailable");
            for (index, (name, answer, after)) in
                answers(port(unavailable.unwrap())).into_iter().enumerate()
            {
                let listener = TcpListener::bind(("127.0.0.1", port(index))).unwrap();
                thread::spawn(move || serve(&listener, &answer, after));
                servers.cases.push((name, port(index), "HTTP"));
            }
            for (index, (name, make, options)) in TLS.into_iter().enumerate() {
                let port = port(number + index);
                servers.tls.push(serve_tls(name, make, options, port));
                servers.cases.push((name, port, "HTTPS"));
            }
            servers
        };
        thread::spawn(start).join().unwrap()
    }
}

fn serve(listener: &TcpListener, answer: &str, after: After) {
    for stream in listener.incoming() {
        let (stream, answer) = (stream.unwrap(), answer.to_owned());
        // The client may disconnect at any time.
        thread::spawn(move || answer_one(stream, &answer, after).ok());
    }
}

fn answer_one(mut stream: TcpStream, answer: &str, after: After) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    if let After::Reset = after {
        stream.peek(&mut [0])?;
        return stream.write_all(answer.as_bytes());
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    stream.write_all(answer.as_bytes())?;
    while let After::GoOn = after {
        stream.write_all(b"data: tick\n\n")?;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Creates a certificate and starts a server with it.
fn serve_tls(name: &str, make: &str, options: &str, port: u16) -> Child {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("as-kubelet").join(name);
    fs::create_dir_all(&dir).unwrap();
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(&dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let run = |arguments: &str| {
        let output = openssl(arguments).output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    if make.starts_with("-x509") {
        run(&format!("req {make} -nodes -subj /O=e2e -keyout key -out crt -days 2"));
    } else {
        // As in the Makefiles of many agents, there is no file of extensions, so the certificate has version 1.
        run(&format!("req {make} -nodes -subj /CN=localhost -keyout key -out csr"));
        let days = if name == "expired" { -1 } else { 2 };
        run(&format!("x509 -req -in csr -signkey key -out crt -days {days}"));
        assert!(
            run("x509 -in crt -noout -text").contains("Version: 1 "),
            "the certificate has version 3"
        );
    }
    let server = format!("s_server -accept 127.0.0.1:{port} -key key -cert crt -www {options}");
    openssl(&server).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Returns the `httpGet` of a case, for a Pod and for a rule.
fn http_get(port: u16, scheme: &str) -> Value {
    json!({"port": port, "scheme": scheme, "path": "/"})
}

/// Returns a pod with a container for each case, which kubelet probes.
fn pod(node: &str, servers: &Servers) -> Value {
    let container = |(name, port, scheme): &(&str, u16, &str)| {
        let mut get = http_get(*port, scheme);
        get["host"] = json!("localhost");
        json!({
            "name": name, "image": image("testkit"), "args": ["pause"],
            "readinessProbe": {
                "httpGet": get, "periodSeconds": 1, "failureThreshold": 1,
                "timeoutSeconds": TIMEOUT_SECONDS,
            },
        })
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD},
        "spec": {
            "nodeName": node,
            "hostNetwork": true,
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "containers": servers.cases.iter().map(container).collect::<Vec<_>>(),
        },
    })
}

/// Returns the numbers of kubelet's succeeded and failed probes for each container. kubelet counts a probe that ends in
/// an error after the headers as neither, and the container stays not ready.
fn kubelets_counts(node: &str) -> BTreeMap<String, (u64, u64)> {
    let metrics = kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/metrics/probes")]);
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let probes = metrics.lines().filter(|line| line.starts_with("prober_probe_total{"));
    for line in probes.filter(|line| line.contains(&format!("pod=\"{POD}\""))) {
        let label = |name: &str| {
            let rest = line.split_once(&format!("{name}=\"")).unwrap().1;
            rest.split_once('"').unwrap().0.to_owned()
        };
        let count: u64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        let (succeeded, failed) = counts.entry(label("container")).or_default();
        match label("result").as_str() {
            "successful" => *succeeded += count,
            "failed" => *failed += count,
            _ => {}
        }
    }
    counts
}

#[test]
fn probes_of_odd_servers_have_the_same_result_as_kubelets() {
    let mut exclusive = Exclusive::with_operator();
    let node = node_without_leader();
    let servers = Servers::start(cluster().network_of(node).unwrap());
    exclusive.run_pod(&pod(node, &servers));
    let rule = Rule::of_node("as-kubelet", node);
    let rule = servers.cases.iter().fold(rule, |rule, (name, port, scheme)| {
        let get = json!({"httpGet": http_get(*port, scheme), "timeoutSeconds": TIMEOUT_SECONDS});
        rule.probe(name, &get)
    });
    rule.apply(&mut exclusive);

    let of_kubelet = eventually("kubelet has probed all a few times", || {
        let counts = kubelets_counts(node);
        let is_done = |(name, ..): &(&str, u16, &str)| {
            let (succeeded, failed) = counts.get(*name).copied().unwrap_or_default();
            succeeded + failed >= 3 || ["reset", "event-stream"].contains(name)
        };
        let probed = servers.cases.iter().all(is_done);
        probed.then_some(counts)
    });
    let of_reporter = eventually("the reporter has reported all", || {
        let conditions = rule.conditions();
        (conditions.len() == servers.cases.len()).then_some(conditions)
    });
    let mut differ = Vec::new();
    for (name, ..) in &servers.cases {
        let (succeeded, failed) = of_kubelet.get(*name).copied().unwrap_or_default();
        let condition = of_reporter.iter().find(|c| c.type_ == type_of(name)).unwrap();
        let message = condition.message.clone().unwrap();
        println!("{name}: kubelet {succeeded} good, {failed} bad; {} {message}", condition.status);
        if (condition.status == "True") != (succeeded > 0) {
            differ.push(format!("{name}: {message}"));
        }
        if name.starts_with("demands") {
            assert!(message.contains("asks for a client certificate"), "{message}");
        }
    }
    assert!(differ.is_empty(), "kubelet has another result: {differ:#?}");
}
