//! Layers that loaders make one of: vLLM takes the weights of all of them as one matrix, which has one
//! scheme.

use std::collections::BTreeMap;

use quant_core::Scheme;
use quant_model::error::shortened;
use quant_model::report::Decision;

use super::WEIGHT;
use crate::model_files::ModelFiles;

/// Which layers of a module become one.
const FUSED: [&[&str]; 4] = [
    &["q_proj", "k_proj", "v_proj"],
    &["gate_proj", "up_proj"],
    &["w1", "w3"],
    &["q_a_proj", "kv_a_proj_with_mqa"],
];

/// How a layer is quantized; none where it stays in float.
type Kind = Option<(Scheme, Vec<usize>)>;

/// That some of them are quantized otherwise than their partners, if it is so.
pub(super) fn warning(model: &ModelFiles, decisions: &[Decision]) -> Option<String> {
    let mut found: BTreeMap<(&str, usize), Vec<(&str, Kind)>> = BTreeMap::new();
    for ((_, name, entry), decision) in model.entries().zip(decisions) {
        let module = name.strip_suffix(WEIGHT).filter(|_| entry.shape.len() == 2);
        let Some((parent, layer)) = module.and_then(|it| it.rsplit_once('.')) else {
            continue;
        };
        let Some(set) = FUSED.iter().position(|set| set.contains(&layer)) else {
            continue;
        };
        let kind = match decision {
            Decision::Quantize(quantizer) => {
                let sizes = quantizer.blocks.block_sizes().to_vec();
                Some((quantizer.scheme, sizes))
            }
            _ => None,
        };
        found.entry((parent, set)).or_default().push((layer, kind));
    }
    let differ = |layers: &[(&str, Kind)]| layers.iter().any(|(_, kind)| *kind != layers[0].1);
    let mut apart = found.iter().filter(|(_, layers)| differ(layers));
    let ((parent, set), layers) = apart.next()?;
    let quantized = layers.iter().find(|(_, kind)| kind.is_some())?;
    let others = FUSED[*set].iter().filter(|layer| {
        let mut layers = layers.iter();
        layers.any(|(other, kind)| other == *layer && *kind != quantized.1)
    });
    let others: Vec<String> = others.map(|layer| format!("`{layer}`")).collect();
    let more = match apart.count() {
        0 => String::new(),
        more => format!(" ({more} more such modules)"),
    };
    Some(format!(
        "`{}.{}` is quantized otherwise than {} beside it{more}: vLLM makes one layer of them, and does not load the model; quantize all of them alike, or none",
        shortened(parent),
        quantized.0,
        others.join(" and "),
    ))
}
