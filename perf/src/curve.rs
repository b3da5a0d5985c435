//! A round in which messages come faster and faster, until the broker falls behind.

use std::time::Duration;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::sample::Step;
use crate::scenario::{Load, Messages};
use crate::target::Target;
use crate::timing::Timing;
use crate::traffic;

/// A broker keeps up if it delivers this part of what is published in the same time.
const KEPT_UP: f64 = 0.97;

/// Half of the messages may take so long at most: beyond that they stand in a queue.
const STANDING: Duration = Duration::from_millis(250);

/// Steps in a row that the broker does not keep up with, until it is believed: one may be the fault of something else on the machine.
const BELIEVED: usize = 2;

/// Runs one round: a step for each rate, lowest first, with new connections each, until the broker or the generator does not keep up.
///
/// # Errors
///
/// As [`run::round`](crate::run::round).
pub fn round(
    messages: &Messages,
    rates: &[u32],
    target: &Target,
    timing: Timing,
    interrupt: &Interrupt,
) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    for &rate in rates {
        let messages = Messages { load: Load::Open { rate }, ..*messages };
        let sample = traffic::round(&messages, target, timing, interrupt)?;
        steps.push(Step { offered: rate, sample });
        if steps.iter().rev().take_while(|step| !step.kept_up()).count() == BELIEVED {
            break;
        }
    }
    Ok(steps)
}

impl Step {
    /// Whether what was offered was delivered in time.
    pub fn kept_up(&self) -> bool {
        let standing = self.sample.latency.is_none_or(|latency| latency.p50 > STANDING);
        self.sample.rate() >= KEPT_UP * f64::from(self.offered) && !standing
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::sample::MessagesSample;
    use crate::sample::tests::messages;
    use crate::times::Latency;

    /// A step in which all went well.
    pub fn step(offered: u32) -> Step {
        let sample = MessagesSample { latency: latency(100), lateness: latency(10), ..messages(1000) };
        Step { offered, sample }
    }

    fn latency(micros: u64) -> Option<Latency> {
        Latency::of([Duration::from_micros(micros)])
    }

    #[test]
    fn a_step_is_kept_up_with_if_enough_arrives_soon() {
        let step = |offered, delivered, micros| {
            let sample = MessagesSample { latency: latency(micros), ..messages(delivered) };
            Step { offered, sample }
        };
        assert!(step(2000, 990, 100).kept_up());
        assert!(!step(2000, 900, 100).kept_up());
        assert!(!step(2000, 1000, 300_000).kept_up());
    }

    #[test]
    fn a_generator_that_is_late_itself_is_found_out() {
        let step = |late, took| {
            let sample = MessagesSample { latency: latency(took), lateness: latency(late), ..messages(1000) };
            Step { offered: 2000, sample }
        };
        assert!(step(10, 100).sample.generator_kept_up());
        assert!(!step(80, 100).sample.generator_kept_up());
    }
}
