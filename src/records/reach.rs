//! From which key to which a session has messages in pages.

/// What a session has beside it of its pages, so that most of what is read of it is not looked up there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub lowest: u64,
    pub highest: u64,
    /// There is a page for every key in between.
    pub is_dense: bool,
}

impl Reach {
    /// Whether a key is in between.
    pub fn has(self, key: u64) -> bool {
        (self.lowest..=self.highest).contains(&key)
    }
}
