//! Lines over two logarithmic axes.

use super::axis::{Axis, label};
use super::legend::{colour, legend};
use super::svg::{Anchor, Svg};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 96.0;
const BOTTOM: f64 = 60.0;

/// A line.
#[derive(Debug)]
pub struct Line {
    /// The number of the broker it belongs to, for its colour.
    pub broker: usize,
    /// Whether it is dashed.
    pub dashed: bool,
    /// Its points.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Along.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// Whether the figure is beyond doubt.
    pub sure: bool,
}

/// What stands beside the lines.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// Above.
    pub title: &'a str,
    /// Below the title, in two lines.
    pub notes: [&'a str; 2],
    /// Below.
    pub along: &'a str,
    /// At the side.
    pub up: &'a str,
}

/// The picture; none if there are no points.
pub fn lines(words: Words<'_>, brokers: &[String], lines: &[Line]) -> Option<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let bottom = HEIGHT - BOTTOM;
    let along = Axis::over(points().map(|point| point.x), LEFT, WIDTH - RIGHT)?;
    let up = Axis::over(points().map(|point| point.y), bottom, TOP)?;
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.text(LEFT, 24.0, Anchor::Start, 16, words.title);
    for (note, y) in words.notes.into_iter().zip([42.0, 57.0]) {
        svg.text(LEFT, y, Anchor::Start, 12, note);
    }
    legend(&mut svg, LEFT, 80.0, brokers);
    for mark in along.marks() {
        svg.line([along.place(mark), TOP, along.place(mark), bottom], "#dddddd");
        svg.text(along.place(mark), bottom + 18.0, Anchor::Middle, 12, &label(mark));
    }
    for mark in up.marks() {
        svg.line([LEFT, up.place(mark), WIDTH - RIGHT, up.place(mark)], "#dddddd");
        svg.text(LEFT - 8.0, up.place(mark) + 4.0, Anchor::End, 12, &label(mark));
    }
    svg.text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14.0, Anchor::Middle, 13, words.along);
    svg.text(8.0, TOP - 10.0, Anchor::Start, 13, words.up);
    for line in lines {
        let places: Vec<_> = line.points.iter().map(|point| (along.place(point.x), up.place(point.y))).collect();
        svg.path(&places, colour(line.broker), line.dashed);
        for (point, (x, y)) in line.points.iter().zip(places) {
            svg.dot(x, y, colour(line.broker), point.sure);
        }
    }
    Some(svg.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_for_each_point_and_a_ring_where_there_is_doubt() {
        let point = |x, sure| Point { x, y: 10.0 * x, sure };
        let line = Line { broker: 0, dashed: true, points: vec![point(1000.0, true), point(2000.0, false)] };
        let words = Words { title: "latency", notes: [""; 2], along: "offered", up: "µs" };
        let text = lines(words, &["a".to_owned()], &[line]).unwrap();
        assert_eq!((text.matches("<polyline").count(), text.matches("<circle").count()), (1, 2));
        assert_eq!(text.matches("fill=\"white\"").count(), 2);
        assert!(lines(words, &[], &[]).is_none());
    }
}
