//! What can be known of a start before it: whether this machine has what a configuration names.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::layout::{StartError, allowed_cpus, remedy, shards_of};
use super::store::archive_problem;
use crate::config::{Config, ConfigError};
use crate::control::socket::ControlSocket;
#[cfg(feature = "stock")]
use crate::control::stock_files::StockFiles;
use crate::net::listeners::check_free;
use crate::net::port_holder::{Holder, holder_of};
use crate::net::probe::probe;
use crate::storage::{Outlook, ReadOnlyStore, outlook};

/// What was found.
#[derive(Debug, Default)]
pub struct Preflight {
    /// Why a broker with this configuration would not start.
    pub problems: Vec<ConfigError>,
    /// What stands in its way now, and does no longer when a broker that runs has stopped; and what is worth knowing.
    pub notes: Vec<ConfigError>,
}

/// Looks at what `config` names on this machine: files, folders, the store and the room for it, cores, addresses, and the kernel. Changes nothing, and takes
/// no client from a broker that runs.
pub fn preflight(config: &Config) -> Preflight {
    let mut found = Preflight::default();
    #[cfg(feature = "stock")]
    found.files(config);
    found.control(config);
    found.storage(config);
    found.cores(config);
    config.listeners.iter().for_each(|listener| found.address(&listener.name, listener.address));
    found.kernel(config);
    found
}

impl Preflight {
    fn problem(&mut self, key: impl Into<String>, problem: impl Into<String>) {
        self.problems.push(ConfigError::new(key, problem));
    }

    #[cfg(feature = "stock")]
    fn files(&mut self, config: &Config) {
        for (setting, error) in StockFiles::check(config) {
            self.problem(setting, error.to_string());
        }
    }

    fn control(&mut self, config: &Config) {
        let Some(path) = &config.control.socket else { return };
        let path = Path::new(path);
        if let Err(error) = ControlSocket::check(path) {
            match error.is_in_use() {
                true => self.notes.push(ConfigError::new("control.socket", error.to_string())),
                false => self.problem("control.socket", error.to_string()),
            }
        }
    }

    fn storage(&mut self, config: &Config) {
        let (Some(path), Ok(shards)) = (&config.storage.path, shards_of(config)) else { return };
        let Outlook { problems, notes } = outlook(Path::new(path), config.storage.journal_bytes(shards));
        // What else keeps it from being looked at is among these, and a broker that uses it among the notes.
        let store = ReadOnlyStore::open_if_any(Path::new(path)).ok().flatten().filter(|_| problems.is_empty());
        problems.into_iter().for_each(|problem| self.problem("storage.path", problem));
        if let Some(problem) = store.and_then(|store| archive_problem(&store, &config.storage.archive)) {
            self.problem("storage.path", problem.to_string());
        }
        self.notes.extend(notes.into_iter().map(|note| ConfigError::new("storage.path", note)));
    }

    fn cores(&mut self, config: &Config) {
        let (Some(cpus), Ok(allowed)) = (&config.cpus, allowed_cpus()) else { return };
        let missing: Vec<String> =
            cpus.cores().iter().filter(|core| !allowed.cores().contains(core)).map(usize::to_string).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            self.problem(
                "cpus",
                format!("names cores that this process may not use ({missing}): it may use {allowed}"),
            );
        }
    }

    fn address(&mut self, listener: &str, address: SocketAddr) {
        let key = format!("listeners.{listener}.address");
        let Err(error) = check_free(address) else { return };
        if error.kind() != io::ErrorKind::AddrInUse {
            return self.problem(key, format!("cannot listen on {address}: {error}{}", remedy(error.kind())));
        }
        match holder_of(address) {
            Some(Holder { name, pid, .. }) if is_this_program(pid) => self.notes.push(ConfigError::new(
                key,
                format!("{address} is in use by {name} (process {pid}), as long as that runs"),
            )),
            Some(Holder { name, pid, .. }) => {
                self.problem(key, format!("{address} is in use by {name} (process {pid}): stop it, or set another address"));
            }
            None => self.problem(
                key,
                format!("{address} is in use by a program of another user, which root may see: stop it, or set another address"),
            ),
        }
    }

    fn kernel(&mut self, config: &Config) {
        let size = super::layout::ring_size(config);
        if let Err(error) = probe(size).map_err(StartError::System) {
            self.problem("", error.to_string());
        }
    }
}

/// Whether process `pid` runs a program of the name of this one: a broker, most likely, that will make room for the new one.
fn is_this_program(pid: u32) -> bool {
    let name = |path: &str| fs::read_link(path).ok()?.file_name().map(ToOwned::to_owned);
    name("/proc/self/exe").is_some_and(|own| name(&format!("/proc/{pid}/exe")) == Some(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn found(text: &str) -> (Vec<String>, Vec<String>) {
        let config = Config::from_toml(text, "test").expect("it is valid");
        let Preflight { problems, notes } = preflight(&config);
        let text = |errors: Vec<ConfigError>| errors.iter().map(ToString::to_string).collect();
        (text(problems), text(notes))
    }

    #[test]
    fn nothing_is_found_where_nothing_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "control.socket = '{}'\nlisteners.default.address = '127.0.0.1:0'\n",
            folder.path().join("control").display()
        );
        assert_eq!(found(&text), (Vec::new(), Vec::new()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
    }

    #[test]
    fn everything_that_is_missing_is_said() {
        let (problems, notes) = found(
            "cpus = '8191'\ncontrol.socket = '/nowhere/control'\npassword_file.path = '/nowhere/users'\n\
             acl_file.path = '/nowhere/rules'\nlisteners.a.address = '192.0.2.1:1883'\nstorage.path = '/nowhere/store'\n",
        );
        let said = |key: &str, what: &str| {
            assert!(
                problems.iter().any(|one| one.starts_with(key) && one.contains(what)),
                "{key} {what}: {problems:?}"
            );
        };
        said("password_file.path: /nowhere/users:", "cannot be read");
        said("acl_file.path: /nowhere/rules:", "cannot be read");
        said("control.socket: ", "make the folder first");
        said("storage.path: storage /nowhere/store: cannot be made", "make that first");
        said("cpus: names cores that this process may not use (8191): it may use ", "");
        said("listeners.a.address: cannot listen on 192.0.2.1:1883: ", "This machine does not have the address");
        assert_eq!((problems.len(), notes.len()), (6, 0), "{problems:?}");
    }

    /// This test's own process holds the port, and has the name of this program.
    #[test]
    fn who_holds_a_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let (problems, notes) = found(&format!("listeners.a.address = '{address}'\n"));
        let who = format!("(process {})", std::process::id());
        assert!(problems.is_empty(), "{problems:?}");
        assert!(notes[0].contains(&format!("{address} is in use by ")) && notes[0].contains(&who), "{notes:?}");
    }
}
