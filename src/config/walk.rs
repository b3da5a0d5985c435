//! One table per section, walked for every purpose.
//!
//! [`settings!`] declares a section once: field, text, default and kind. Whoever reads a file, checks a configuration
//! built in code or prints the defaults is a [`Walker`] that visits the same settings in the same order, so the three
//! cannot disagree about a name, a default or a limit.

use super::kind::Kind;

/// Visits settings. One that finds a fault takes note of it and goes on: all faults are to be told at once.
pub(super) trait Walker: Sized {
    /// One setting. `docs` are its lines of text.
    fn setting<K: Kind>(&mut self, name: &'static str, docs: &[&str], kind: &K, value: &mut K::Value);

    /// A group of settings: a table of the file.
    fn section<S: Section>(&mut self, name: &'static str, docs: &[&str], section: &mut S);

    /// All tables of the present section that are not its settings: the key of each is the name of a member.
    fn members<M: Member>(&mut self, members: &mut Vec<M>);
}

/// A group of settings.
pub(super) trait Section {
    /// Whether members are all it has, so that only their tables are ever written.
    const MEMBERS_ONLY: bool = false;

    /// Shows every setting to the walker, settings of its own before sections and members, as TOML wants them.
    fn walk<W: Walker>(&mut self, walker: &mut W);
}

/// A section of which there may be several, each with a name.
pub(super) trait Member: Section + Sized {
    /// The only names there are; empty if any will do.
    const NAMES: &[&str];

    /// The member called `name`, everything else at its default.
    fn named(name: &str) -> Self;

    /// What it is called.
    fn name(&self) -> &str;
}

/// Declares a section: the struct, its `Default`, and its walk.
///
/// A setting is `pub name: Type = default, kind;`. The last line of its text repeats kind and default for the reader; a
/// test holds it to them. Behind the settings there may be a `name { .. }` (the section is a [`Member`] and this is its
/// key), `sections { .. }` and `members { .. }`.
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        pub struct $Struct:ident {
            $($(#[doc = $doc:literal])* pub $setting:ident: $Value:ty = $default:expr, $kind:expr;)*
        }
        $(name { $(#[doc = $name_doc:literal])* pub $name:ident = $name_default:literal; })?
        $(sections { $($(#[doc = $section_doc:literal])* pub $section:ident: $Section:ty = $section_default:expr;)* })?
        $(members { $(#[doc = $members_doc:literal])* pub $members:ident: $Members:ty; })?
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $Struct {
            $($(#[doc = $name_doc])* pub $name: String,)?
            $($(#[doc = $doc])* pub $setting: $Value,)*
            $($($(#[doc = $section_doc])* pub $section: $Section,)*)?
            $($(#[doc = $members_doc])* pub $members: $Members,)?
        }

        impl Default for $Struct {
            fn default() -> Self {
                $Struct {
                    $($name: $name_default.to_owned(),)?
                    $($setting: $default,)*
                    $($($section: $section_default,)*)?
                    $($members: <$Members>::new(),)?
                }
            }
        }

        impl $crate::config::walk::Section for $Struct {
            fn walk<W: $crate::config::walk::Walker>(&mut self, walker: &mut W) {
                $(walker.setting(stringify!($setting), &[$($doc),*], &$kind, &mut self.$setting);)*
                $($(walker.section(stringify!($section), &[$($section_doc),*], &mut self.$section);)*)?
                $(walker.members(&mut self.$members);)?
            }
        }
    };
}
pub(super) use settings;
