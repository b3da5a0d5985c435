//! A logarithmic axis: brokers differ by factors, not by amounts.

/// A logarithmic axis between two places.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis that shows all of `values` that are above zero, from the place `from` to the place `to`, in pixels. None if there are none.
    /// It begins and ends at a mark.
    pub fn over(values: impl IntoIterator<Item = f64>, from: f64, to: f64) -> Option<Axis> {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.into_iter().filter(|value| *value > 0.0 && value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        (high > 0.0).then(|| {
            // Below the lowest, so that it can be seen.
            let low = last_before(low * 0.9);
            Axis { low, high: first_after(high.max(low * 2.0)), from, to }
        })
    }

    /// The place of a value; what is too low stands at the beginning.
    pub fn place(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    /// The values that are marked: 1, 2 and 5 of each power of ten, or the powers alone where those are many.
    pub fn marks(&self) -> Vec<f64> {
        let all: Vec<f64> = candidates().filter(|mark| (self.low..=self.high * 1.001).contains(mark)).collect();
        if all.len() <= 12 {
            return all;
        }
        all.into_iter().filter(|mark| (mark.log10() - mark.log10().round()).abs() < 1e-9).collect()
    }
}

/// 1, 2 and 5 of each power of ten that anything measured here can have.
fn candidates() -> impl DoubleEndedIterator<Item = f64> {
    (-6..12).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

fn last_before(value: f64) -> f64 {
    candidates().rev().find(|mark| *mark <= value).unwrap_or(value)
}

fn first_after(value: f64) -> f64 {
    candidates().find(|mark| *mark >= value).unwrap_or(value)
}

/// A mark as people read it.
pub fn label(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e3 => format!("{} k", value / 1e3),
        value => format!("{}", (value * 1e6).round() / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_begins_and_ends_at_marks_around_its_values() {
        let axis = Axis::over([0.3, 0.0, 7.0], 100.0, 500.0).unwrap();
        assert_eq!(axis.marks(), [0.2, 0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!((axis.place(0.2), axis.place(0.0)), (100.0, 100.0));
        assert!((axis.place(10.0) - 500.0).abs() < 1e-6);
        assert!(Axis::over([0.0], 0.0, 1.0).is_none());
    }

    #[test]
    fn wide_axes_are_marked_at_powers_of_ten() {
        let axis = Axis::over([1.0, 9e5], 0.0, 1.0).unwrap();
        assert_eq!(axis.marks().len(), 7);
    }

    #[test]
    fn labels_are_short() {
        assert_eq!([0.05, 20.0, 5000.0, 2e6].map(label), ["0.05", "20", "5 k", "2 M"]);
    }
}
