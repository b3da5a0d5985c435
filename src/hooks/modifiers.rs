//! How modifiers are declared: every field optional and public, with a setter of the same name, the default changing
//! nothing. Strings and binary data that go into a packet are cut at the 65,535 bytes that MQTT allows.

/// Declares a struct whose fields are all `Option`s, each with a builder-style setter of the same name. A last line
/// `..user_properties` adds a list of MQTT 5 user properties.
macro_rules! modifiers {
    (
        $(#[$about:meta])*
        pub struct $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* $(.. $user_properties:ident)? }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            $($(#[$doc])* pub $field: Option<$type>,)*
            $(
                /// User properties to send along, in order.
                pub $user_properties: Vec<(String, String)>,
            )?
        }

        impl $name {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $field(mut self, $field: impl Into<$type>) -> Self {
                    self.$field = Some($field.into());
                    self
                }
            )*
            $(modifiers! { @user_property $user_properties })?
        }
    };
    (@user_property $user_properties:ident) => {
        /// Sends this user property along, after those already named.
        #[must_use]
        pub fn user_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.$user_properties.push((name.into(), value.into()));
            self
        }
    };
}

/// Declares modifiers for a hook that is asked for every message, and seldom changes one: a pointer, null if nothing is
/// changed. The v3 form and the m5 form point to the same fields, so that one becomes the other for nothing; each has
/// setters only for the fields of its version, and reads them all.
macro_rules! boxed_modifiers {
    (
        $(#[$about_changes:meta])* pub struct $Changes:ident;
        $(#[$about_v3:meta])* pub struct $V3:ident;
        $(#[$about_m5:meta])* pub struct $M5:ident;
        both { $($(#[$doc:meta])* $field:ident: $type:ty,)* }
        m5 { $($(#[$doc_m5:meta])* $field_m5:ident: $type_m5:ty,)* }
    ) => {
        $(#[$about_changes])*
        #[derive(Clone, Debug, Default)]
        pub struct $Changes {
            $($(#[$doc])* pub $field: Option<$type>,)*
            $($(#[$doc_m5])* pub $field_m5: Option<$type_m5>,)*
        }

        impl $Changes {
            const NONE: &'static $Changes = &$Changes { $($field: None,)* $($field_m5: None,)* };
        }

        boxed_modifiers! {
            @form $(#[$about_v3])* $V3: $Changes { $($(#[$doc])* $field: $type,)* }
        }
        boxed_modifiers! {
            @form $(#[$about_m5])* $M5: $Changes {
                $($(#[$doc])* $field: $type,)*
                $($(#[$doc_m5])* $field_m5: $type_m5,)*
            }
        }

        impl From<$V3> for $M5 {
            #[inline]
            fn from(v3: $V3) -> Self {
                $M5(v3.0)
            }
        }
    };
    (@form $(#[$about:meta])* $name:ident: $Changes:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[doc = concat!("\n\nReads like the [`", stringify!($Changes), "`] it is made of.")]
        #[derive(Clone, Debug, Default)]
        pub struct $name(Option<Box<$Changes>>);

        impl $name {
            /// Whether nothing is changed.
            #[inline]
            pub fn is_unchanged(&self) -> bool {
                self.0.is_none()
            }

            $(
                $(#[$doc])*
                #[must_use]
                pub fn $field(mut self, $field: impl Into<$type>) -> Self {
                    self.0.get_or_insert_default().$field = Some($field.into());
                    self
                }
            )*
        }

        impl std::ops::Deref for $name {
            type Target = $Changes;

            #[inline]
            fn deref(&self) -> &$Changes {
                self.0.as_deref().unwrap_or($Changes::NONE)
            }
        }
    };
}

/// Declares the reason codes one kind of refusal may carry, so that no other one compiles.
macro_rules! refusal_codes {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $code:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* $code,)*
        }

        impl $name {
            /// Every code.
            pub const ALL: &'static [$name] = &[$($name::$code,)*];
        }

        impl From<$name> for ReasonCode {
            fn from(code: $name) -> ReasonCode {
                match code {
                    $($name::$code => ReasonCode::$code,)*
                }
            }
        }
    };
}

pub(super) use {boxed_modifiers, modifiers, refusal_codes};
