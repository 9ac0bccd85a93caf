//! The steps on the running cluster, in their order.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};
use node_readiness_testkit::{
    Layout,
    verification::{self, Access, Guard, Reporter, Scene, Setting},
};

use super::{
    live::Live,
    screen::Screen,
    table,
    view::{CONDITION, View},
};

/// The names of the nodes in the local cluster.
const NODE_A: &str = "node-a";
const NODE_B: &str = "node-b";

/// The namespace and ServiceAccount of the example's reporters.
const REPORTERS: &str = "nrr-reporters";
const REPORTER: &str = "reporter";

/// The image of ordinary pods and agents, as loaded by `make deploy`. Without arguments it waits.
const IMAGE: &str = concat!("node-readiness/testkit:v", env!("CARGO_PKG_VERSION"));

/// The timeout of a wait. A wait takes a few seconds, and more on a busy machine.
const WITHIN: Duration = Duration::from_mins(1);

/// The columns of `kubectl get nodes` in the demo.
const COLUMNS: &str = "\
NAME            CALICO_READY                                                              TAINTS
.metadata.name  .status.conditions[?(@.type==\"projectcalico.org/CalicoReady\")].status  .spec.taints[*].key
";

/// The output, and the cluster that the steps use.
struct Show<'a> {
    screen: &'a Screen,
    layout: &'a Layout,
    live: Live<'a>,
}

/// Runs all steps on the running cluster.
///
/// # Errors
///
/// When the cluster does not do what the demo's text says.
pub(super) fn show(screen: &Screen, layout: &Layout) -> anyhow::Result<()> {
    let mut show = Show { screen, layout, live: Live::start(screen, layout)? };
    show.file("nodes.columns", COLUMNS)?;
    show.nodes()?;
    show.install()?;
    show.gate()?;
    show.open_one()?;
    show.open_other()?;
    show.close_one()?;
    show.verify()
}

impl Show<'_> {
    fn install(&self) -> anyhow::Result<()> {
        self.screen.step(
            "Install the API and the operator",
            "The commands are the same as on any cluster. There is no registry, so `make deploy` also loads\n\
             this checkout's images into the nodes. The guard is a set of admission policies that limit what\n\
             a reporter may change. It can be strict here, because the kubelets use client certificates.",
        );
        self.run(&["make", "install"])?;
        self.run(&["make", "deploy", "OPERATOR_FLAGS=--guard=strict"])
    }

    fn gate(&mut self) -> anyhow::Result<()> {
        self.screen.step(
            "One rule, and an ordinary pod",
            "The rule names the nodes, a node condition, a taint, and a probe whose result sets the condition.\n\
             The operator generates everything else: a reporter pod on each node, which runs the probe and may\n\
             write only to its own Node. No CNI agent runs yet, so the probes fail. The rule must hold both\n\
             nodes (keep its taint on them), and the pod must wait.",
        );
        self.live.restart()?;
        self.run(&["kubectl", "run", "app", "--image", IMAGE])?;
        self.until("pod app finds no node", |view| view.waits("app"))?;
        self.screen.gap();
        self.live.restart()?;
        self.run(&["kubectl", "apply", "-f", "examples/cni-readiness/rule.yaml"])?;
        self.until("a reporter runs on each node, and the rule holds both nodes", |view| {
            [NODE_A, NODE_B]
                .iter()
                .all(|node| view.node(node).is_gated() && view.any_runs_on(REPORTER, node))
        })?;
        self.state()
    }

    fn open_one(&mut self) -> anyhow::Result<()> {
        self.screen.step(
            "The CNI agent of node-a starts",
            "The demo's agent answers the probe with 503 for five seconds, and then with 200. Only after that\n\
             may the condition become True, and the operator remove the taint. Then the waiting pod must run\n\
             on node-a, and node-b must stay held.",
        );
        self.start_agent(NODE_A)?;
        self.until("node-a is released and pod app runs there", |view| {
            view.node(NODE_A).is_open() && view.runs_on("app", NODE_A)
        })?;
        self.still("node-b is held", |view| view.node(NODE_B).is_gated())?;
        self.state()
    }

    fn open_other(&mut self) -> anyhow::Result<()> {
        self.screen
            .step("The CNI agent of node-b starts", "Now both nodes must be free of the taint.");
        self.start_agent(NODE_B)?;
        self.until("node-b is released", |view| view.node(NODE_B).is_open())?;
        self.still("node-a is released", |view| view.node(NODE_A).is_open())?;
        self.state()
    }

    fn close_one(&mut self) -> anyhow::Result<()> {
        self.screen.step(
            "The CNI agent of node-a stops",
            "The rule's mode is continuous: after two failed probes in a row the condition becomes False, and\n\
             the operator adds the taint again. The taint's effect is NoSchedule, so pods on node-a keep\n\
             running, and the scheduler places a new pod on node-b.",
        );
        let agent = format!("cni-agent-{NODE_A}");
        self.live.restart()?;
        self.run(&["kubectl", "-n", "kube-system", "delete", "pod", &agent, "--wait=false"])?;
        self.until("node-a is held again", |view| view.node(NODE_A).is_gated())?;
        self.run(&["kubectl", "run", "app-2", "--image", IMAGE])?;
        self.until("pod app-2 runs on node-b", |view| view.runs_on("app-2", NODE_B))?;
        self.still("pod app runs on node-a", |view| view.runs_on("app", NODE_A))?;
        self.state()
    }

    fn verify(&self) -> anyhow::Result<()> {
        self.screen.step(
            "The permissions of a reporter",
            "A reporter's ServiceAccount has no permissions of its own: both answers must be no.",
        );
        let account = format!("--as=system:serviceaccount:{REPORTERS}:{REPORTER}");
        for [verb, resource] in [["get", "nodes"], ["update", "nodes/status"]] {
            let question = ["kubectl", "auth", "can-i", verb, resource, &account];
            if self.screen.ask(self.layout, &question)?.lines().last() != Some("no") {
                bail!("the reporter's ServiceAccount may {verb} {resource}, and should not");
            }
        }
        let reporter = Reporter::on_node(self.layout, REPORTERS, REPORTER, NODE_A, CONDITION)?;
        self.screen.say(&format!(
            "A reporter can only act as the node that its pod runs on. The API server reads the name of the\n\
             node from the pod's token (constrained impersonation, KEP-5284). The demo now tries what a thief\n\
             of that token could try: it uses kubectl with a token of pod {} on {NODE_A}.\n\
             \"Another node\" is {NODE_B}.",
            reporter.pod
        ));
        self.screen.gap();
        let setting = Setting { access: Access::ConstrainedImpersonation, guard: Guard::Strict };
        let scene = Scene::of(&reporter, setting, NODE_B);
        let checks = verification::verify(self.layout, &reporter, &scene)?;
        table::print(self.screen, &checks);
        let differences = table::differences(&checks);
        if !differences.is_empty() {
            bail!(
                "{} of {} answers are not as expected:\n{}",
                differences.len(),
                checks.len(),
                differences.join("\n")
            );
        }
        self.screen.gap();
        self.screen.say(&format!(
            "All {} answers are as expected. docs/security-matrix.md also lists the answers for the other\n\
             ways to run reporters.",
            checks.len()
        ));
        Ok(())
    }

    /// Starts the agent of a node from a manifest that stays in the directory, and waits until it runs.
    fn start_agent(&mut self, node: &str) -> anyhow::Result<()> {
        let manifest = include_str!("agent.yaml").replace("{node}", node).replace("{image}", IMAGE);
        let path = self.file(&format!("cni-agent-{node}.yaml"), &manifest)?;
        self.live.restart()?;
        self.run(&["kubectl", "apply", "-f", &path])?;
        self.until(&format!("the CNI agent of {node} runs"), |view| {
            view.runs_on(&format!("cni-agent-{node}"), node)
        })
    }

    /// Writes a file for a command, and returns its path from the checkout's root.
    fn file(&self, name: &str, content: &str) -> anyhow::Result<String> {
        let dir = self.layout.dir().join("demo");
        fs::create_dir_all(&dir)
            .and_then(|()| fs::write(dir.join(name), content))
            .with_context(|| format!("cannot write {name} into {}", dir.display()))?;
        Ok(format!(".cluster/demo/{name}"))
    }

    fn run(&self, command: &[&str]) -> anyhow::Result<()> {
        self.screen.run(self.layout, command)
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&View) -> bool) -> anyhow::Result<()> {
        self.live.until(what, WITHIN, is_so)
    }

    /// Fails if the last state differs from one that must not have changed.
    fn still(&self, what: &str, is_so: impl Fn(&View) -> bool) -> anyhow::Result<()> {
        let view = self.live.view();
        if !is_so(view) {
            bail!("this is no longer true: {what}. The last state:\n{}", view.describe());
        }
        Ok(())
    }

    fn state(&self) -> anyhow::Result<()> {
        self.run(&["kubectl", "get", "nodereadinessrules"])?;
        self.nodes()
    }

    fn nodes(&self) -> anyhow::Result<()> {
        let columns = "custom-columns-file=.cluster/demo/nodes.columns";
        self.run(&["kubectl", "get", "nodes", "-o", columns])
    }
}
