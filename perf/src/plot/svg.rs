//! The few shapes of SVG that plots need.

use std::fmt::Write;

/// A picture that grows.
#[derive(Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text stands in relation to its point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    /// Right of it.
    Start,
    /// Around it.
    Middle,
    /// Left of it.
    End,
}

impl Svg {
    /// An empty picture of this size, in pixels.
    pub fn new(width: f64, height: f64) -> Self {
        Svg { width, height, body: String::new() }
    }

    /// A straight line.
    pub fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], colour: &str) {
        self.add(&format!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}"/>"#));
    }

    /// A line through points, dashed if it is only to accompany another.
    pub fn path(&mut self, points: &[(f64, f64)], colour: &str, dashed: bool) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dash = if dashed { r#" stroke-dasharray="5 4""# } else { "" };
        let points = points.join(" ");
        self.add(&format!(r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>"#));
    }

    /// A dot, or a ring where the figure is in doubt.
    pub fn dot(&mut self, x: f64, y: f64, colour: &str, filled: bool) {
        let fill = if filled { colour } else { "white" };
        self.add(&format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{fill}" stroke="{colour}"/>"#));
    }

    /// A filled rectangle.
    pub fn bar(&mut self, [x, y, width, height]: [f64; 4], colour: &str) {
        self.add(&format!(r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#));
    }

    /// A text of `size` pixels whose base line is at `y`.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, size: u32, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.add(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="black">{text}</text>"#
        ));
    }

    /// The text of the file.
    pub fn finish(self) -> String {
        let Svg { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
        )
    }

    fn add(&mut self, element: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_the_size_is_told() {
        let mut svg = Svg::new(300.0, 200.0);
        svg.text(1.0, 2.0, Anchor::End, 12, "a<b & c");
        let text = svg.finish();
        assert!(text.contains(">a&lt;b &amp; c</text>") && text.contains("viewBox=\"0 0 300 200\""), "{text}");
    }
}
