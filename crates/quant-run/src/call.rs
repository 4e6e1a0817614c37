//! One call of an operation: its arguments, its declared results, and what it may take.

use std::sync::OnceLock;

use quant_models::program::{ElementType, Variable};

use crate::engine::{Engine, Packed};
use crate::memory::Budget;
use crate::tensor::{Tensor, Values, count};

/// What an operation computes: its results in order, or what is wrong.
pub(crate) type Kernel = fn(&mut Call<'_>) -> Result<Vec<Tensor>, String>;

/// The arguments of an operation that is to be computed.
pub(crate) struct Call<'a> {
    pub arguments: Vec<(&'a str, Vec<Tensor>)>,
    pub outputs: &'a [Variable],
    pub engine: &'a Engine,
    pub budget: &'a Budget,
    /// Where its weight may be kept packed; once it is, the argument has no elements.
    pub packed: Option<&'a OnceLock<Packed>>,
}

impl Call<'_> {
    /// All that is bound to an input.
    pub fn list(&self, name: &str) -> &[Tensor] {
        let found = self.arguments.iter().find(|(key, _)| *key == name);
        found.map_or(&[], |(_, values)| values)
    }

    pub fn optional(&self, name: &str) -> Option<&Tensor> {
        self.list(name).first()
    }

    pub fn tensor(&self, name: &str) -> Result<&Tensor, String> {
        self.optional(name)
            .ok_or_else(|| format!("its input `{name}` is missing"))
    }

    /// Gives an argument away, so that it may be changed in place.
    pub fn take(&mut self, name: &str) -> Result<Tensor, String> {
        let found = self.arguments.iter_mut().find(|(key, _)| *key == name);
        let first = found.filter(|(_, values)| !values.is_empty());
        match first {
            Some((_, values)) => Ok(values.swap_remove(0)),
            None => Err(format!("its input `{name}` is missing")),
        }
    }

    pub fn floats(&self, name: &str) -> Result<&[f32], String> {
        let tensor = self.tensor(name)?;
        tensor
            .floats()
            .ok_or_else(|| format!("its input `{name}` is {}, not a float", tensor.element()))
    }

    pub fn optional_floats(&self, name: &str) -> Result<Option<&[f32]>, String> {
        match self.optional(name) {
            Some(_) => self.floats(name).map(Some),
            None => Ok(None),
        }
    }

    pub fn int(&self, name: &str, default: i32) -> Result<i32, String> {
        match self.optional(name) {
            Some(tensor) => one(&tensor.to_ints()?, name),
            None => Ok(default),
        }
    }

    pub fn float(&self, name: &str, default: f32) -> Result<f32, String> {
        match self.optional(name) {
            Some(tensor) => one(&tensor.to_floats()?, name),
            None => Ok(default),
        }
    }

    pub fn bool(&self, name: &str, default: bool) -> Result<bool, String> {
        Ok(self.int(name, default.into())? != 0)
    }

    /// A text; MIL compares some of them without regard to case, so give it as it is.
    pub fn text(&self, name: &str, default: &str) -> Result<String, String> {
        let Some(tensor) = self.optional(name) else {
            return Ok(default.into());
        };
        match tensor.texts() {
            Some([text]) => Ok(text.clone()),
            _ => Err(format!("its input `{name}` is not one text")),
        }
    }

    pub fn ints(&self, name: &str) -> Result<Option<Vec<i32>>, String> {
        self.optional(name).map(Tensor::to_ints).transpose()
    }

    /// Numbers that cannot be negative, such as strides.
    pub fn sizes(&self, name: &str, default: Vec<usize>) -> Result<Vec<usize>, String> {
        let Some(values) = self.ints(name)? else {
            return Ok(default);
        };
        if values.len() != default.len() {
            let (have, want) = (values.len(), default.len());
            return Err(format!("its input `{name}` has {have} values, not {want}"));
        }
        sizes(&values, name)
    }

    /// The number of elements of a result, if there is room for it.
    pub fn room(&self, shape: &[usize]) -> Result<usize, String> {
        let elements = count(shape).ok_or_else(|| format!("a result of shape {shape:?}"))?;
        self.budget.check(elements.saturating_mul(4))?;
        Ok(elements)
    }

    /// The declared type of the first result.
    pub fn element(&self) -> Option<ElementType> {
        let tensor = self.outputs.first()?.tensor.as_ref()?;
        Some(tensor.element)
    }
}

fn one<T: Copy>(values: &[T], name: &str) -> Result<T, String> {
    match values {
        [value] => Ok(*value),
        _ => Err(format!("its input `{name}` is not one value")),
    }
}

/// Integers as sizes.
pub(crate) fn sizes(values: &[i32], name: &str) -> Result<Vec<usize>, String> {
    let convert = |&value: &i32| usize::try_from(value);
    let converted: Result<Vec<_>, _> = values.iter().map(convert).collect();
    converted.map_err(|_| format!("its input `{name}` is {values:?}, with a negative value"))
}

/// Integers that a type of so many bits can hold.
pub(crate) fn wrap(value: i32, element: ElementType) -> i32 {
    match element {
        ElementType::Int(8) => i32::from(value as i8),
        ElementType::Uint(8) => i32::from(value as u8),
        ElementType::Int(16) => i32::from(value as i16),
        ElementType::Uint(16) => i32::from(value as u16),
        _ => value,
    }
}

/// One result.
pub(crate) fn result(shape: Vec<usize>, values: impl Into<Values>) -> Result<Vec<Tensor>, String> {
    Ok(vec![Tensor::new(shape, values)])
}
