//! Options that are set one after the other, so that more of them can come.

/// Chained setters of a structure's fields, within its `impl`: of all fields but those named after
/// `but`, which a constructor sets. One that is neither does not compile.
#[doc(hidden)]
#[macro_export]
macro_rules! setters {
    ($($setter:ident $field:ident: $type:ty),+ $(,)? $(; but $($given:ident),+)?) => {
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

        /// Names every field.
        #[allow(dead_code)]
        fn has_setters(&self) {
            let Self { $($field: _,)+ $($($given: _,)+)? } = self;
        }
    };
}
