//! Choices by name: each choice has one list, from which names, numbers and tests are made.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A choice among a few values that have names: an integer type, a mode, a dialect.
///
/// ```
/// use quant_core::{Dialect, IntType, Named};
///
/// assert_eq!(IntType::from_name("uint4"), Some(IntType::Uint4));
/// assert_eq!(Dialect::from_name("wide"), Some(Dialect::F32));
/// assert_eq!(Dialect::F32.to_string(), "f32");
/// ```
pub trait Named: Copy + Eq + 'static {
    /// What is chosen, in an error: "integer type".
    const CHOICE: &'static str;
    /// Every value.
    const ALL: &'static [Self];
    /// Further names that [`from_name`](Self::from_name) accepts.
    const ALIASES: &'static [(&'static str, Self)];
    /// The lower-case name.
    fn name(self) -> &'static str;
    /// The value of that name or alias.
    fn from_name(name: &str) -> Option<Self> {
        let named = Self::ALL.iter().find(|value| value.name() == name);
        let alias = || Self::ALIASES.iter().find(|(alias, _)| *alias == name);
        named.or_else(|| alias().map(|(_, value)| value)).copied()
    }
}

/// A name that a choice does not have.
///
/// ```
/// let error = "bool".parse::<quant_core::Mode>().unwrap_err();
/// assert_eq!(error.to_string(), "unknown mode `bool`: expected symmetric or affine");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    choice: &'static str,
    given: String,
    names: Vec<&'static str>,
}

impl UnknownName {
    /// `given` is no name of a `T`.
    pub fn new<T: Named>(given: &str) -> Self {
        /// More than any name has; an error must stay a line.
        const SHOWN: usize = 40;
        let mut shown: String = given.escape_debug().take(SHOWN).collect();
        if given.escape_debug().nth(SHOWN).is_some() {
            shown.push_str("...");
        }
        Self {
            choice: T::CHOICE,
            given: shown,
            names: T::ALL.iter().map(|value| value.name()).collect(),
        }
    }

    /// The names that the choice has.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown {} `{}`: expected ", self.choice, self.given)?;
        for (i, name) in self.names.iter().enumerate() {
            let before = match i {
                0 => "",
                _ if i + 1 == self.names.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}{name}")?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownName {}

/// Implements [`Named`], `Display` and `FromStr` of an enumeration, from the one list of its names.
/// A variant that the list lacks does not compile.
#[doc(hidden)]
#[macro_export]
macro_rules! named {
    (
        $type:ident, $choice:literal:
        $($variant:ident $name:literal $(or $alias:literal)*),+ $(,)?
    ) => {
        impl $type {
            /// Every value.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The lower-case name:
            #[doc = concat!($("`", $name, "` ",)+)]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl $crate::Named for $type {
            const CHOICE: &'static str = $choice;
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            const ALIASES: &'static [(&'static str, Self)] =
                &[$($(($alias, Self::$variant),)*)+];
            fn name(self) -> &'static str {
                self.name()
            }
        }

        impl ::core::fmt::Display for $type {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.pad(self.name())
            }
        }

        impl ::core::str::FromStr for $type {
            type Err = $crate::UnknownName;
            fn from_str(name: &str) -> ::core::result::Result<Self, $crate::UnknownName> {
                <Self as $crate::Named>::from_name(name)
                    .ok_or_else(|| $crate::UnknownName::new::<Self>(name))
            }
        }
    };
}

/// Stores choices by their names.
macro_rules! stored_by_name {
    ($($type:ty)*) => {
        $(
            #[cfg(feature = "serde")]
            impl serde::Serialize for $type {
                fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    to.serialize_str(self.name())
                }
            }

            #[cfg(feature = "serde")]
            impl<'de> serde::Deserialize<'de> for $type {
                fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    let name = alloc::borrow::Cow::<'de, str>::deserialize(from)?;
                    name.parse().map_err(serde::de::Error::custom)
                }
            }
        )*
    };
}
pub(crate) use stored_by_name;
