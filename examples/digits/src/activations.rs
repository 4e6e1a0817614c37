//! Activations in 8 bits, with ranges from calibration images.

use std::error::Error;

use quant_core::observer::{Observer, ObserverConfig};
use quant_core::{ActivationRule, FloatType, IntType, Mode, Params, Scheme};
use quant_simd::Backend;

use crate::net::{LAYERS, Net, SIDE};

/// As coremltools quantizes activations where nothing else is asked for.
const DTYPE: IntType = IntType::Int8;
const MODE: Mode = Mode::Symmetric;

/// Scale and zero point of what goes into each layer.
pub struct Activations(Vec<Params>);

impl Activations {
    /// From what `net` makes of the images.
    pub fn calibrate(
        net: &Net,
        images: &[f32],
        config: ObserverConfig,
    ) -> Result<Self, Box<dyn Error>> {
        let mut observers = vec![Observer::new(config)?; LAYERS.len()];
        for image in images.chunks_exact(SIDE * SIDE) {
            net.logits(image, |at, x| {
                Backend::detect().observe(x, &mut observers[at])
            });
        }
        let params = observers.iter().map(|observer| {
            let range = observer.range(DTYPE, MODE).ok_or("no calibration images")?;
            let rule = ActivationRule::Coremltools;
            Ok(rule.params(&range, DTYPE, MODE, FloatType::F32)?)
        });
        Ok(Self(params.collect::<Result<_, Box<dyn Error>>>()?))
    }

    /// What goes into a layer, quantized and back.
    pub fn quantize(&self, layer: usize, x: &mut [f32]) {
        let codes = Scheme::new(DTYPE, Mode::Affine);
        let values = x.to_vec();
        Backend::detect().fake_quantize(&values, codes, self.0[layer], x);
    }
}
