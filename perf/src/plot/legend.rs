//! Which line or bar is which broker.

use super::svg::{Anchor, Svg};

/// The colour of broker number `broker`: distinguishable by those who see fewer colours, too (Okabe and Ito).
pub fn colour(broker: usize) -> &'static str {
    const COLOURS: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999"];
    COLOURS[broker % COLOURS.len()]
}

/// The names of the brokers beside their colours, in one line.
pub fn legend(svg: &mut Svg, mut x: f64, y: f64, brokers: &[String]) {
    for (broker, name) in brokers.iter().enumerate() {
        svg.bar([x, y - 10.0, 12.0, 12.0], colour(broker));
        svg.text(x + 17.0, y, Anchor::Start, 13, name);
        x += 40.0 + 8.0 * name.chars().count() as f64;
    }
}
