//! What the loops are loops of, how many elements they work on, and what they may cost.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::loops::Instruction;

/// f32 lanes of a vector.
const LANES: usize = 4;
/// Blocks that `QuantizeBlocks` takes at a time.
const BATCH: usize = 32;
/// The block size that kernels are looked at with, also those that take any.
const BLOCK: usize = 32;
/// Divisions of a vector of blocks' parameters, where there are no zero points.
const SYMMETRIC_DIVISIONS: usize = 2;
/// The same where there are.
const AFFINE_DIVISIONS: usize = 3;

/// Cycles per 16 elements to reach.
pub struct Target {
    pub name: &'static str,
    /// What kernels to look at: [`Origin::kernel`] matches it.
    kernel: &'static str,
    /// The loops that follow one another.
    phases: &'static [&'static str],
    cycles: f64,
}

/// The loop that quantizes a batch of blocks finds the bounds of a later one, too.
const BLOCKS: &[&str] = &["FastTile::group"];

pub const TARGETS: [Target; 6] = [
    Target {
        name: "A. f32 -> int8, scale given",
        kernel: r"^Quantize<f32, Uniform.*, Exact, Bytes>$",
        phases: &["FastTile::group"],
        cycles: 6.6,
    },
    Target {
        name: "B. int8 -> f32",
        kernel: r"^Dequantize<f32, Uniform.*, Bytes>$",
        phases: &["dequantize"],
        cycles: 4.7,
    },
    Target {
        name: "C. f32 -> int8, blocks of 32",
        kernel: r"^QuantizeBlocks<f32, Exact, Bytes, Block32>$",
        phases: BLOCKS,
        cycles: 8.5,
    },
    Target {
        name: "D. f32 -> int4, blocks of 32",
        kernel: r"^QuantizeBlocks<f32, Exact, Packed, Block32>$",
        phases: BLOCKS,
        cycles: 9.3,
    },
    Target {
        name: "E. int4 -> f32, blocks of 32",
        kernel: r"^Dequantize<f32, PerBlock<Block32.*>, Packed>$",
        phases: &["dequantize"],
        cycles: 5.5,
    },
    Target {
        name: "F. range of f32",
        kernel: r"^FindRange<f32>$",
        phases: &["bound"],
        cycles: 3.1,
    },
];

/// The kernel, with its types, and the function in it that an instruction was inlined from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub kernel: String,
    pub phase: String,
}

static KERNEL: LazyLock<Regex> = LazyLock::new(|| regex("^<(.*) as .*::Kernel>::run::<.*::Neon>$"));
static PATH: LazyLock<Regex> = LazyLock::new(|| regex(r"(?:\w+::)+"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this file")
}

impl Origin {
    /// From the names of inlined functions, the innermost first; `None` outside of NEON kernels.
    pub fn of(frames: &[String]) -> Option<Self> {
        let kernel = frames.iter().find_map(|frame| KERNEL.captures(frame))?;
        let ours = |frame: &&String| {
            frame.contains("quant_simd::kernels::") && !frame.contains("::kernels::Form>")
        };
        let phase = frames
            .iter()
            .filter(ours)
            .find_map(|frame| function(frame))?;
        Some(Self {
            kernel: PATH.replace_all(&kernel[1], "").into_owned(),
            phase,
        })
    }

    fn float_size(&self) -> usize {
        match self.kernel.contains("<f32") {
            true => 4,
            false => 2,
        }
    }
}

/// The short name of a function of the kernels: `bound`, or `FastTile::run` for a type's own; a
/// trait's without the type.
fn function(frame: &str) -> Option<String> {
    let path = without_arguments(frame.trim_start_matches('<'));
    let path = path.trim_end_matches("::");
    let (owner, name) = path.rsplit_once("::")?;
    let owner = owner.trim_end_matches('>');
    if !owner.contains("quant_simd::kernels::") && !frame.contains(" as ") {
        return None;
    }
    let owner = owner.rsplit("::").next()?;
    match owner.starts_with(char::is_uppercase) && !frame.contains(" as quant_simd::") {
        true => Some(format!("{owner}::{name}")),
        false => Some(name.to_owned()),
    }
}

/// A path without what is between `<` and `>`; a `>` too many is left.
fn without_arguments(path: &str) -> String {
    let mut depth = 0;
    let mut rest = String::new();
    for c in path.chars() {
        match c {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            c if depth == 0 => rest.push(c),
            _ => {}
        }
    }
    rest
}

/// What the loops within a loop belong to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Around {
    /// There are none.
    Nothing,
    /// All of them to the same phase.
    OnePhase,
    /// To several.
    Phases,
}

