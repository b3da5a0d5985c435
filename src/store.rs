//! `moormq store`: what can be done with a store on disk while no broker uses it.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write, stdout};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use moormq::broker::shards_of;
use moormq::config::Config;
use moormq::maintenance::{
    Compacted, DumpError, DumpForm, Imported, MqttSource, Note, Rewritten, StoreReport, StoreView, Terms, compact,
    dump, import_mosquitto, import_retained,
};
use moormq::storage::{ARCHIVE, ReadOnlyStore};
use moormq::topic::TopicFilter;

/// The exit code if there is no such client in the store.
const NO_SUCH_CLIENT: u8 = 3;
/// The exit code if something in the store is damaged.
const DAMAGED: u8 = 4;

/// The arguments of `moormq store`.
#[derive(Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Say whose store it is, how large it is, what is in it in numbers, and what is wrong with it
    Stat {
        #[command(flatten)]
        place: Place,
        /// Print one object of JSON
        #[arg(long)]
        json: bool,
    },
    /// Read everything, and tell each damage with its file and place. The exit code is 4 if anything is damaged. The last commit of a broker that
    /// was killed may be torn: that is no damage
    Verify {
        #[command(flatten)]
        place: Place,
        /// Print an object of JSON for each finding
        #[arg(long)]
        json: bool,
    },
    /// Take sessions, messages that wait for them, and retained messages from Mosquitto's persistence file (mosquitto.db); stop Mosquitto first. Or
    /// take the retained messages of any broker that runs (mqtt://HOST). Says how many of each were taken, and how many were left out and why
    Import(ImportArgs),
    /// Write what counts of it anew and remove the rest, so that a start reads less. Whenever that ends, by a kill too, the store has all that it had
    Compact {
        #[command(flatten)]
        place: Place,
        /// Go on though something is damaged: what can be read is written anew, and the old journals are kept as journal.before
        #[arg(long)]
        despite_damage: bool,
    },
    /// Print everything in it: sessions with their terms, subscriptions and messages, and retained messages
    Dump {
        #[command(flatten)]
        place: Place,
        /// Print only the sessions of this client id. The exit code is 3 if there are none
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        /// Print an object of JSON on each line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct ImportArgs {
    /// The file to import from: mosquitto.db, of any version from 3 to 6. Or mqtt://HOST[:PORT], a broker that runs: its retained messages
    #[arg(value_name = "FILE|URL")]
    from: PathBuf,
    /// The directory of the store, which is made if it is not there
    #[arg(required_unless_present = "config")]
    path: Option<PathBuf>,
    /// The configuration file of the broker: its storage.path, unless a directory is given; its shards, segments, and limits of sessions
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many shards the broker will have, instead of what the configuration says, or one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: Option<u16>,
    /// The mountpoint that clients and topics get
    #[arg(long, value_name = "MOUNTPOINT", default_value = "")]
    mountpoint: String,
    /// Add to what is in the store already. Clients and topics that it has stay as they are
    #[arg(long)]
    merge: bool,
    /// Of a broker that runs: which topics; may be given several times
    #[arg(long, value_name = "FILTER", default_value = "#")]
    filter: Vec<String>,
    /// The user name for that broker
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// A file whose first line is the password for that broker
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The client id for that broker
    #[arg(long, value_name = "ID", default_value = "moormq-import")]
    client_id: String,
    /// That is all, when that broker has sent nothing that is retained for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = quiet)]
    quiet: f64,
}

fn quiet(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds from 0.1 to 3600".to_owned())
}

impl ImportArgs {
    /// The broker to import from, if it is one.
    fn source(&self) -> Result<Option<MqttSource>, String> {
        let Some((scheme, address)) = self.from.to_str().and_then(|from| from.split_once("://")) else {
            return Ok(None);
        };
        if scheme != "mqtt" {
            return Err(format!("{scheme}:// is not known: mqtt://HOST[:PORT] is, without TLS"));
        }
        let address = address.trim_end_matches('/');
        if address.contains(['@', '/']) {
            return Err(
                "mqtt://HOST[:PORT] has no user and no path: see --username, --password-file and --filter".to_owned()
            );
        }
        if let Some((filter, error)) =
            self.filter.iter().find_map(|filter| Some((filter, TopicFilter::parse(filter, usize::MAX).err()?)))
        {
            return Err(format!("{filter} is no topic filter: {error}"));
        }
        let password = match &self.password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
                Some(text.lines().next().unwrap_or_default().as_bytes().to_vec())
            }
            None => None,
        };
        Ok(Some(MqttSource {
            address: address.to_owned(),
            filters: self.filter.clone(),
            username: self.username.clone(),
            password,
            client_id: self.client_id.clone(),
            quiet: Duration::from_secs_f64(self.quiet),
        }))
    }
}

/// Which store.
#[derive(Args)]
struct Place {
    /// The directory of the store
    #[arg(required_unless_present = "config", conflicts_with = "config")]
    path: Option<PathBuf>,
    /// The configuration file of the broker, whose storage.path names it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    fn path(&self) -> Result<PathBuf, String> {
        match (&self.path, &self.config) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(file)) => path_of(file),
            (None, None) => Err("say which store: its directory, or --config FILE".to_owned()),
        }
    }

    fn open(&self) -> Result<ReadOnlyStore, String> {
        ReadOnlyStore::open(&self.path()?).map_err(|error| error.to_string())
    }
}

fn path_of(file: &Path) -> Result<PathBuf, String> {
    let config = Config::load(file).map_err(|errors| errors.to_string())?;
    let missing = || format!("{} sets no storage.path: its broker keeps nothing on disk", file.display());
    config.storage.path.map(PathBuf::from).ok_or_else(missing)
}

