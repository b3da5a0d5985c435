//! The least that a store costs: writes of one size, so many a second, through the same ring and in the same way as a shard's journal makes them, one at a
//! time, to files that are filled in advance. Nothing is put into them.
//!
//! It says in a line: nanoseconds of processor time, how many writes that were, and how many nanoseconds all of it took; and of the time that a write took
//! half, 99 of 100, and all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use moormq::journal::{Aligned, BLOCK, FileId, Sync, Write};
use moormq::net::ring::{Completion, Ring};
use moormq::net::sockets::SocketLimits;
use moormq::storage::StoreDirectory;
use nix::sys::eventfd::EventFd;
use nix::time::ClockId;

/// As moormq's segments by default.
const FILES: u64 = 8;
const FILE_BYTES: u64 = 64 << 20;
/// A write of which nothing comes back hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes of one size, so many a second, and nothing else.
#[derive(Parser)]
#[command(name = "moormq-disk-floor", version)]
struct Args {
    /// A folder for its files, which is made
    #[arg(long)]
    directory: PathBuf,
    /// Bytes of each write; whole blocks are written
    #[arg(long)]
    bytes: usize,
    /// Writes a second
    #[arg(long)]
    rate: f64,
    /// How long
    #[arg(long)]
    seconds: f64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moormq-disk-floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(&args.directory)?;
    let sync = StoreDirectory::open_or_create(&args.directory.join("store"), 0)?.sync();
    let files = (0..FILES).map(|number| filled(&args.directory.join(format!("{number}")), sync));
    let files = files.collect::<io::Result<Vec<_>>>()?;
    let bell = EventFd::new()?;
    let mut ring: Ring<Vec<u8>> = Ring::new(SocketLimits::default().ring, bell.as_fd())
        .map_err(|(step, error)| io::Error::other(format!("{step:?}: {error}")))?;
    let bytes = args.bytes.next_multiple_of(BLOCK);
    let interval = Duration::from_secs_f64(1.0 / args.rate.max(0.001));
    let window = Duration::from_secs_f64(args.seconds);
    let mut buffer = Some(Aligned::zeroed(bytes));
    let mut took = Histogram::<u64>::new(3)?;
    let (mut offset, mut number) = (BLOCK as u64, 0);
    let (cpu, began) = (ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?, Instant::now());
    let mut due = began;
    while began.elapsed() < window {
        let Some(written) = buffer.take() else { return Err("a write has failed".into()) };
        if offset + bytes as u64 > FILE_BYTES {
            (offset, number) = (BLOCK as u64, (number + 1) % files.len());
        }
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            ring.wait(Some(left))?;
        }
        let start = Instant::now();
        ring.write_file(Arc::clone(&files[number]), Write { file: FileId(0), offset, buffer: written, bytes, sync });
        offset += bytes as u64;
        buffer = Some(written_by(&mut ring, sync)?);
        took.record(start.elapsed().as_nanos() as u64)?;
        // What was missed is not made up for: a journal gathers more meanwhile.
        due = (due + interval).max(Instant::now().checked_sub(interval).unwrap_or(began));
    }
    let cpu = Duration::from(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()? - cpu);
    let at = |quantile| took.value_at_quantile(quantile);
    let (wall, most) = (began.elapsed().as_nanos(), took.max());
    println!("{} {} {wall} {} {} {most}", cpu.as_nanos(), took.len(), at(0.5), at(0.99));
    Ok(())
}

/// Waits until a write is over, and what syncs it; gives its buffer back.
fn written_by(ring: &mut Ring<Vec<u8>>, sync: Sync) -> io::Result<Aligned> {
    let (mut buffer, mut synced) = (None, sync != Sync::Linked);
    let deadline = Instant::now() + PATIENCE;
    loop {
        ring.submit()?;
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::FileWritten { buffer: written, result } => {
                    result?;
                    buffer = Some(written);
                }
                Completion::FileSynced(result) => {
                    result?;
                    synced = true;
                }
                _ => {}
            }
        }
        match buffer.take() {
            Some(buffer) if synced => return Ok(buffer),
            other => buffer = other,
        }
        if Instant::now() > deadline {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        ring.wait(Some(PATIENCE))?;
    }
}

/// A file of zeros that are on the disk.
fn filled(path: &Path, sync: Sync) -> io::Result<Arc<File>> {
    let direct = if sync == Sync::Dsync { nix::libc::O_DIRECT } else { 0 };
    let file = OpenOptions::new().read(true).write(true).create_new(true).custom_flags(direct).open(path)?;
    let zeros = Aligned::zeroed(1 << 20);
    let pieces = FILE_BYTES / zeros.len() as u64;
    (0..pieces).try_for_each(|piece| file.write_all_at(&zeros, piece * zeros.len() as u64))?;
    file.sync_all()?;
    Ok(Arc::new(file))
}
