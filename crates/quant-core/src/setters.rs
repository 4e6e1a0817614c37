//! Options that are set one after the other, so that more of them can come.

/// Chained setters of a structure's fields, within its `impl`.
#[doc(hidden)]
#[macro_export]
macro_rules! setters {
    ($($setter:ident $field:ident: $type:ty),+ $(,)?) => {
        $(
            #[doc = concat!(
                "The same with another [`", stringify!($field), "`](field@Self::", stringify!($field), ")."
            )]
            #[must_use]
            pub fn $setter(mut self, $field: $type) -> Self {
                self.$field = $field.into();
                self
            }
        )+
    };
}
