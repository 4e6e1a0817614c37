//! Codes that were found elsewhere: by GPTQ, for instance, which knows what goes into a layer.

use std::collections::BTreeMap;

/// Codes of tensors, by name. Scales and zero points are those that the options give: the codes were
/// made for them.
///
/// ```
/// let mut codes = quant_model::GivenCodes::new("gptq");
/// codes.insert("fc.weight".into(), vec![0x21, 0x43]);
/// assert_eq!(codes.of("fc.weight"), Some(&[0x21, 0x43][..]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenCodes {
    method: String,
    codes: BTreeMap<String, Vec<u8>>,
}

impl GivenCodes {
    /// None yet; reports name the method.
    pub fn new(method: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            codes: BTreeMap::new(),
        }
    }

    /// What found them.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Adds those of a tensor, row-major, packed as [`TensorQuantizer`](quant_simd::TensorQuantizer) packs them.
    pub fn insert(&mut self, tensor: String, codes: Vec<u8>) {
        self.codes.insert(tensor, codes);
    }

    /// Those of a tensor.
    pub fn of(&self, tensor: &str) -> Option<&[u8]> {
        self.codes.get(tensor).map(Vec::as_slice)
    }

    /// How many tensors have codes.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether no tensor has any.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }
}
