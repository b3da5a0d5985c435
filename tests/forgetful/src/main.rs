//! A file system in memory that forgets what was not synced when its power is cut: `moormq-forgetful DIRECTORY [--buffered] [--lies]`.
//!
//! It is mounted at the directory until its standard input ends. When it is, it says `mounted`. A line `cut SEED` cuts the power: it is unmounted,
//! forgets, is mounted again, and says what it has forgotten. Nobody may have a file of it open then. With `--buffered` it knows no O_DIRECT; with
//! `--lies` it syncs nothing, as bad disks do: what a test sees then it would see of a program that does not sync.

mod disk;
mod mount;

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use disk::{Disk, Lost};
use fastrand::Rng;

const USAGE: &str = "moormq-forgetful DIRECTORY [--buffered] [--lies]";

fn main() -> ExitCode {
    let mut path = None;
    let (mut is_direct, mut lies) = (true, false);
    for argument in std::env::args().skip(1) {
        match &*argument {
            "--buffered" => is_direct = false,
            "--lies" => lies = true,
            _ if path.is_none() && !argument.starts_with('-') => path = Some(PathBuf::from(argument)),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let Some(path) = path else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(path, is_direct, lies) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moormq-forgetful: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: PathBuf, is_direct: bool, lies: bool) -> Result<(), Box<dyn Error>> {
    let disk = Arc::new(Mutex::new(Disk::new(lies)));
    let mut session = mount::mount(Arc::clone(&disk), &path, is_direct)?;
    say("mounted")?;
    for line in stdin().lock().lines() {
        let line = line?;
        let Some(seed) = line.strip_prefix("cut ").and_then(|seed| seed.parse().ok()) else {
            return Err(format!("not a command: {line}").into());
        };
        mount::unmount(session, &path)?;
        let Lost { unsynced, dropped, torn, names } =
            disk.lock().expect("nobody panics").lose_power(&mut Rng::with_seed(seed));
        session = mount::mount(Arc::clone(&disk), &path, is_direct)?;
        say(&format!("cut {unsynced} {dropped} {torn} {names}"))?;
    }
    mount::unmount(session, &path)?;
    Ok(())
}

fn say(line: &str) -> std::io::Result<()> {
    println!("{line}");
    stdout().flush()
}
