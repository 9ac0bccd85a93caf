//! The plot of a run: how many nodes were done when, by a bare client and by the operator.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use crate::results::{Curve, Results};

const SIZE: (u32, u32) = (900, 380);
const BASELINE: RGBColor = RGBColor(120, 120, 120);
const OPERATOR: RGBColor = RGBColor(30, 100, 200);

/// Draws both phases that have a baseline, side by side.
pub(crate) fn draw(path: &Path, results: &Results) -> anyhow::Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let drawn = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| drawn(&error))?;
    let halves = area.split_evenly((1, 2));
    let rounds = &results.rounds;
    let taints: Vec<_> = results.baselines().map(|baseline| &baseline.taint_curve).collect();
    let flips: Vec<_> = results.baselines().map(|baseline| &baseline.flip_curve).collect();
    let starts: Vec<_> = rounds.iter().map(|round| &round.cold_start.curve).collect();
    let flipped: Vec<_> = rounds.iter().map(|round| &round.flip.curve).collect();
    let panels = [
        (&halves[0], "tainted, cold start", taints, starts),
        (&halves[1], "untainted, all conditions flip", flips, flipped),
    ];
    for (area, title, baselines, operator) in panels {
        panel(area, title, results.nodes, &baselines, &operator).map_err(|error| drawn(&error))?;
    }
    area.present().map_err(|error| drawn(&error))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn panel<'a>(
    area: &Area<'a>,
    title: &str,
    nodes: usize,
    baselines: &[&Curve],
    operator: &[&Curve],
) -> Drawn<'a> {
    let end = |curve: &Curve| curve.0.last().map_or(0.0, |(at, _)| *at);
    let longest = baselines.iter().chain(operator).map(|curve| end(curve)).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("nodes {title}"), ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..longest * 1.05, 0..nodes)?;
    chart.configure_mesh().x_desc("seconds").light_line_style(WHITE).draw()?;
    let mut line = |curve: &Curve, color: RGBColor, label: Option<&str>| -> Drawn<'a> {
        let series =
            chart.draw_series(LineSeries::new(curve.0.iter().copied(), color.stroke_width(2)))?;
        if let Some(label) = label {
            let sample = move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], color);
            series.label(label).legend(sample);
        }
        Ok(())
    };
    for (curves, color, label) in
        [(baselines, BASELINE, "a bare client (baseline)"), (operator, OPERATOR, "the operator")]
    {
        for (number, curve) in curves.iter().enumerate() {
            line(curve, color, (number == 0).then_some(label))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BASELINE)
        .draw()?;
    Ok(())
}
