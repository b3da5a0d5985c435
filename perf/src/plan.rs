//! What a side-by-side measurement measures, and with whom.

use std::path::{Path, PathBuf};

use crate::broker::{self, Broker};
use crate::cores::Cores;
use crate::emqtt_bench;
use crate::scenario::{Contenders, Kind, Scenario, Variant};
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
    /// The program `moormq-disk-floor`, for scenarios about stores.
    pub disk_floor: Option<PathBuf>,
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
            (Contenders::Variants(variants), Some(program)) => of_variants(program, variants),
            (Contenders::Stores(variants), program) => self.storing(variants, program.as_deref()),
        }
    }

    /// moormq's variants, then the floor of what was measured last, then Mosquitto.
    fn storing(&self, variants: &[Variant], program: Option<&Path>) -> Vec<Broker> {
        let mut all = program.map_or(Vec::new(), |program| of_variants(program, variants));
        if let (Some(floor), false) = (&self.disk_floor, all.is_empty()) {
            all.push(Broker { name: "floor of the disk".to_owned(), kind: broker::Kind::DiskFloor(floor.clone()) });
        }
        for broker in &self.brokers {
            let broker::Kind::Mosquitto(program) = &broker.kind else { continue };
            for (name, seconds) in [("saves at its end", 3600), ("saves each second", 1)] {
                let kind = broker::Kind::SavingMosquitto(program.clone(), seconds);
                all.push(Broker { name: format!("{}, {name}", broker.name), kind });
            }
        }
        all
    }
}

fn of_variants(program: &Path, variants: &[Variant]) -> Vec<Broker> {
    let broker = |variant: &Variant| Broker {
        name: variant.name.to_owned(),
        kind: broker::Kind::Embedded(program.to_owned(), *variant),
    };
    variants.iter().map(broker).collect()
}
