//! The results for people: a table on the terminal, and Markdown.

use std::fmt::Write as _;
use std::path::Path;

use crate::figures::{self, Row};
use crate::fixture::SignalKind;
use crate::plot;
use crate::results::{Latencies, Percentiles, Phase, Results, Round};

/// Prints every figure with its limit.
pub(crate) fn print(rows: &[Row]) {
    let width = |text: &dyn Fn(&Row) -> usize| rows.iter().map(text).max().unwrap_or(0);
    let figure = width(&|row| row.figure.chars().count());
    let found = width(&|row| row.found.chars().count());
    let bar = width(&|row| row.bar.chars().count());
    println!();
    for row in rows {
        let Row { figure: name, found: value, bar: wanted, .. } = row;
        println!("{name:<figure$}  {value:>found$}  {wanted:<bar$}  {}", row.verdict());
    }
}

/// Writes `<nodes>-nodes-<rules>-rules.{md,json,svg}`, and the pages of other runs again, because one of their
/// figures depends on it.
pub(crate) fn write(out: &Path, results: Results, others: Vec<Results>) -> anyhow::Result<()> {
    std::fs::create_dir_all(out)?;
    let path = |name: &str, extension: &str| out.join(format!("{name}.{extension}"));
    let name = name(&results);
    let mut json = serde_json::to_string_pretty(&results)?;
    json.push('\n');
    std::fs::write(path(&name, "json"), json)?;
    plot::draw(&path(&name, "svg"), &results)?;
    let all: Vec<_> = others.into_iter().chain([results]).collect();
    for results in &all {
        let (name, rows) = (self::name(results), figures::rows(results, &all));
        std::fs::write(path(&name, "md"), markdown(&name, results, &rows)?)?;
    }
    Ok(())
}

/// The name of a run's files.
fn name(results: &Results) -> String {
    let pods = if results.signals == SignalKind::Pods { "-of-pods" } else { "" };
    format!("{}-nodes-{}-rules{pods}", results.nodes, results.rules)
}

/// Reads the results of other runs from the same directory. A file in an older format is reported and skipped,
/// so it does not end a long run.
pub(crate) fn others(out: &Path, results: &Results) -> anyhow::Result<Vec<Results>> {
    let Ok(files) = std::fs::read_dir(out) else { return Ok(Vec::new()) };
    let mut others = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match serde_json::from_str::<Results>(&std::fs::read_to_string(&path)?) {
            Ok(other) if other.signals != results.signals || name(&other) == name(results) => {}
            Ok(other) => others.push(other),
            Err(error) => println!("{} is left out: {error}", path.display()),
        }
    }
    Ok(others)
}

fn markdown(name: &str, results: &Results, rows: &[Row]) -> anyhow::Result<String> {
    let mut text = String::new();
    let Results { nodes, rules, node_bytes, machine, at, .. } = results;
    let of = if results.signals == SignalKind::Pods { " of pods" } else { "" };
    writeln!(text, "# {nodes} nodes, rules{of}: {rules}\n")?;
    writeln!(text, "Measured {at}\non {machine}.\nA node is {node_bytes} bytes of JSON.\n")?;
    writeln!(text, "| figure | found | bar | |\n| --- | --- | --- | --- |")?;
    for row in rows {
        let Row { figure, found, bar, .. } = row;
        writeln!(text, "| {figure} | {found} | {bar} | {} |", row.verdict())?;
    }
    writeln!(text, "\n![Nodes done over time]({name}.svg)\n")?;
    writeln!(text, "| | taint, s | flip and untaint, s |\n| --- | --- | --- |")?;
    let mut line =
        |who: &str, taint: f64, flip: f64| writeln!(text, "| {who} | {taint:.2} | {flip:.2} |");
    for Round { baseline, cold_start, flip } in &results.rounds {
        line("baseline", baseline.taint_seconds, baseline.flip_seconds)?;
        line("operator", cold_start.seconds, flip.seconds)?;
    }
    line("baseline", results.last_baseline.taint_seconds, results.last_baseline.flip_seconds)?;
    phases(&mut text, results)?;
    writeln!(text, "\nThe largest status of a rule has {} bytes.", results.status_bytes)?;
    if let Some(memory) = &results.memory {
        let churn = memory.churn_kib.iter().map(|kib| (kib / 1024).to_string());
        writeln!(
            text,
            "Memory was measured with nodes of {} bytes and {} rules: {} MiB at most.\nIn {} s of churn: {} MiB.",
            memory.node_bytes,
            memory.rules,
            memory.most_resident_kib / 1024,
            memory.churn_seconds,
            churn.collect::<Vec<_>>().join(", ")
        )?;
    }
    Ok(text)
}

fn phases(text: &mut String, results: &Results) -> anyhow::Result<()> {
    let rounds = results
        .rounds
        .iter()
        .flat_map(|round| [("cold start", &round.cold_start), ("flip", &round.flip)]);
    let others = [
        ("storm of four flips", &results.storm),
        ("restart in the middle", &results.restart),
        ("steady state", &results.steady),
    ];
    let met = results.met_without_operator.iter().map(|phase| ("start with conditions met", phase));
    let all: Vec<_> = rounds.chain(others).chain(met).collect();
    writeln!(text, "\nLatency is reported as p50 / p90 / p99 in milliseconds.\n")?;
    writeln!(text, "| phase | s | latency | until shown | processor, s | resident, MiB |")?;
    writeln!(text, "| --- | --- | --- | --- | --- | --- |")?;
    for (name, phase) in &all {
        let Phase { seconds, cpu_seconds, resident_kib, .. } = phase;
        let (answered, shown) = reported(phase.latencies.as_ref());
        let resident = resident_kib / 1024;
        writeln!(
            text,
            "| {name} | {seconds:.2} | {answered} | {shown} | {cpu_seconds:.2} | {resident} |"
        )?;
    }
    let (answered, shown) = reported(results.idle.as_ref());
    writeln!(text, "| one node at a time | – | {answered} | {shown} | – | – |")?;
    writeln!(
        text,
        "\nRequests that the API server answered to anybody, bench included (which writes"
    )?;
    writeln!(text, "`nodes/status` and reads metrics):\n")?;
    writeln!(text, "| phase | requests |\n| --- | --- |")?;
    for (name, phase) in &all {
        let requests = phase.requests.iter().filter(|(kind, _)| concerns(kind));
        let requests = requests.map(|(kind, count)| format!("{kind}: {count}"));
        writeln!(text, "| {name} | {} |", requests.collect::<Vec<_>>().join(", "))?;
    }
    Ok(())
}

/// Formats latencies for a table.
fn reported(latencies: Option<&Latencies>) -> (String, String) {
    let reported =
        |Percentiles { p50, p90, p99, .. }: &Percentiles| format!("{p50:.0} / {p90:.0} / {p99:.0}");
    match latencies {
        Some(Latencies { answered, shown }) => (reported(answered), reported(shown)),
        None => ("–".to_owned(), "–".to_owned()),
    }
}

/// Returns whether requests of this kind matter for the measurement.
fn concerns(kind: &str) -> bool {
    ["nodes", "pods", "events", "nodereadinessrules"].iter().any(|resource| {
        kind.split_once(' ').is_some_and(|(_, of)| of.split('/').next() == Some(resource))
    })
}
