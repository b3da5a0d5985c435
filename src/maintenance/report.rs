//! How a store is, in numbers and findings: for operators, as text and as JSON.

use std::fmt::Write;
use std::fs;

use serde::Serialize;

use super::rows::{message_bytes, moment};
use super::view::{JournalView, MOST_BAD, StoreView};
use crate::journal::{FORMAT_VERSION, Finding, What};
use crate::records::WallTime;
use crate::storage::archive::DamagedPage;
use crate::storage::{ARCHIVE, JournalFile, ReadOnlyStore, STORE_VERSION};

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// Its directory.
    pub path: String,
    /// Its id.
    pub store: String,
    /// The versions of the format: of the file `store`, and of journals.
    pub format: [u32; 2],
    /// When it was made.
    pub made: String,
    /// How often a broker has opened it.
    pub boots: u32,
    /// The journals, by shard.
    pub journals: Vec<JournalReport>,
    /// The bytes of all segment files.
    pub bytes: u64,
    /// The archive, if there is one.
    pub archive: Option<ArchiveReport>,
    /// Sessions.
    pub sessions: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Messages that wait for a session, or are not acknowledged.
    pub messages: usize,
    /// Their topics, properties and payloads in bytes, each counted as often as it waits; of those in
    /// pages of the archive, what they take in memory.
    pub message_bytes: usize,
    /// Retained messages.
    pub retained: usize,
    /// Whether anything is damaged.
    pub is_damaged: bool,
    /// What was found, damage and what is none.
    pub notes: Vec<Note>,
}

/// The journal of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalReport {
    /// The shard.
    pub shard: u32,
    /// How many segment files it has.
    pub segments: usize,
    /// How many of them have something that counts.
    pub live: usize,
    /// The bytes of all of them.
    pub bytes: u64,
    /// How many records are in them.
    pub records: u64,
}

/// The archive of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArchiveReport {
    /// How many pages it has.
    pub pages: usize,
    /// How many messages of sessions wait in them.
    pub messages: usize,
    /// The bytes of its keys and values: what `storage.archive.max_size` limits.
    pub bytes: u64,
    /// What it takes of the disk, in bytes.
    pub bytes_on_disk: u64,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The file, in the directory of the store.
    pub file: Option<String>,
    /// The shard whose journal it is about.
    pub shard: Option<u32>,
    /// Whether something is damaged or lost.
    pub is_damage: bool,
    /// What it is.
    pub what: String,
    /// What that means, and what to do.
    pub meaning: &'static str,
}

impl StoreReport {
    /// How `store` is, of which `view` was read.
    pub fn new(store: &ReadOnlyStore, view: &StoreView) -> Self {
        let facts = store.facts();
        let journals: Vec<_> = view.journals.iter().map(JournalReport::of).collect();
        let counts = view.contents.counts();
        let mut notes = about_directory(store, view);
        view.journals.iter().for_each(|journal| about_journal(journal, &mut notes));
        StoreReport {
            path: store.path().display().to_string(),
            store: facts.id.to_string(),
            format: [STORE_VERSION, FORMAT_VERSION],
            made: moment(WallTime::from_millis(facts.made.saturating_mul(1000))),
            boots: facts.boots,
            bytes: journals.iter().map(|journal| journal.bytes).sum(),
            journals,
            archive: view.archive.as_ref().map(|archive| ArchiveReport {
                pages: archive.pages.len(),
                messages: view.contents.left().iter().map(|session| session.waiting_in_pages().0).sum(),
                bytes: archive.bytes,
                bytes_on_disk: archive.on_disk,
            }),
            sessions: counts.sessions,
            subscriptions: view.contents.left().iter().map(|session| session.subscriptions.len()).sum(),
            messages: counts.messages,
            message_bytes: view
                .contents
                .left()
                .iter()
                .map(|session| message_bytes(session) + session.waiting_in_pages().1)
                .sum(),
            retained: counts.retained,
            is_damaged: notes.iter().any(|note| note.is_damage),
            notes,
        }
    }

