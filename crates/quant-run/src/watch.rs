//! Who looks at the values of a run.

use crate::{Error, Tensor, WeightInput};

/// Sees every value that an operation computes, before it is given up.
pub trait Watch {
    /// A value, the operation that has computed it, and that operation's kind and name.
    ///
    /// # Errors
    /// Ends the run.
    fn value(
        &mut self,
        kind: &str,
        operation: &str,
        name: &str,
        value: &Tensor,
    ) -> Result<(), Error>;

    /// Whether [`weight_input`](Self::weight_input) is to be called.
    fn wants_weight_inputs(&self) -> bool {
        false
    }

    /// The input of an operation whose weight is a constant, before it is computed.
    ///
    /// # Errors
    /// Ends the run, with what is wrong.
    fn weight_input(&mut self, _input: WeightInput<'_>) -> Result<(), String> {
        Ok(())
    }

    /// Asked before each operation; `false` ends the run with [`Error::Interrupted`].
    fn go_on(&mut self) -> bool {
        true
    }
}

/// Looks at nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Watch for Quiet {
    fn value(&mut self, _: &str, _: &str, _: &str, _: &Tensor) -> Result<(), Error> {
        Ok(())
    }
}

/// Finds the first values that are not finite.
///
/// ```
/// use quant_run::{NonFinite, Tensor, Watch};
///
/// let mut found = NonFinite::default();
/// let value = Tensor::from_floats(&[2], vec![1.0, f32::NAN])?;
/// found.value("log", "log_3", "x_7", &value)?;
/// assert!(found.nan.unwrap().contains("log_3"));
/// # Ok::<(), quant_run::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NonFinite {
    /// Where the first NaN came from, in words.
    pub nan: Option<String>,
    /// Where the first infinity came from, in words.
    pub infinity: Option<String>,
}

impl Watch for NonFinite {
    fn value(
        &mut self,
        kind: &str,
        operation: &str,
        name: &str,
        value: &Tensor,
    ) -> Result<(), Error> {
        let Some(floats) = value.floats() else {
            return Ok(());
        };
        // Zero, unless something is not finite.
        let traces: f32 = floats.iter().map(|value| value * 0.0).sum();
        if traces == 0.0 {
            return Ok(());
        }
        let place = |what: &str, index: usize| {
            format!("operation `{operation}` ({kind}) gives {what} at element {index} of `{name}`")
        };
        if let (None, Some(i)) = (&self.nan, floats.iter().position(|value| value.is_nan())) {
            self.nan = Some(place("NaN", i));
        }
        let infinite = floats.iter().position(|value| value.is_infinite());
        if let (None, Some(i)) = (&self.infinity, infinite) {
            self.infinity = Some(place("an infinity", i));
        }
        Ok(())
    }
}
