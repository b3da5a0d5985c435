//! What a side-by-side measurement measures, and with whom.

use std::path::PathBuf;

use crate::broker::{self, Broker};
use crate::cores::Cores;
use crate::emqtt_bench;
use crate::scenario::{Contenders, Kind, Scenario};
use crate::timing::Timing;

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// With what.
    pub scenarios: Vec<&'static Scenario>,
    /// Whom.
    pub brokers: Vec<Broker>,
    /// The program `moormq-embedded`, for scenarios in which moormq is measured against itself; without it they are left out.
    pub embedded: Option<PathBuf>,
    /// How often.
    pub rounds: usize,
    /// For how long.
    pub timing: Timing,
    /// Where.
    pub cores: Cores,
}

impl Plan {
    /// Who is measured with `scenario`: nobody, if something is missing for it.
    pub fn contenders(&self, scenario: &Scenario) -> Vec<Broker> {
        if matches!(scenario.kind, Kind::Bench(_)) && emqtt_bench::program().is_none() {
            return Vec::new();
        }
        match (scenario.contenders, &self.embedded) {
            (Contenders::Brokers, _) => self.brokers.clone(),
            (Contenders::Variants(_), None) => Vec::new(),
            (Contenders::Variants(variants), Some(program)) => variants
                .iter()
                .map(|variant| Broker {
                    name: variant.name.to_owned(),
                    kind: broker::Kind::Embedded(program.clone(), *variant),
                })
                .collect(),
        }
    }
}
