//! What fuzz targets of the store share: choices that are made by the fuzzer's bytes, files of journals in memory that are damaged as these say, and a place
//! for real files.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process;

pub mod choices;
pub mod files;

/// A directory for the files of this process: in memory, since the fuzzer writes thousands a minute. `tests/fuzz/run` removes it.
pub fn directory() -> PathBuf {
    let parent = env::var_os("MOORMQ_FUZZ_FILES").map_or_else(|| "/dev/shm/moormq-fuzz".into(), PathBuf::from);
    let directory = parent.join(process::id().to_string());
    fs::create_dir_all(&directory).expect("it can be made");
    directory
}
