//! Places for names in topic filters: what access rules fill in with what a client is called.

/// The levels that are places. No topic filter may have one of them as an ordinary level.
pub const PLACES: [&str; 3] = ["%u", "%c", "%m"];

/// What a client is called: what stands in the places, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Without one, what has the place is about nothing.
    pub of: [Option<&'a str>; PLACES.len()],
    /// Whether a name that begins with `$` may be the first level.
    pub dollar: bool,
}

impl<'a> Names<'a> {
    /// What stands in a place. A name with characters that mean more than themselves in a filter, or end a level, is none.
    pub(super) fn get(&self, place: usize, is_first: bool) -> Option<&'a str> {
        let name = self.of[place]?;
        (is_level(name) && (self.dollar || !is_first || !name.starts_with('$'))).then_some(name)
    }
}

/// Whether a name can stand for a level, and for nothing but itself.
pub fn is_level(name: &str) -> bool {
    !name.contains(['+', '#', '/', '\0'])
}

/// Which place a level is.
pub(super) fn place_of(level: &[u8]) -> Option<usize> {
    PLACES.iter().position(|place| place.as_bytes() == level)
}
