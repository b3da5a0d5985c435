//! What the core may cost per delivery. A file, so that a change of it is seen by whoever reads the change.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::measure::Cost;

/// What stands above the figures in the file.
const HEADING: &str = "\
# What the core may cost per delivered message, without sockets: instructions as callgrind counts them, and allocations.
# `perf/budget` checks it, and says more than this. To change it on purpose: `perf/budget --update`, and say why in the commit.

";

/// The budget.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What it was made with: with other tools the figures are others, so that it is not enforced.
    made_with: String,
    /// How many more instructions than the budget are let pass, in percent. Allocations have no margin.
    margin_percent: f64,
    /// By case.
    cases: BTreeMap<String, Figures>,
}

/// What a delivery may cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    instructions: f64,
    allocations: f64,
}

/// What came of a comparison.
#[derive(Debug)]
pub struct Verdict {
    /// Whether everything is within the budget, or there is none that would hold.
    pub within: bool,
    /// For people.
    pub text: String,
}

impl Figures {
    /// Whole instructions and hundredths of an allocation: what is less has to do with buffers that grow once in a while.
    fn of(cost: Cost) -> Figures {
        Figures { instructions: cost.instructions.round(), allocations: (cost.allocations * 100.0).round() / 100.0 }
    }
}

impl Budget {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it is not there or not a budget.
    pub fn load(file: &Path) -> Result<Budget, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Writes it to a file.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, file: &Path) -> Result<(), String> {
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        fs::write(file, format!("{HEADING}{text}")).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Takes these costs for the budget.
    pub fn replace(&mut self, tools: String, costs: &[(&str, Cost)]) {
        self.made_with = tools;
        self.cases = costs.iter().map(|(name, cost)| ((*name).to_owned(), Figures::of(*cost))).collect();
    }

    /// Compares.
    pub fn verdict(&self, tools: &str, costs: &[(&str, Cost)]) -> Verdict {
        let mut text =
            format!("{:<10} {:>12} {:>8} {:>12} {:>8}\n", "", "instructions", "budget", "allocations", "budget");
        let (mut over, mut under) = (Vec::new(), Vec::new());
        for (name, cost) in costs {
            let cost = Figures::of(*cost);
            let Some(budget) = self.cases.get(*name) else {
                over.push(format!("{name} has no budget"));
                continue;
            };
            let _ = writeln!(
                text,
                "{name:<10} {:>12} {:>8} {:>12.2} {:>8.2}",
                cost.instructions, budget.instructions, cost.allocations, budget.allocations
            );
            let grown = 100.0 * (cost.instructions / budget.instructions - 1.0);
            if grown > self.margin_percent {
                over.push(format!("{name} takes {grown:.1} % more instructions"));
            } else if grown < -self.margin_percent {
                under.push(*name);
            }
            if cost.allocations > budget.allocations {
                over.push(format!("{name} takes {:.2} more allocations", cost.allocations - budget.allocations));
            }
        }
        if !under.is_empty() {
            let _ = writeln!(text, "cheaper than its budget, which can be lowered: {}", under.join(", "));
        }
        let enforced = self.made_with == tools;
        text += &match (over.is_empty(), enforced) {
            (true, true) => "within the budget".to_owned(),
            (_, false) => format!("not enforced: the budget was made with {}, this is {tools}", self.made_with),
            (false, true) => format!(
                "over the budget: {}\nIf that is worth it, `perf/budget --update` takes the new figures; say in the commit why.",
                over.join("; ")
            ),
        };
        Verdict { within: over.is_empty() || !enforced, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        let mut budget = Budget { made_with: String::new(), margin_percent: 3.0, cases: BTreeMap::new() };
        budget.replace("rustc 1".to_owned(), &[("p2p", Cost { instructions: 1000.2, allocations: 1.003 })]);
        budget
    }

    fn verdict(instructions: f64, allocations: f64, tools: &str) -> Verdict {
        budget().verdict(tools, &[("p2p", Cost { instructions, allocations })])
    }

    #[test]
    fn more_than_the_margin_or_any_allocation_is_too_much() {
        assert!(verdict(1029.0, 1.004, "rustc 1").within);
        let verdict_of = |instructions, allocations| verdict(instructions, allocations, "rustc 1");
        let dear = verdict_of(1031.0, 1.0);
        assert!(!dear.within && dear.text.contains("3.1 % more instructions") && dear.text.contains("--update"));
        assert!(!verdict_of(1000.0, 1.01).within);
        assert!(!budget().verdict("rustc 1", &[("new", Cost { instructions: 1.0, allocations: 0.0 })]).within);
    }

    #[test]
    fn less_is_told_and_other_tools_are_not_judged() {
        let cheap = verdict(900.0, 0.0, "rustc 1");
        assert!(cheap.within && cheap.text.contains("can be lowered: p2p"));
        let other = verdict(2000.0, 5.0, "rustc 2");
        assert!(other.within && other.text.contains("not enforced"), "{}", other.text);
    }

    #[test]
    fn a_budget_is_read_as_it_was_written() {
        let file = std::env::temp_dir().join(format!("moormq-budget-{}", std::process::id()));
        budget().save(&file).unwrap();
        let read = Budget::load(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!((read.cases, read.made_with.as_str()), (budget().cases, "rustc 1"));
    }

    #[test]
    fn the_budget_of_the_project_is_one_and_has_every_case() {
        let budget = Budget::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.toml")).unwrap();
        assert!(crate::case::CASES.iter().all(|case| budget.cases.contains_key(case.name)));
    }
}
