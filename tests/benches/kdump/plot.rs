//! Bars side by side, as a picture for docs/benchmarks.md.

use std::path::Path;

use plotters::prelude::*;

/// Two values of one thing.
pub(crate) struct Bars {
    pub(crate) name: String,
    pub(crate) ours: f64,
    /// None: it did not get so far.
    pub(crate) theirs: Option<f64>,
}

const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const THEIRS: RGBColor = RGBColor(0xb0, 0xb0, 0xb0);

/// Height of a pair of bars, and of what is above and below all, in pixels.
const PAIR: usize = 46;
const FRAME: usize = 110;

/// How long the axis is, of the longest bar: what the colours mean stands behind that.
const ROOM: f64 = 1.35;

/// Draws `docs/plots/NAME.svg`.
pub(crate) fn draw(name: &str, title: &str, unit: &str, bars: &[Bars]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/plots");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name).with_extension("svg");
    let all = bars.iter().flat_map(|bars| [Some(bars.ours), bars.theirs]).flatten();
    let most = all.fold(0.0, f64::max);
    let height = u32::try_from(FRAME + PAIR * bars.len()).unwrap();
    let area = SVGBackend::new(&path, (800, height)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(170)
        .build_cartesian_2d(0.0..most * ROOM, 0.0..bars.len() as f64)
        .unwrap();
    chart.configure_mesh().disable_y_mesh().x_desc(unit).y_labels(0).draw().unwrap();
    for (colour, top, value, series) in [
        (OURS, 0.9, (|it: &Bars| Some(it.ours)) as fn(&Bars) -> Option<f64>, "rcapture"),
        (THEIRS, 0.5, |it| it.theirs, "kdump"),
    ] {
        let rectangles = bars.iter().rev().enumerate().filter_map(|(row, it)| {
            let y = row as f64 + top;
            Some(Rectangle::new([(0.0, y - 0.38), (value(it)?, y)], colour.filled()))
        });
        chart
            .draw_series(rectangles)
            .unwrap()
            .label(series)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
        let values = bars.iter().rev().enumerate().filter_map(|(row, it)| {
            let place = (value(it)? + most * 0.01, row as f64 + top - 0.08);
            Some(Text::new(format!("{:.1}", value(it)?), place, ("sans-serif", 12)))
        });
        chart.draw_series(values).unwrap();
    }
    for (row, it) in bars.iter().rev().enumerate() {
        let (x, y) = chart.backend_coord(&(0.0, row as f64 + 0.5));
        let style = ("sans-serif", 13).into_text_style(&area).pos(plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Right,
            plotters::style::text_anchor::VPos::Center,
        ));
        area.draw_text(&it.name, &style, (x - 8, y)).unwrap();
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw().unwrap();
    area.present().unwrap();
}
