//! Makes a history that fails shorter, while it fails for the same rule.

use crate::campaign::judge;
use crate::history::{History, Step};
use crate::violation::Violation;

/// The shortest history that could be found which breaks the same rule as `history`, and how.
pub fn shrink(history: &History, violation: Violation) -> (History, Violation) {
    let mut best = (history.clone(), violation);
    loop {
        let before = best.0.steps.len();
        let mut size = before.div_ceil(2).max(1);
        loop {
            remove_in_pieces(&mut best, size);
            if size == 1 {
                break;
            }
            size = size.div_ceil(2);
        }
        shorten_runs(&mut best);
        shorten_bursts(&mut best);
        if best.0.steps.len() == before {
            return best;
        }
    }
}

fn remove_in_pieces(best: &mut (History, Violation), size: usize) {
    let mut at = 0;
    while at < best.0.steps.len() {
        let end = (at + size).min(best.0.steps.len());
        let mut steps = best.0.steps.clone();
        steps.drain(at..end);
        if !keep_if_it_fails(best, steps) {
            at = end;
        }
    }
}

/// Fewer turns, and rest instead of them.
fn shorten_runs(best: &mut (History, Violation)) {
    for at in 0..best.0.steps.len() {
        let Step::Run { seed, turns } = best.0.steps[at] else { continue };
        let mut steps = best.0.steps.clone();
        steps[at] = Step::Settle { seed };
        if keep_if_it_fails(best, steps) {
            continue;
        }
        let mut turns = turns;
        while turns > 1 {
            let mut steps = best.0.steps.clone();
            steps[at] = Step::Run { seed, turns: turns / 2 };
            if !keep_if_it_fails(best, steps) {
                break;
            }
            turns /= 2;
        }
    }
}

/// Fewer messages at once.
fn shorten_bursts(best: &mut (History, Violation)) {
    for at in 0..best.0.steps.len() {
        while let Step::Publish { more, .. } = best.0.steps[at]
            && more > 0
        {
            let mut steps = best.0.steps.clone();
            if let Step::Publish { more, .. } = &mut steps[at] {
                *more /= 2;
            }
            if !keep_if_it_fails(best, steps) {
                break;
            }
        }
    }
}

fn keep_if_it_fails(best: &mut (History, Violation), steps: Vec<Step>) -> bool {
    let candidate = History { setup: best.0.setup, steps };
    match judge(&candidate) {
        Some(violation) if violation.rule == best.1.rule => {
            *best = (candidate, violation);
            true
        }
        _ => false,
    }
}
