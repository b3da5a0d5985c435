//! What a delivery costs: the difference between a run and one with twice as many turns, so that what comes before the messages does not count.

use std::process::Command;

use crate::case::{Case, Run};

/// What a delivery costs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// Instructions, those of the rig included, which are some dozens.
    pub instructions: f64,
    /// Allocations.
    pub allocations: f64,
}

/// Measures a case, with valgrind and this program.
///
/// # Errors
///
/// If valgrind is not there, or does not say what it counted.
pub fn cost(case: &Case) -> Result<Cost, String> {
    let (once, instructions_once) = counted(case, case.turns)?;
    let (twice, instructions_twice) = counted(case, 2 * case.turns)?;
    let per_delivery = |once: u64, twice: u64, deliveries: u64| (twice as f64 - once as f64) / deliveries as f64;
    let deliveries = twice.deliveries - once.deliveries;
    Ok(Cost {
        instructions: per_delivery(instructions_once, instructions_twice, deliveries),
        allocations: per_delivery(once.allocations, twice.allocations, deliveries),
    })
}

/// Runs a case under callgrind. Gives what it came to, and the instructions of the whole process.
fn counted(case: &Case, turns: u64) -> Result<(Run, u64), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["run", case.name, &turns.to_string()])
        // The same wherever it runs: the environment takes part in what happens before the messages.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .map_err(|error| format!("valgrind: {error} (apt-get install valgrind)"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match (Run::parse(&stdout), collected(&stderr)) {
        (Some(run), Some(instructions)) if output.status.success() => Ok((run, instructions)),
        _ => Err(format!("{} under valgrind ({}): {stdout}{stderr}", case.name, output.status)),
    }
}

/// The count in the line `==PID== Collected : COUNT`.
fn collected(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_what_valgrind_says() {
        let text = "==1== Callgrind, a call-graph generating cache profiler\n==1== \n==1== Events    : Ir\n\
                    ==1== Collected : 186548392\n==1== \n==1== I   refs:      186,548,392\n";
        assert_eq!(collected(text), Some(186_548_392));
        assert_eq!(collected("valgrind: command not found"), None);
    }
}
