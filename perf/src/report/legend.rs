//! What the scenarios of a table are about.

use crate::outcome::Row;

/// A line for each scenario.
pub fn legend(rows: &[&Row]) -> String {
    let lines: String = rows.iter().map(|row| format!("* {}: {}\n", row.scenario.name, row.scenario.about)).collect();
    format!("\n{lines}")
}
