//! The store of the broker under test: its settings, and what it takes.

use std::path::Path;

use clap::Args;

/// Settings of the store, instead of the broker's defaults.
#[derive(Args, Clone, Debug, Default)]
pub struct StoreSettings {
    /// Files of the journal of each shard, instead of the broker's default
    #[arg(long, value_parser = clap::value_parser!(u32).range(3..=4096))]
    pub segments: Option<u32>,
    /// The length of each of them, as `storage.segment_size`, instead of the broker's default
    #[arg(long, value_name = "SIZE")]
    pub segment_size: Option<String>,
    /// How much waits in memory before queues are moved to the archive, as `storage.archive.gather`, instead of the broker's default
    #[arg(long, value_name = "SIZE")]
    pub gather: Option<String>,
}

impl StoreSettings {
    /// The section of the configuration for a store at `path`.
    pub fn section(&self, path: &Path) -> String {
        let segments = self.segments.map(|segments| format!("segments = {segments}\n")).unwrap_or_default();
        let size = self.segment_size.as_ref().map(|size| format!("segment_size = \"{size}\"\n")).unwrap_or_default();
        let gather = self.gather.as_ref().map(|size| format!("archive.gather = \"{size}\"\n")).unwrap_or_default();
        format!("[storage]\npath = \"{}\"\n{segments}{size}{gather}", path.display())
    }

    /// What a report says of the journals.
    pub fn journals(&self) -> String {
        format!(
            "{} files of {}",
            self.segments.map_or("the default number of".to_owned(), |segments| segments.to_string()),
            self.segment_size.as_deref().unwrap_or("the default size"),
        )
    }
}

/// What the files below a folder take, in bytes.
pub fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(of) if of.is_dir() => size_of(&entry.path()),
        Ok(of) => of.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