/// Carries out a command. The exit code.
pub fn run(args: StoreArgs) -> Result<u8, String> {
    match args.what {
        What::Stat { place, json } => stat(&place, json),
        What::Verify { place, json } => verify(&place, json),
        What::Import(args) => import(&args),
        What::Compact { place, despite_damage } => compact_one(&place, despite_damage),
        What::Dump { place, client, json } => dump_all(&place, client.as_deref(), json),
    }
}

/// How a store is; with `reads_pages`, whether all pages of its archive can be read, too.
fn report(place: &Place, reads_pages: bool) -> Result<StoreReport, String> {
    let store = place.open()?;
    let mut view = StoreView::read(&store).map_err(|error| error.to_string())?;
    if let Some(archive) = view.archive.as_mut().filter(|_| reads_pages) {
        archive.check(view.clock).map_err(|error| error.to_string())?;
    }
    Ok(StoreReport::new(&store, &view))
}

fn stat(place: &Place, json: bool) -> Result<u8, String> {
    let report = report(place, false)?;
    let text = if json { line(&report)? } else { report.text() };
    print(&text)
}

fn verify(place: &Place, json: bool) -> Result<u8, String> {
    let report = report(place, true)?;
    let text = match json {
        true => report.notes.iter().map(line).collect::<Result<String, String>>()?,
        false => {
            let notes: String = report.notes.iter().map(|note| note.text() + "\n").collect();
            notes + &verdict(&report)
        }
    };
    let code = if report.is_damaged { DAMAGED } else { 0 };
    print(&text).map(|failed| if failed == 0 { code } else { failed })
}

fn verdict(report: &StoreReport) -> String {
    let records: u64 = report.journals.iter().map(|journal| journal.records).sum();
    let is_damage = |note: &&Note| note.is_damage;
    let damages = report.notes.iter().filter(is_damage).count();
    let result = match damages {
        0 => "no damage".to_owned(),
        count => format!("DAMAGED in {count} places"),
    };
    format!("{}: {records} records in {} bytes read: {result}\n", report.path, report.bytes)
}

fn dump_all(place: &Place, client: Option<&str>, json: bool) -> Result<u8, String> {
    let store = place.open()?;
    let view = StoreView::read(&store).map_err(|error| error.to_string())?;
    StoreReport::new(&store, &view).notes.iter().filter(|note| note.is_damage).for_each(|note| {
        crate::logging::say(&format!("moormq: {}", note.text()));
    });
    let form = if json { DumpForm::Json } else { DumpForm::Text };
    let mut out = BufWriter::with_capacity(64 << 10, stdout().lock());
    let lost = &mut |problem: &str| crate::logging::say(&format!("moormq: damage: {ARCHIVE}: {problem}"));
    match dump(store.facts(), view, client, form, &mut out, lost) {
        Ok(0) if client.is_some() => Ok(NO_SUCH_CLIENT),
        Ok(_) => Ok(0),
        Err(DumpError::Closed) => Ok(1),
        Err(error) => Err(error.to_string()),
    }
}

fn compact_one(place: &Place, despite_damage: bool) -> Result<u8, String> {
    let path = place.path()?;
    let compacted = compact(&path, despite_damage, now()).map_err(|error| error.to_string())?;
    let Compacted { rewritten: Rewritten { counts, most_segments }, records_before, bytes_before } = compacted;
    print(&format!(
        "{}: {} sessions, {} messages, {} retained messages kept; {} records instead of {records_before}; the largest journal has {most_segments} \
         segments. Before, all had {bytes_before} bytes\n",
        path.display(),
        counts.sessions,
        counts.messages,
        counts.retained,
        counts.records
    ))
}

fn import(args: &ImportArgs) -> Result<u8, String> {
    let mut config = match &args.config {
        Some(file) => Config::load(file).map_err(|errors| errors.to_string())?,
        None => Config::default(),
    };
    config.shards = args.shards.map(usize::from).or(config.shards);
    let path = match (&args.path, &args.config) {
        (None, Some(file)) => path_of(file)?,
        (path, _) => path.clone().unwrap_or_default(),
    };
    let shards = shards_of(&config).map_err(|error| error.to_string())? as u32;
    let terms = Terms { mountpoint: &args.mountpoint, config: &config, shards, merges: args.merge };
    let imported = match args.source()? {
        Some(source) => import_retained(&source, &path, terms, now()),
        None => import_mosquitto(&args.from, &path, terms, now()),
    };
    let imported = imported.map_err(|error| error.to_string())?;
    let most = config.storage.max_segments.get().map(|most| most.max(config.storage.segments as usize));
    print(&told(&imported, &path, most))
}

/// What was imported, for people.
fn told(imported: &Imported, path: &Path, most: Option<usize>) -> String {
    let Imported { taken, left_out, rewritten: Rewritten { counts, most_segments } } = imported;
    let lines = |counts: &BTreeMap<&str, u64>, what: &str| -> String {
        counts.iter().map(|(of, count)| format!("{what}: {count} {of}\n")).collect()
    };
    let mut text = lines(taken, "taken") + &lines(left_out, "left out");
    text += &format!(
        "{}: {} sessions, {} messages, {} retained messages are in the store now\n",
        path.display(),
        counts.sessions,
        counts.messages,
        counts.retained
    );
    let needed = 2 * most_segments + 1;
    if most.is_some_and(|most| needed > most) {
        text += &format!(
            "note: one journal has {most_segments} segments of that, and a broker needs more than twice as many: set storage.max_segments = {needed}, or more\n"
        );
    }
    text
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn line(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string(value).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// Writes to standard output. If nobody reads that any more, the exit code says so.
fn print(text: &str) -> Result<u8, String> {
    Ok(u8::from(stdout().write_all(text.as_bytes()).is_err()))
}
