//! Observes activations sample by sample, and makes scale and zero point of their range.

use quant_simd::observer::{Observer, ObserverConfig};
use quant_simd::quant_core::ActivationRule;
use quant_simd::{Backend, FloatType, IntType, Mode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let backend = Backend::detect();
    for config in ObserverConfig::ALL {
        let mut observer = Observer::new(config)?;
        for sample in 0..100 {
            let activations: Vec<f32> = (0..1024)
                .map(|i| ((sample * 1024 + i) as f32 * 0.37).sin().powi(3).max(0.0))
                .collect();
            backend.observe(&activations, &mut observer);
        }
        let range = observer
            .range(IntType::Uint8, Mode::Affine)
            .ok_or("no sample was finite")?;
        let rule = ActivationRule::Torch;
        let params = rule.params(&range, IntType::Uint8, Mode::Affine, FloatType::F32)?;
        println!(
            "{:14} {:.4} to {:.4}: scale {:.6}, zero point {}",
            config.name(),
            range.min,
            range.max,
            params.scale(),
            params.zero_point()
        );
    }
    Ok(())
}