/// A loop, or a loop's part.
pub struct Row {
    /// Which loop.
    piece: usize,
    pub kernel: String,
    pub phase: String,
    around: Around,
    /// Elements per iteration, where they can be told.
    elements: Option<f64>,
    instructions: usize,
    divisions: usize,
    cycles: f64,
}

impl Row {
    pub fn new(
        piece: usize,
        origin: &Origin,
        instructions: &[&Instruction],
        around: Around,
        cycles: f64,
    ) -> Self {
        Self {
            piece,
            kernel: origin.kernel.clone(),
            phase: origin.phase.clone(),
            around,
            elements: elements(origin, instructions, around),
            instructions: instructions.len(),
            divisions: divisions(instructions),
            cycles,
        }
    }

    fn per_16(&self) -> Option<f64> {
        self.elements.map(|elements| 16.0 * self.cycles / elements)
    }

    /// A line of the table.
    pub fn line(&self, width: usize) -> String {
        let around = match self.around {
            Around::Nothing => "",
            Around::OnePhase => ", around",
            Around::Phases => ", around all",
        };
        let shown = |value: Option<f64>, digits| match value {
            Some(value) => format!("{value:.digits$}"),
            None => "-".to_owned(),
        };
        format!(
            "{:<width$} {:<36} {:>8} {:>7} {:>7}",
            self.kernel,
            format!("{}{around}", self.phase),
            shown(self.elements, 0),
            self.instructions,
            shown(self.per_16(), 2),
        )
    }
}

/// The cheapest loop of each phase, which is the one for whole vectors, of those whose elements can
/// be told.
pub fn cheapest(rows: Vec<Row>) -> Vec<Row> {
    let mut cheapest = BTreeMap::new();
    for row in rows {
        let Some(cycles) = row.per_16() else { continue };
        let place = (row.kernel.clone(), row.phase.clone(), row.around);
        match cheapest.get(&place).and_then(Row::per_16) {
            Some(known) if known <= cycles => {}
            _ => drop(cheapest.insert(place, row)),
        }
    }
    cheapest.into_values().collect()
}

fn divisions(instructions: &[&Instruction]) -> usize {
    let divisions = instructions.iter().filter(|it| it.mnemonic == "fdiv");
    divisions.count()
}

/// Elements per iteration: of the stream that only values, or only codes, flow through.
fn elements(origin: &Origin, instructions: &[&Instruction], around: Around) -> Option<f64> {
    match around {
        Around::Nothing => {}
        Around::OnePhase if origin.kernel.starts_with("QuantizeBlocks") => {
            return Some((LANES * BLOCK) as f64);
        }
        Around::Phases if origin.kernel.starts_with("QuantizeBlocks") => {
            return Some((BATCH * BLOCK) as f64);
        }
        _ => return None,
    }
    let traffic = instructions.iter().map(|it| it.traffic());
    let (loaded, stored) = traffic.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    let float = origin.float_size() as f64;
    let code = if origin.kernel.contains("Packed") {
        0.5
    } else {
        1.0
    };
    let kernel = origin.kernel.split('<').next().unwrap_or_default();
    let elements = match (kernel, &*origin.phase) {
        (_, "params") => {
            let divisions = divisions(instructions);
            let vectors = match divisions % SYMMETRIC_DIVISIONS {
                0 => divisions / SYMMETRIC_DIVISIONS,
                _ => divisions / AFFINE_DIVISIONS,
            };
            (vectors * LANES * BLOCK) as f64
        }
        ("QuantizeBlocks", _) => {
            // Bounds of a later batch may be found in the same loop, which stores them, too.
            let rounded = instructions.iter().filter(|it| it.mnemonic == "fcvtns");
            match rounded.count() {
                0 => loaded as f64 / float,
                vectors => (vectors * LANES) as f64,
            }
        }
        ("FindRange", _) => loaded as f64 / float,
        ("Quantize" | "QuantizeSlow", _) => stored as f64 / code,
        ("Dequantize", _) => stored as f64 / float,
        _ => 0.0,
    };
    (elements > 0.0).then_some(elements)
}