    /// It for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let [of_store, of_journal] = self.format;
        writeln!(out, "{}: store {}, made {}", self.path, self.store, self.made)?;
        writeln!(out, "format {of_store} of the file store, {of_journal} of journals; opened {}", times(self.boots))?;
        for journal in &self.journals {
            let JournalReport { shard, segments, live, bytes, records } = journal;
            writeln!(
                out,
                "journal of shard {shard}: {segments} segments ({live} with something in them), {bytes} bytes, {records} records"
            )?;
        }
        if let Some(ArchiveReport { pages, messages, bytes, bytes_on_disk }) = &self.archive {
            writeln!(out, "archive: {pages} pages with {messages} messages, {bytes} bytes, {bytes_on_disk} on disk")?;
        }
        let StoreReport { sessions, subscriptions, messages, message_bytes, retained, .. } = self;
        writeln!(out, "sessions: {sessions}, with {subscriptions} subscriptions")?;
        writeln!(out, "messages of sessions: {messages}, {message_bytes} bytes")?;
        writeln!(out, "retained messages: {retained}")?;
        self.notes.iter().try_for_each(|note| writeln!(out, "{}", note.text()))?;
        writeln!(out, "{}", if self.is_damaged { "DAMAGED: see above" } else { "no damage found" })
    }
}

impl JournalReport {
    fn of(journal: &JournalView) -> Self {
        JournalReport {
            shard: journal.shard,
            segments: journal.segments.len(),
            live: journal.live,
            bytes: journal.segments.iter().sum(),
            records: journal.records,
        }
    }
}

impl Note {
    fn new(is_damage: bool, what: impl Into<String>, meaning: &'static str) -> Self {
        Note { file: None, shard: None, is_damage, what: what.into(), meaning }
    }

