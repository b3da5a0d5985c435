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

pub(super) use {modifiers, refusal_codes};
