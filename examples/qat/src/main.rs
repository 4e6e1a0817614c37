//! Quantization-aware training of a small net: what 4-bit weights and 8-bit activations cost if
//! the net is quantized after training, and if it is trained further as it will be quantized.

#![forbid(unsafe_code)]

mod fake_quantize;
mod net;

use net::{Batch, Net};

/// Accuracies in percent.
#[derive(Debug)]
struct Outcome {
    float: f64,
    after_training: f64,
    aware: f64,
}

/// Numbers in [-1, 1) that look random.
fn random(mut state: u64) -> impl FnMut() -> f32 {
    move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Points of a square, and whether they lie in a ring.
fn points(seed: u64, count: usize) -> Batch {
    let mut random = random(seed);
    let (mut inputs, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (x, y) = (random(), random());
        inputs.extend([x, y, 1.0]);
        labels.push((0.3..0.75).contains(&x.hypot(y)));
    }
    Batch { inputs, labels }
}

fn train(seed: u64) -> Outcome {
    let (training, unseen) = (points(seed, 1000), points(seed + 1000, 4000));
    let mut net = Net::new(random(seed + 2000));
    for _ in 0..6000 {
        net.step(&training, 0.8, false);
    }
    for part in 0..20 {
        net.observe(&points(seed + 3000 + part, 100));
    }
    let mut aware = net.clone();
    // Ever smaller steps: weights between two codes would otherwise go to and fro.
    for left in (0..3000).rev() {
        aware.observe(&training);
        aware.step(&training, 0.05 * left as f32 / 3000.0, true);
    }
    Outcome {
        float: net.accuracy(&unseen, false),
        after_training: net.accuracy(&unseen, true),
        aware: aware.accuracy(&unseen, true),
    }
}

fn main() {
    println!("percent of 4000 points    float   int4 weights, uint8 activations");
    println!("                                  after training   in training");
    for seed in 1..=5 {
        let Outcome {
            float,
            after_training,
            aware,
        } = train(seed);
        println!("seed {seed} {float:>24.1} {after_training:>16.1} {aware:>13.1}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_wins_back_what_quantization_lost() {
        let outcomes: Vec<Outcome> = (1..=3).map(train).collect();
        let mean = |part: fn(&Outcome) -> f64| outcomes.iter().map(part).sum::<f64>() / 3.0;
        let float = mean(|outcome| outcome.float);
        let after = mean(|outcome| outcome.after_training);
        let aware = mean(|outcome| outcome.aware);
        assert!(float > 85.0 && aware > after + 5.0, "{outcomes:?}");
    }
}
