//! The words that options take: the names that the library has, those of them that an option is to
//! offer, and what each means.

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use quant_core::{Dialect, IntType, Named, Search, UnknownName};
use quant_models::{ComputeUnit, ExpertAxes};

/// The names and aliases of those values of a choice that have a help text, which may be empty.
pub fn offered<T: Named + Send + Sync>(
    help: impl Fn(T) -> Option<&'static str>,
) -> impl TypedValueParser<Value = T> {
    let names = T::ALL.iter().filter_map(|&value| {
        let aliases = T::ALIASES.iter().filter(|(_, other)| *other == value);
        let name = PossibleValue::new(value.name()).aliases(aliases.map(|(alias, _)| *alias));
        match help(value)? {
            "" => Some(name),
            help => Some(name.help(help)),
        }
    });
    PossibleValuesParser::new(names)
        .try_map(|name| T::from_name(&name).ok_or_else(|| UnknownName::new::<T>(&name)))
}

/// All names and aliases of a choice.
pub fn named<T: Named + Send + Sync>() -> impl TypedValueParser<Value = T> {
    offered::<T>(|_| Some(""))
}

/// The types of codes. Formats that pack codes of other sizes take --bits.
pub fn code_type() -> impl TypedValueParser<Value = IntType> {
    offered(|dtype: IntType| matches!(dtype.bits(), 8 | 4 | 2).then_some(""))
}

/// The types that activations can have.
pub fn byte_type() -> impl TypedValueParser<Value = IntType> {
    offered(|dtype: IntType| (dtype.bits() == 8).then_some(""))
}

/// The dialects that are chosen by name.
pub fn dialect() -> impl TypedValueParser<Value = Dialect> {
    offered(|dialect| match dialect {
        Dialect::Coremltools => Some(""),
        Dialect::F32 => Some("The steps of coremltools, all in f32, with f32 scales"),
        Dialect::Coreai => Some("As coreai-opt's pass on Core AI programs"),
        Dialect::CoreaiTorch => Some("As coreai-opt's fake quantization in torch"),
        // Activations have a rule.
        Dialect::Torch | Dialect::CoremltoolsActivations => None,
        // Formats with arithmetic of their own choose it by --format.
        Dialect::Mlx | Dialect::CompressedTensors => None,
    })
}

/// How scales are chosen.
pub fn search() -> impl TypedValueParser<Value = Search> {
    offered(|search| match search {
        Search::None => Some("By the smallest and the largest value, as the dialect says"),
        Search::Mse => Some(
            "The one of 16 scales that loses the least, fitted to its codes by least squares: these \
             scales clip the largest values more and more",
        ),
    })
}

/// How stacked experts lie.
pub fn expert_axes() -> impl TypedValueParser<Value = ExpertAxes> {
    offered(|axes| match axes {
        ExpertAxes::OutputInput => Some("[experts, output, input], as most models"),
        ExpertAxes::InputOutput => Some("[experts, input, output], as gpt-oss and Llama 4"),
    })
}

/// What a model is to run on.
pub fn compute_unit() -> impl TypedValueParser<Value = ComputeUnit> {
    offered(|unit| match unit {
        ComputeUnit::NeuralEngine => Some("The Apple Neural Engine"),
        ComputeUnit::Gpu | ComputeUnit::Cpu => Some(""),
    })
}

/// Which elements share a scale; how large the blocks are and where, other options say.
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

#[cfg(test)]
mod tests {
    use clap::builder::TypedValueParser;
    use clap::error::ErrorKind;
    use clap::{Arg, Command};
    use quant_core::{Dialect, IntType, Mode};

    use super::{byte_type, dialect, named};

    fn parsed<T: Clone + Send + Sync + 'static>(
        parser: impl TypedValueParser<Value = T>,
        word: &str,
    ) -> Result<T, clap::Error> {
        let command =
            Command::new("quant").arg(Arg::new("choice").long("choice").value_parser(parser));
        let found = command.try_get_matches_from(["quant", "--choice", word])?;
        Ok(found.get_one::<T>("choice").unwrap().clone())
    }

    #[test]
    fn names_and_aliases_of_what_is_offered_are_taken() {
        for (word, expected) in [
            ("symmetric", Mode::Symmetric),
            ("linear_symmetric", Mode::Symmetric),
            ("affine", Mode::Affine),
            ("linear", Mode::Affine),
        ] {
            assert_eq!(parsed(named::<Mode>(), word).unwrap(), expected);
        }
        assert_eq!(parsed(dialect(), "wide").unwrap(), Dialect::F32);
        assert_eq!(parsed(byte_type(), "uint8").unwrap(), IntType::Uint8);
    }

    #[test]
    fn what_is_not_offered_is_refused_with_what_is() {
        for (error, offered, like) in [
            (parsed(dialect(), "mlx").unwrap_err(), "coreai-torch", None),
            (
                parsed(dialect(), "corai").unwrap_err(),
                "coremltools",
                Some("coreai"),
            ),
            (
                parsed(byte_type(), "int4").unwrap_err(),
                "uint8",
                Some("int8"),
            ),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidValue);
            let text = error.to_string();
            let values = text
                .lines()
                .find(|line| line.contains("[possible values: "));
            assert!(values.unwrap().contains(offered), "{text}");
            assert!(!values.unwrap().contains("mlx"), "{text}");
            if let Some(like) = like {
                assert!(
                    text.contains("tip: ") && text.contains(&format!("'{like}'")),
                    "{text}"
                );
            }
        }
    }
}
