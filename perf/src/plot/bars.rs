//! A bar for each scenario and broker, on a logarithmic axis.

use super::axis::{Axis, label};
use super::legend::{colour, legend};
use super::svg::{Anchor, Svg};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 30.0;
const BAR: f64 = 12.0;
const GAP: f64 = 10.0;

/// The bars of one scenario.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// A value for each broker; none where there is none.
    pub values: Vec<Option<f64>>,
}

/// The picture; none if there is no value. `print` says how a value is written at the end of its bar.
pub fn bars(title: &str, brokers: &[String], groups: &[Group], print: fn(f64) -> String) -> Option<String> {
    let all = groups.iter().flat_map(|group| group.values.iter().flatten().copied());
    let axis = Axis::over(all, LEFT, WIDTH - RIGHT)?;
    let step = BAR * brokers.len() as f64 + GAP;
    let bottom = TOP + step * groups.len() as f64;
    let mut svg = Svg::new(WIDTH, bottom + BOTTOM);
    svg.text(LEFT, 24.0, Anchor::Start, 16, title);
    legend(&mut svg, LEFT, 46.0, brokers);
    for mark in axis.marks() {
        svg.line([axis.place(mark), TOP, axis.place(mark), bottom], "#dddddd");
        svg.text(axis.place(mark), bottom + 18.0, Anchor::Middle, 12, &label(mark));
    }
    for (group, top) in groups.iter().zip((0..).map(|number| TOP + GAP / 2.0 + step * f64::from(number))) {
        let middle = top + BAR * brokers.len() as f64 / 2.0;
        svg.text(LEFT - 8.0, middle + 4.0, Anchor::End, 12, &group.name);
        for (broker, value) in group.values.iter().enumerate() {
            let Some(value) = value else { continue };
            let y = top + BAR * broker as f64;
            svg.bar([LEFT, y, (axis.place(*value) - LEFT).max(1.0), BAR - 1.0], colour(broker));
            svg.text(axis.place(*value) + 4.0, y + BAR - 2.5, Anchor::Start, 11, &print(*value));
        }
    }
    svg.line([LEFT, TOP, LEFT, bottom], "black");
    Some(svg.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_for_each_value_and_a_line_in_the_legend_for_each_broker() {
        let brokers = ["a".to_owned(), "b".to_owned()];
        let group = |values| Group { name: "p2p".to_owned(), values };
        let groups = [group(vec![Some(1.0), Some(20.0)]), group(vec![None, Some(3.0)])];
        let text = bars("cost", &brokers, &groups, |value| format!("{value:.1}")).unwrap();
        // Besides the background: three bars and two entries.
        assert_eq!(text.matches("<rect").count(), 1 + 3 + 2);
        assert!(text.contains(">20.0</text>") && text.contains(">cost</text>"));
        assert!(bars("cost", &brokers, &[group(vec![None, None])], |_| String::new()).is_none());
    }
}
