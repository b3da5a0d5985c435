//! What links keep with a session, as it is stored: one piece after the other, each with the name of its link, the version of its form, and its bytes.

/// How many bytes a link may store of what it keeps with one session. Of more nothing is stored.
pub const MOST_STATE_BYTES: usize = 16 << 10;

/// What links keep with a session, while it is written.
#[derive(Debug, Default)]
pub struct StateWriter {
    bytes: Vec<u8>,
    /// How many links had more than they may store, or panicked.
    pub left_out: u32,
}

/// Name and bytes have their lengths before them.
const OF_LENGTH: usize = 2;
const OF_VERSION: usize = 4;

impl StateWriter {
    /// A link of this name writes what it keeps; false if it could not.
    pub(super) fn add(&mut self, name: &str, version: u32, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let front = self.bytes.len();
        self.put_length(name.len());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend(version.to_le_bytes());
        let mut state = Vec::new();
        if name.len() <= usize::from(u16::MAX) && write(&mut state) && state.len() <= MOST_STATE_BYTES {
            self.put_length(state.len());
            self.bytes.append(&mut state);
        } else {
            self.bytes.truncate(front);
            self.left_out += 1;
        }
    }

    fn put_length(&mut self, length: usize) {
        self.bytes.extend((length as u16).to_le_bytes());
    }

    /// All of it.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// What links kept with a session, as it was stored.
#[derive(Debug)]
pub struct StoredStates<'a> {
    pieces: Vec<(&'a [u8], u32, &'a [u8])>,
    /// How many links have what they kept.
    pub restored: u32,
    /// How many do not, and store what they keep: they begin anew.
    pub anew: u32,
}

impl<'a> StoredStates<'a> {
    /// They, as a [`StateWriter`] has written them. What is behind something else is left out.
    pub fn read(mut bytes: &'a [u8]) -> Self {
        let mut pieces = Vec::new();
        while let Some(piece) = next(&mut bytes) {
            pieces.push(piece);
        }
        StoredStates { pieces, restored: 0, anew: 0 }
    }

    /// What the next link of this name has stored, and the version of its form.
    pub(super) fn take(&mut self, name: &str) -> Option<(u32, &'a [u8])> {
        let at = self.pieces.iter().position(|(of, ..)| *of == name.as_bytes())?;
        let (_, version, bytes) = self.pieces.remove(at);
        Some((version, bytes))
    }

    /// A link has what it kept, or begins anew.
    pub(super) fn count(&mut self, is_restored: bool) {
        self.restored += u32::from(is_restored);
        self.anew += u32::from(!is_restored);
    }
}

fn next<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], u32, &'a [u8])> {
    let name = with_length(bytes)?;
    let (version, rest) = bytes.split_first_chunk::<OF_VERSION>()?;
    *bytes = rest;
    Some((name, u32::from_le_bytes(*version), with_length(bytes)?))
}

fn with_length<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<OF_LENGTH>()?;
    let (part, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::{Chain, Hook, NoHooks};

    /// Keeps a text, in the form of this version.
    struct Keeper(&'static str, u32);

    impl Hook for Keeper {
        type State = String;

        fn name(&self) -> &'static str {
            self.0
        }

        fn state_version(&self) -> Option<u32> {
            Some(self.1)
        }

        fn store_state(&self, state: &String, out: &mut Vec<u8>) {
            assert_ne!(state, "panics");
            out.extend_from_slice(state.as_bytes());
        }

        fn restore_state(&self, version: u32, bytes: &[u8]) -> Option<String> {
            (version == self.1).then(|| String::from_utf8(bytes.to_vec()).expect("it was written so"))
        }
    }

    /// Keeps something, and stores nothing.
    struct Forgetful;

    impl Hook for Forgetful {
        type State = u32;
    }

    fn stored<C: Chain>(chain: &C, state: &C::State) -> (Vec<u8>, u32) {
        let mut writer = StateWriter::default();
        chain.store_state(state, &mut writer);
        let left_out = writer.left_out;
        (writer.into_bytes(), left_out)
    }

    #[test]
    fn each_link_has_its_own_again() {
        let chain = NoHooks.hook(Keeper("a", 1)).hook(Forgetful).hook(Keeper("b", 1)).hook(Keeper("a", 1));
        let text = |text: &str| text.to_owned();
        let (bytes, left_out) = stored(&chain, &(((((), text("one")), 7), text("two")), text("three")));
        assert!(chain.stores_state() && left_out == 0);
        let mut state = Default::default();
        let mut states = StoredStates::read(&bytes);
        chain.restore_state(&mut states, &mut state);
        assert_eq!(state, (((((), text("one")), 0), text("two")), text("three")));
        assert_eq!((states.restored, states.anew), (3, 0));
        // Another chain: what it does not know is left out, and who finds nothing, or another form, begins anew.
        let other = NoHooks.hook(Keeper("b", 2)).hook(Keeper("a", 1)).hook(Keeper("new", 1));
        let mut state = Default::default();
        let mut states = StoredStates::read(&bytes);
        other.restore_state(&mut states, &mut state);
        assert_eq!(state, ((((), text("")), text("one")), text("")));
        assert_eq!((states.restored, states.anew), (1, 2));
        assert!(!NoHooks.hook(Forgetful).stores_state() && stored(&NoHooks.hook(Forgetful), &((), 1)).0.is_empty());
    }

    #[test]
    fn what_is_too_large_or_panics_is_left_out() {
        let chain = NoHooks.hook(Keeper("a", 1)).hook(Keeper("b", 1)).hook(Keeper("c", 1));
        let (largest, larger) = ("x".repeat(MOST_STATE_BYTES), "x".repeat(MOST_STATE_BYTES + 1));
        let (bytes, left_out) = stored(&chain, &((((), largest.clone()), larger), "panics".to_owned()));
        assert_eq!(left_out, 2);
        let mut state = Default::default();
        let mut states = StoredStates::read(&bytes);
        chain.restore_state(&mut states, &mut state);
        assert!(state == ((((), largest), String::new()), String::new()));
        assert_eq!((states.restored, states.anew), (1, 2));
    }

    #[test]
    fn whatever_is_stored_reading_ends() {
        let chain = NoHooks.hook(Keeper("a", 1));
        let (bytes, _) = stored(&chain, &((), "text".to_owned()));
        for length in 0..bytes.len() {
            assert!(StoredStates::read(&bytes[..length]).take("a").is_none());
        }
        assert_eq!(StoredStates::read(&bytes).take("a"), Some((1, &b"text"[..])));
    }
}