impl Target {
    /// The sum of the phases, each by its cheapest loop, in words; `None` if there is nothing to sum.
    pub fn line(&self, rows: &[Row]) -> Option<String> {
        let pattern = regex(self.kernel);
        let rows: Vec<_> = rows
            .iter()
            .filter(|it| pattern.is_match(&it.kernel))
            .collect();
        let mut parts = Vec::new();
        for phase in self.phases {
            let of_phase = rows
                .iter()
                .filter(|it| it.phase == *phase && it.around == Around::Nothing);
            let cheapest = of_phase.filter_map(|it| it.per_16()).min_by(f64::total_cmp);
            parts.extend(cheapest.map(|cycles| (*phase, cycles)));
        }
        parts.extend(batch(&rows).map(|cycles| ("once per batch", cycles)));
        let sum: f64 = parts.iter().map(|(_, cycles)| cycles).sum();
        let texts: Vec<String> = parts.iter().map(|(it, c)| format!("{it} {c:.2}")).collect();
        let reached = match (parts.is_empty(), sum <= self.cycles) {
            (true, _) => "nothing found",
            (_, true) => "reached",
            (_, false) => "missed",
        };
        let line = format!(
            "{:<30} {sum:>6.2}  target {:>4.1}, {reached}  ({})",
            self.name,
            self.cycles,
            texts.join(" + ")
        );
        (!parts.is_empty()).then_some(line)
    }
}

/// What a loop over batches does besides its inner loops: of those that divide, so find parameters, the
/// cheapest, which is that of symmetric blocks.
fn batch(rows: &[&Row]) -> Option<f64> {
    let mut pieces = BTreeMap::<usize, (f64, usize)>::new();
    for row in rows.iter().filter(|it| it.around == Around::Phases) {
        let (cycles, divisions) = pieces.entry(row.piece).or_default();
        *cycles += row.per_16().unwrap_or(0.0);
        *divisions += row.divisions;
    }
    let dividing = pieces.into_values().filter(|(_, divisions)| *divisions > 0);
    dividing.map(|(cycles, _)| cycles).min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_tell_kernel_and_function() {
        let kernel = "<quant_simd::kernels::quantize::Quantize<f32, quant_simd::param_source::Uniform<false>> \
                      as quant_simd::isa::Kernel>::run::<quant_simd::arch::neon::Neon>";
        let tile = "<quant_simd::kernels::quantize::FastTile<f32, quant_simd::arch::neon::Neon>>\
                    ::run::<quant_simd::params::Exact, false>";
        let bound = "quant_simd::kernels::range::bound::<quant_simd::arch::neon::Neon, f32>";
        let add = "<quant_simd::arch::neon::Neon as quant_simd::isa::Isa>::add";
        for (inner, phase) in [(tile, "FastTile::run"), (bound, "bound"), (kernel, "run")] {
            let frames = [add, inner, kernel, "main"].map(str::to_owned);
            let expected = Origin {
                kernel: "Quantize<f32, Uniform<false>>".to_owned(),
                phase: phase.to_owned(),
            };
            assert_eq!(Origin::of(&frames), Some(expected), "{inner}");
        }
        let scalar = kernel.replace("neon::Neon", "scalar::Scalar");
        assert_eq!(Origin::of(&[scalar]), None);
    }
}
