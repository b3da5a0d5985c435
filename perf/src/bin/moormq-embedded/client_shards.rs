//! A link that writes the shard of each client into a file.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use moormq::hooks::{Hook, Notice};

/// Writes a line `SHARD CLIENT-ID` for each client that connects. Has nothing to do with messages.
#[derive(Clone)]
pub struct ClientShards {
    file: Arc<File>,
}

impl ClientShards {
    /// Writes to this file, which is emptied first.
    pub fn to(file: &Path) -> io::Result<Self> {
        Ok(ClientShards { file: Arc::new(File::create(file)?) })
    }
}

impl Hook for ClientShards {
    type State = ();

    // The only hook that is called on the shard where the client stays, once for each connection.
    fn on_client_wakeup(&mut self, cx: &mut Notice<'_, ()>, _session_present: bool) {
        let shard = thread::current();
        let line = format!("{} {}\n", shard.name().unwrap_or("?"), cx.client().subscriber.client_id);
        // One write, so that lines of two shards do not mix. A line that is missing is noticed by whoever reads the file.
        let _ = (&*self.file).write_all(line.as_bytes());
    }
}
