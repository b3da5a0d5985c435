//! A disk that forgets what was not synced when its power is cut: `tests/forgetful`, mounted for a store.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Direct,
    /// It knows no direct writes, so that commits are synced in another way.
    Buffered,
    /// It syncs nothing, as bad disks do.
    Lying,
}

/// What it has forgotten, all together: see `Lost` of `tests/forgetful`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Forgotten {
    pub cuts: u64,
    pub unsynced: u64,
    pub dropped: u64,
    pub torn: u64,
    pub names: u64,
}

/// A mounted disk. Dropping it unmounts it.
pub struct Power {
    child: Child,
    /// None when it is to end.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    at: PathBuf,
    pub forgotten: Forgotten,
}

/// The program, beside that of the broker; it is built with the workspace.
fn program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_moormq")).with_file_name("moormq-forgetful")
}

impl Power {
    /// Mounts an empty one; why it cannot be done.
    pub fn mount(at: PathBuf, kind: Kind) -> Result<Self, String> {
        let program = program();
        if !program.exists() {
            return Err(format!("there is no {}: cargo build -p moormq-forgetful", program.display()));
        }
        fs::create_dir_all(&at).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg(&at).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match kind {
            Kind::Direct => {}
            Kind::Buffered => drop(command.arg("--buffered")),
            Kind::Lying => drop(command.arg("--lies")),
        }
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut power = Power { child, stdin, stdout, at, forgotten: Forgotten::default() };
        let said = power.line();
        match said == "mounted" {
            true => Ok(power),
            false => Err(power.complaint()),
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        // What it cannot say any more it says on standard error.
        let _ = self.stdout.read_line(&mut line);
        line.trim().to_owned()
    }

    fn complaint(&mut self) -> String {
        let mut said = String::new();
        self.stdin = None;
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        said.trim().to_owned()
    }

    /// Cuts the power, and gives it back. Nobody has a file open.
    pub fn cut(&mut self, seed: u64) -> Result<(), String> {
        let written = self.stdin.as_mut().map(|stdin| stdin.write_all(format!("cut {seed}\n").as_bytes()));
        let line = self.line();
        let numbers: Vec<u64> = line.split(' ').skip(1).filter_map(|number| number.parse().ok()).collect();
        let ([unsynced, dropped, torn, names], Some(Ok(()))) = (&numbers[..], written) else {
            return Err(format!("the disk: {line} {}", self.complaint()));
        };
        let sum = &mut self.forgotten;
        sum.cuts += 1;
        (sum.unsynced, sum.dropped) = (sum.unsynced + unsynced, sum.dropped + dropped);
        (sum.torn, sum.names) = (sum.torn + torn, sum.names + names);
        Ok(())
    }

    /// Copies what is on it, for somebody to look at.
    pub fn keep(&self, to: &Path) -> std::io::Result<()> {
        copy(&self.at, to)
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => fs::write(&to, fs::read(entry.path())?)?,
        }
        // A broker that is to look at it does not take what others may read.
        fs::set_permissions(&to, entry.metadata()?.permissions())?;
    }
    Ok(())
}

impl Drop for Power {
    fn drop(&mut self) {
        self.stdin = None;
        // It may have ended.
        let _ = self.child.wait();
    }
}
