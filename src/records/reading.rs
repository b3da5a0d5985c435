//! Reading the journals of all shards of a store.

use super::image::Image;
use super::record::{BadRecord, Record};
use crate::journal::{self, ReadAt, Reader};

impl Image {
    /// Takes in what these journals have, which are those of shards 0, 1 and so on; boot by boot, since what a later boot has written counts, whichever
    /// shard it was. What was written before the boot `first` does not count. Records that cannot be read are told, by shard, and left out.
    pub fn read<F: ReadAt>(
        &mut self,
        journals: &mut [&mut Reader<F>],
        first: u32,
        mut is_bad: impl FnMut(usize, BadRecord),
    ) {
        self.read_telling(journals, first, |shard, _, error| {
            if let Some(error) = error {
                is_bad(shard, error);
            }
        });
    }

    /// Likewise; and tells each record, by shard, as it is in the journal, with the reason if it cannot be read.
    pub fn read_telling<F: ReadAt>(
        &mut self,
        journals: &mut [&mut Reader<F>],
        first: u32,
        mut each: impl FnMut(usize, &journal::Record<'_>, Option<BadRecord>),
    ) {
        while let Some(boot) = journals.iter_mut().filter_map(|journal| journal.opened()).min() {
            for (shard, journal) in journals.iter_mut().enumerate() {
                self.read_journal(shard as u32);
                while journal.opened() == Some(boot)
                    && let Some(record) = journal.next()
                {
                    let decoded = Record::decode(record.kind, record.body);
                    each(shard, &record, decoded.as_ref().err().copied());
                    if let Some(decoded) = decoded.ok().filter(|_| boot >= first.into()) {
                        self.apply(&decoded);
                    }
                }
            }
        }
    }
}
