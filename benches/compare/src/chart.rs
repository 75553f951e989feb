//! Draws the chart in the README, in colours that are readable on light and dark pages.

use std::fmt::Write as _;

/// Writes `chart.svg` to the directory of this package's `Cargo.toml`. The chart has one panel per
/// kind of token, and a logarithmic scale.
pub fn write(ratios: &[(String, f64)]) {
    let ratio =
        |name: String| ratios.iter().find(|(other, _)| *other == name).map(|(_, ratio)| *ratio);
    let rows = ROWS.iter().map(|(label, name)| {
        (*label, ["es384", "rs256"].map(|kind| ratio(name.replace("KIND", kind))))
    });
    let svg = draw(&rows.collect::<Vec<_>>());
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/chart.svg"), svg).unwrap();
}

type Row = (&'static str, [Option<f64>; 2]);

fn draw(rows: &[Row]) -> String {
    let panel = PANEL_TOP + rows.len() as f64 * ROW;
    let height = TOP + 2.0 * panel + FOOT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{TITLE}\" font-size=\"13\" \
         font-family=\"-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\">\n"
    );
    text(&mut svg, 0.0, 18.0, "start", TITLE, "font-size=\"15\" font-weight=\"600\"");
    text(&mut svg, 0.0, 37.0, "start", SUBTITLE, "opacity=\"0.85\"");
    let panels = ["ES384, the default algorithm of Logto", "RS256 with 4,096 bits, as in Logto"];
    for (kind, title) in panels.into_iter().enumerate() {
        let top = TOP + kind as f64 * panel;
        text(&mut svg, 0.0, top + 20.0, "start", title, "font-weight=\"600\"");
        let bottom = top + panel - 8.0;
        for power in 0..=3 {
            let x = BARS + length(10_f64.powi(power));
            let (from, to) = (top + PANEL_TOP - 4.0, bottom);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\" stroke=\"{GREY}\" \
                 stroke-opacity=\"0.3\"/>"
            );
        }
        for (position, (label, values)) in rows.iter().enumerate() {
            let Some(value) = values[kind] else { continue };
            let y = top + PANEL_TOP + position as f64 * ROW;
            let ours = *label == "tower-logto";
            let weight = if ours { "font-weight=\"600\"" } else { "" };
            text(&mut svg, BARS - 10.0, y + 13.0, "end", label, weight);
            let (fill, width) = (if ours { BLUE } else { GREY }, length(value).max(2.0));
            let opacity = if ours { "1" } else { "0.55" };
            let _ = writeln!(
                svg,
                "<rect x=\"{BARS}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"3\" \
                 fill=\"{fill}\" fill-opacity=\"{opacity}\"/>"
            );
            let value = if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
            text(&mut svg, BARS + width + 7.0, y + 13.0, "start", &format!("{value} ×"), weight);
        }
    }
    svg + "</svg>\n"
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str, more: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{GREY}\" {more}>{text}</text>"
    );
}

/// Returns the length of a bar on the logarithmic scale. For a ratio of 1, the length is 0.
fn length(ratio: f64) -> f64 {
    ratio.max(1.0).log10() * (WIDTH - BARS - 70.0) / 3.7
}

/// The label of each bar, and the name of the ratio that the bar shows. `KIND` stands for the kind
/// of token.
const ROWS: [(&str, &str); 7] = [
    ("a layer that does nothing", "no_op_vs_bare"),
    ("tower-logto", "warm_vs_bare_KIND"),
    ("tower-oauth2-resource-server, aws-lc", "tower_oauth2_resource_server_aws_lc_KIND_vs_bare"),
    ("oauth-resource-server", "oauth_resource_server_KIND_vs_bare"),
    ("jwt-authorizer", "jwt_authorizer_KIND_vs_bare"),
    ("axum-jwt-auth", "axum_jwt_auth_KIND_vs_bare"),
    ("tower-oauth2-resource-server, default", "tower_oauth2_resource_server_default_KIND_vs_bare"),
];
const TITLE: &str = "Time per request with a valid token that was seen before";
const SUBTITLE: &str =
    "1 × is the same axum router without a layer. Logarithmic scale, shorter is better";
const WIDTH: f64 = 790.0;
const TOP: f64 = 46.0;
const PANEL_TOP: f64 = 32.0;
const ROW: f64 = 23.0;
const BAR: f64 = 17.0;
const BARS: f64 = 280.0;
const FOOT: f64 = 4.0;
/// A grey that has a contrast of at least 4 : 1 on GitHub's white and dark-grey backgrounds.
const GREY: &str = "#768390";
const BLUE: &str = "#2f81f7";
