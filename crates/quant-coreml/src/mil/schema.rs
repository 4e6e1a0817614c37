//! Numbers of fields and types in `model.mlmodel`.

/// `Model`.
pub(crate) mod model {
    pub const SPECIFICATION_VERSION: u32 = 1;
    pub const DESCRIPTION: u32 = 2;
    pub const PIPELINE_CLASSIFIER: u32 = 200;
    pub const PIPELINE_REGRESSOR: u32 = 201;
    pub const PIPELINE: u32 = 202;
    pub const ML_PROGRAM: u32 = 502;

    /// What people call the model in a field, if it is one of another kind.
    pub fn other_kind(number: u32) -> Option<&'static str> {
        Some(match number {
            300 | 400 => "a generalized linear model",
            301 | 401 => "a support vector machine",
            302 | 402 => "a tree ensemble",
            303 | 403 | 500 => "a neural network (neuralnetwork)",
            304 => "a Bayesian probit regressor",
            404 => "a nearest neighbors classifier",
            501 => "an item similarity recommender",
            555 => "a custom model",
            556 => "a linked model",
            600..=604 | 606 | 607 | 609 | 900 => "a model that prepares features",
            560 | 610 => "a model that selects results",
            2000 => "a text classifier",
            2001 => "a word tagger",
            2002 => "a vision feature print",
            2003 | 2006 => "a model of sounds",
            2004 => "a gazetteer",
            2005 => "a word embedding",
            3000 => "a serialized model",
            _ => return None,
        })
    }

    /// Whether a field holds a model, of whatever kind.
    pub fn is_kind(number: u32) -> bool {
        let programs = [
            ML_PROGRAM,
            PIPELINE,
            PIPELINE_CLASSIFIER,
            PIPELINE_REGRESSOR,
        ];
        programs.contains(&number) || other_kind(number).is_some()
    }
}

/// `Pipeline`, and `PipelineClassifier` and `PipelineRegressor` around it.
pub(crate) mod pipeline {
    pub const MODELS: u32 = 1;
    pub const NAMES: u32 = 2;
    pub const OF_CLASSIFIER: u32 = 1;
}

/// `Program`.
pub(crate) mod program {
    pub const FUNCTIONS: u32 = 2;
    pub const ATTRIBUTES: u32 = 4;
}

/// `Function`.
pub(crate) mod function {
    pub const INPUTS: u32 = 1;
    pub const OPSET: u32 = 2;
    pub const BLOCKS: u32 = 3;
    pub const ATTRIBUTES: u32 = 4;
}

/// `Block`.
pub(crate) mod block {
    pub const INPUTS: u32 = 1;
    pub const OUTPUTS: u32 = 2;
    pub const OPERATIONS: u32 = 3;
    pub const ATTRIBUTES: u32 = 4;
}

/// `Operation`.
pub(crate) mod operation {
    pub const TYPE: u32 = 1;
    pub const INPUTS: u32 = 2;
    pub const OUTPUTS: u32 = 3;
    pub const BLOCKS: u32 = 4;
    pub const ATTRIBUTES: u32 = 5;
}

/// An entry of any map.
pub(crate) mod map {
    pub const KEY: u32 = 1;
    pub const VALUE: u32 = 2;
}

/// `Argument` and `Binding`.
pub(crate) mod argument {
    pub const BINDINGS: u32 = 1;
    pub const NAME: u32 = 1;
    pub const VALUE: u32 = 2;
}

/// `NamedValueType`.
pub(crate) mod named {
    pub const NAME: u32 = 1;
    pub const TYPE: u32 = 2;
}

/// `Value` and what stands in it.
pub(crate) mod value {
    pub const TYPE: u32 = 2;
    pub const IMMEDIATE: u32 = 3;
    pub const BLOB: u32 = 5;
    pub const BLOB_FILE: u32 = 1;
    pub const BLOB_OFFSET: u32 = 2;
    /// Of an immediate value.
    pub const TENSOR: u32 = 1;
    pub const TUPLE: u32 = 2;
    pub const DICTIONARY: u32 = 4;
    /// Of a tuple, list or dictionary.
    pub const ITEMS: u32 = 1;
}

/// `TensorValue`: each wraps field 1.
pub(crate) mod tensor_value {
    pub const FLOATS: u32 = 1;
    pub const INTS: u32 = 2;
    pub const BOOLS: u32 = 3;
    pub const STRINGS: u32 = 4;
    pub const DOUBLES: u32 = 6;
    pub const BYTES: u32 = 7;
    pub const VALUES: u32 = 1;
}

/// `ValueType` and `TensorType`.
pub(crate) mod types {
    pub const TENSOR: u32 = 1;
    pub const STATE: u32 = 5;
    pub const WRAPPED: u32 = 1;
    pub const DATA_TYPE: u32 = 1;
    pub const RANK: u32 = 2;
    pub const DIMENSIONS: u32 = 3;
    pub const CONSTANT: u32 = 1;
    pub const SIZE: u32 = 1;
}

/// Element types: their numbers in `TensorType` and in `weight.bin`, their names and bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DataType(pub u64);

impl DataType {
    pub const STRING: Self = Self(2);
    pub const FLOAT16: Self = Self(10);
    pub const FLOAT32: Self = Self(11);
    pub const INT8: Self = Self(21);
    pub const INT16: Self = Self(22);
    pub const INT32: Self = Self(23);
    pub const INT4: Self = Self(25);
    pub const UINT8: Self = Self(31);
    pub const UINT16: Self = Self(32);
    pub const UINT32: Self = Self(33);
    pub const UINT4: Self = Self(35);

    /// Number, number in a weight file, bits, name.
    const KNOWN: [(u64, u32, usize, &'static str); 20] = [
        (1, 0, 8, "BOOL"),
        (2, 0, 0, "STRING"),
        (10, 1, 16, "FLOAT16"),
        (11, 2, 32, "FLOAT32"),
        (12, 0, 64, "FLOAT64"),
        (13, 5, 16, "BFLOAT16"),
        (21, 4, 8, "INT8"),
        (22, 6, 16, "INT16"),
        (23, 14, 32, "INT32"),
        (24, 0, 64, "INT64"),
        (25, 8, 4, "INT4"),
        (31, 3, 8, "UINT8"),
        (32, 7, 16, "UINT16"),
        (33, 15, 32, "UINT32"),
        (34, 0, 64, "UINT64"),
        (35, 11, 4, "UINT4"),
        (36, 10, 2, "UINT2"),
        (37, 9, 1, "UINT1"),
        (38, 13, 6, "UINT6"),
        (39, 12, 3, "UINT3"),
    ];

    fn known(self) -> Option<&'static (u64, u32, usize, &'static str)> {
        Self::KNOWN.iter().find(|(number, ..)| *number == self.0)
    }

    pub fn name(self) -> String {
        match self.known() {
            Some((.., name)) => (*name).into(),
            None => format!("type {}", self.0),
        }
    }

    /// Bits per element, and the type's number in a weight file, where it can stand there.
    pub fn stored(self) -> Option<(usize, u32)> {
        match self.known() {
            Some(&(_, blob, bits, _)) if blob != 0 => Some((bits, blob)),
            _ => None,
        }
    }
}
