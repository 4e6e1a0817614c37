//! The words that options take, and what they mean.

use clap::ValueEnum;
use quant_core::IntType;
use quant_models::ComputeUnit;

#[derive(Clone, Copy, ValueEnum)]
pub enum Dtype {
    Int8,
    Uint8,
    Int4,
    Uint4,
    Int2,
    Uint2,
}

impl From<Dtype> for IntType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Int8 => Self::Int8,
            Dtype::Uint8 => Self::Uint8,
            Dtype::Int4 => Self::Int4,
            Dtype::Uint4 => Self::Uint4,
            Dtype::Int2 => Self::Int2,
            Dtype::Uint2 => Self::Uint2,
        }
    }
}

/// The types that activations can have.
#[derive(Clone, Copy, ValueEnum)]
pub enum ByteType {
    Int8,
    Uint8,
}

impl From<ByteType> for IntType {
    fn from(dtype: ByteType) -> Self {
        match dtype {
            ByteType::Int8 => Self::Int8,
            ByteType::Uint8 => Self::Uint8,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Mode {
    #[value(alias = "linear_symmetric")]
    Symmetric,
    #[value(alias = "linear")]
    Affine,
}

impl From<Mode> for quant_core::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Symmetric => Self::Symmetric,
            Mode::Affine => Self::Affine,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
#[expect(clippy::enum_variant_names, reason = "the field's names")]
pub enum Granularity {
    #[value(alias = "per_tensor")]
    PerTensor,
    #[value(alias = "per_channel")]
    PerChannel,
    #[value(alias = "per_block")]
    PerBlock,
}

/// How stacked experts lie.
#[derive(Clone, Copy, ValueEnum)]
pub enum ExpertAxes {
    /// [experts, output, input], as most models
    OutputInput,
    /// [experts, input, output], as gpt-oss and Llama 4
    InputOutput,
}

impl From<ExpertAxes> for quant_models::ExpertAxes {
    fn from(axes: ExpertAxes) -> Self {
        match axes {
            ExpertAxes::OutputInput => Self::OutputInput,
            ExpertAxes::InputOutput => Self::InputOutput,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Dialect {
    Coremltools,
    /// The steps of coremltools, all in f32, with f32 scales
    #[value(alias = "wide")]
    F32,
    /// As coreai-opt's pass on Core AI programs
    Coreai,
    /// As coreai-opt's fake quantization in torch
    CoreaiTorch,
}

impl From<Dialect> for quant_core::Dialect {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Coremltools => Self::Coremltools,
            Dialect::F32 => Self::F32,
            Dialect::Coreai => Self::Coreai,
            Dialect::CoreaiTorch => Self::CoreaiTorch,
        }
    }
}

/// How scales are chosen.
#[derive(Clone, Copy, ValueEnum)]
pub enum Search {
    /// By the smallest and the largest value, as the dialect says
    None,
    /// The one of 16 scales that loses the least, fitted to its codes by least squares: these scales
    /// clip the largest values more and more
    Mse,
}

impl From<Search> for quant_core::Search {
    fn from(search: Search) -> Self {
        match search {
            Search::None => Self::None,
            Search::Mse => Self::Mse,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum NonFinite {
    Error,
    Skip,
}

impl From<NonFinite> for quant_models::NonFinite {
    fn from(non_finite: NonFinite) -> Self {
        match non_finite {
            NonFinite::Error => Self::Error,
            NonFinite::Skip => Self::Skip,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Target {
    /// The Apple Neural Engine
    Ane,
    Gpu,
    Cpu,
}

impl From<Target> for ComputeUnit {
    fn from(target: Target) -> Self {
        match target {
            Target::Ane => Self::NeuralEngine,
            Target::Gpu => Self::Gpu,
            Target::Cpu => Self::Cpu,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use clap::ValueEnum;
    use quant_core::{IntType, Named};
    use quant_models::ComputeUnit;

    use super::{ByteType, Dialect, Dtype, ExpertAxes, Mode, NonFinite, Search, Target};

    /// An option takes each value of a choice by each of its names, but for those that it is not to
    /// offer: a new one fails here until the option has it, or it is listed.
    fn offers<T: Named + Debug, Choice: ValueEnum + Into<T>>(but: &[T]) {
        let names = T::ALL.iter().map(|&value| (value.name(), value));
        for (name, value) in names.chain(T::ALIASES.iter().copied()) {
            let taken = Choice::from_str(name, false).ok().map(Into::into);
            let expected = (!but.contains(&value)).then_some(value);
            assert_eq!(taken, expected, "{} {name}", T::CHOICE);
        }
    }

    #[test]
    fn options_offer_what_there_is() {
        use quant_core::Dialect as Known;
        offers::<quant_core::Mode, Mode>(&[]);
        offers::<quant_core::Search, Search>(&[]);
        // Formats with arithmetic of their own choose it by --format, and activations have a rule.
        offers::<Known, Dialect>(&[
            Known::Torch,
            Known::CoremltoolsActivations,
            Known::Mlx,
            Known::CompressedTensors,
        ]);
        // Formats that pack codes of other sizes take --bits.
        offers::<IntType, Dtype>(&[
            IntType::Int3,
            IntType::Uint3,
            IntType::Int5,
            IntType::Uint5,
            IntType::Int6,
            IntType::Uint6,
        ]);
        let other_sizes = IntType::ALL.into_iter().filter(|dtype| dtype.bits() != 8);
        offers::<IntType, ByteType>(&other_sizes.collect::<Vec<_>>());
    }

    /// Choices without names of their own: a new value does not compile until an option has it.
    #[test]
    fn options_stand_for_what_they_say() {
        let non_finite = |value| match value {
            quant_models::NonFinite::Error => NonFinite::Error,
            quant_models::NonFinite::Skip => NonFinite::Skip,
        };
        let unit = |value| match value {
            ComputeUnit::NeuralEngine => Target::Ane,
            ComputeUnit::Gpu => Target::Gpu,
            ComputeUnit::Cpu => Target::Cpu,
        };
        let axes = |value| match value {
            quant_models::ExpertAxes::OutputInput => ExpertAxes::OutputInput,
            quant_models::ExpertAxes::InputOutput => ExpertAxes::InputOutput,
        };
        for value in NonFinite::value_variants() {
            let back = non_finite((*value).into());
            assert_eq!(back.to_possible_value(), value.to_possible_value());
        }
        for value in Target::value_variants() {
            assert_eq!(
                unit((*value).into()).to_possible_value(),
                value.to_possible_value()
            );
        }
        for value in ExpertAxes::value_variants() {
            let back = axes((*value).into());
            assert_eq!(back.to_possible_value(), value.to_possible_value());
        }
    }
}