    /// It for people: a line.
    pub fn text(&self) -> String {
        let kind = if self.is_damage { "damage" } else { "note" };
        let place = match (&self.file, self.shard) {
            (Some(file), _) => format!("{file}: "),
            (None, Some(shard)) => format!("journal of shard {shard}: "),
            (None, None) => String::new(),
        };
        match self.meaning {
            "" => format!("{kind}: {place}{}", self.what),
            meaning => format!("{kind}: {place}{}. {meaning}", self.what),
        }
    }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn about_directory(store: &ReadOnlyStore, view: &StoreView) -> Vec<Note> {
    let mut notes = Vec::new();
    if !store.is_whole() {
        let what = "one of the two copies in it cannot be read";
        let note = Note::new(true, what, "The other one is read, and the next start of the broker writes both anew");
        notes.push(Note { file: Some("store".to_owned()), ..note });
    }
    if !store.has_journal() {
        notes.push(Note::new(true, "there is no directory journal", "All that was in it is lost"));
    }
    if store.lacks_archive() {
        notes.push(Note::new(true, "there is no file archive.redb", "What waited in it is lost"));
    }
    about_archive(view, &mut notes);
    let listing = store.journal_files();
    for name in &listing.set_aside {
        let note = Note::new(
            false,
            "an earlier start set it aside, because it could not be read in full",
            "It is not read any more",
        );
        notes.push(Note { file: Some(format!("journal/{name}")), ..note });
    }
    for name in &listing.strange {
        let note = Note::new(false, "this is no file of a journal", "It is left alone");
        notes.push(Note { file: Some(format!("journal/{name}")), ..note });
    }
    if listing.further > 0 {
        notes.push(Note::new(false, format!("there are {} further files like these", listing.further), ""));
    }
    let remains = store.path().join(crate::storage::NEW_JOURNAL);
    if fs::symlink_metadata(&remains).is_ok() {
        let what = "this is what a compaction or an import left that did not end";
        let note =
            Note::new(false, what, "It does not count, and the next one, or the next start of the broker, removes it");
        notes.push(Note { file: Some(crate::storage::NEW_JOURNAL.to_owned()), ..note });
    }
    let passed_over = view.contents.counts().passed_over;
    if passed_over > 0 {
        let what = format!("{passed_over} records are about sessions that are not there");
        notes.push(Note::new(false, what, "That is so behind damage, and where records are read twice"));
    }
    notes
}

fn about_archive(view: &StoreView, notes: &mut Vec<Note>) {
    let Some(archive) = &view.archive else { return };
    let mut note = |is_damage, what: String, meaning| {
        notes.push(Note { file: Some(ARCHIVE.to_owned()), ..Note::new(is_damage, what, meaning) });
    };
    if archive.without_summary > 0 {
        let what = format!("{} pages have no summary", archive.without_summary);
        note(
            false,
            what,
            "They are never read, and deleted with their sessions: a broker ended while it wrote or deleted them",
        );
    }
    let mut tell = |what, meaning| note(true, what, meaning);
    let sessions = view.contents.left();
    for DamagedPage { pages_id, first, problem, summary } in archive.damaged.iter().take(MOST_BAD) {
        let owner = sessions.iter().find(|session| session.pages_id() == *pages_id);
        let page = owner.and_then(|owner| owner.pages.iter().find(|page| page.keys.first() == *first));
        let whose = match (owner, page) {
            (None, _) => "it belongs to no session".to_owned(),
            (Some(owner), Some(page)) => format!("{} messages for client {}", page.left(), owner.client.subscriber),
            (Some(owner), None) => format!("messages for client {}", owner.client.subscriber),
        };
        tell(
            format!("{problem}: {whose}"),
            match (owner, summary) {
                (None, _) => "The next start of the broker deletes it",
                (Some(_), Some(_)) => {
                    "The messages are whole: the next start of the broker writes anew what says which they are"
                }
                (Some(_), None) => "They are lost, but for those that are in a journal still",
            },
        );
    }
    archive.problems.iter().take(MOST_BAD).for_each(|problem| tell(problem.clone(), ""));
    let further = archive.damaged.len().saturating_sub(MOST_BAD);
    if further > 0 {
        tell(format!("there are {further} further pages like these"), "");
    }
}

fn about_journal(journal: &JournalView, notes: &mut Vec<Note>) {
    let shard = Some(journal.shard);
    if journal.segments.is_empty() {
        let note = Note::new(
            false,
            "it has no files",
            "A broker may have ended before it made one; what was in them is lost, if there were some",
        );
        notes.push(Note { shard, ..note });
    }
    for finding in &journal.findings {
        let (is_damage, meaning) = meaning(finding);
        let file = finding.file.map(|file| format!("journal/{}", JournalFile { shard: journal.shard, file }));
        notes.push(Note { file, shard, is_damage, what: finding.what.to_string(), meaning });
    }
    for bad in &journal.bad {
        let what = format!("in commit {}: {}", bad.commit, bad.error);
        let note = Note::new(
            true,
            what,
            "It is left out; the commit is as it was written: another version wrote it, or a broker with a fault",
        );
        notes.push(Note { shard, ..note });
    }
    if journal.further_bad > 0 {
        let note =
            Note::new(true, format!("there are {} further records that cannot be read", journal.further_bad), "");
        notes.push(Note { shard, ..note });
    }
}

/// Whether a finding is damage, and what it means.
fn meaning(finding: &Finding) -> (bool, &'static str) {
    const LOST: &str = "What was acknowledged in them is lost";
    match finding.what {
        What::TornTail { .. } => {
            (false, "This is no damage: a broker ended while it wrote that, and nothing in it was acknowledged")
        }
        What::Damaged { .. } | What::MissingFrames { .. } => (true, LOST),
        What::GivenUp { .. } => (true, "The earlier start has told that; what was acknowledged in them is lost"),
        What::MissingSegment { .. } => (true, "What was acknowledged in it is lost, if the file is not found again"),
        What::NoSegment | What::TooShort { .. } | What::Unreadable { .. } => {
            (true, "What was acknowledged there is lost, if it cannot be restored")
        }
        What::OtherVersion { .. } => (true, "The program that wrote it can read it"),
        What::NoRecord { .. } => (true, "Another version wrote that, or a broker with a fault"),
        What::HeaderLost { .. } => (true, "Nothing is lost by that"),
        What::TooLong { .. } => (false, "Nothing is lost by that"),
        What::OtherStore { .. } | What::OtherShard { .. } | What::SameGeneration { .. } => {
            (false, "Somebody has put it there")
        }
        What::Further { .. } => (finding.is_loss(), ""),
    }
}
