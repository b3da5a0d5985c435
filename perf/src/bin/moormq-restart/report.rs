//! The figures as a page of Markdown.

use std::fmt::Write;

use moormq_perf_shared::under_test::machine;

use crate::args::Args;
use crate::outcome::Outcome;

/// The page.
pub fn page(args: &Args, version: &str, outcome: &Outcome) -> String {
    let Outcome { making, filling, before, stored, restarts } = outcome;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let mut page = format!(
        "# Started again\n\n{}\n\n{} sessions with a subscription each and {} messages of {} bytes waiting, {} shards with {}, durability \
         fsynced. Making the sessions took {:.1} s, filling them {:.1} s; the broker had {:.0} MiB resident then, and the store takes {:.0} MiB. It was killed \
         with SIGKILL and started again, {} times. Times are from its start on.\n\n\
         | CONNACK, ms | first message, ms | resident then, MiB | most resident, MiB |\n|---:|---:|---:|---:|\n",
        machine(version),
        args.sessions,
        args.messages,
        args.payload,
        args.shards,
        args.store.journals(),
        making.as_secs_f64(),
        filling.as_secs_f64(),
        mib(*before),
        *stored as f64 / 1024.0 / 1024.0,
        restarts.len()
    );
    for restart in restarts {
        let [connack, first] = [restart.connack, restart.first].map(|time| time.as_secs_f64() * 1e3);
        // Writing to a string does not fail.
        let _ =
            writeln!(page, "| {connack:.0} | {first:.0} | {:.0} | {:.0} |", mib(restart.resident), mib(restart.peak));
    }
    page
}
