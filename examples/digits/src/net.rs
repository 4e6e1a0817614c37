//! Forward pass of the digit classifier that `train.py` trains.

use std::error::Error;

/// Side of an input image in pixels.
pub const SIDE: usize = 8;

/// The layers with weights, in order.
pub const LAYERS: [&str; 5] = ["conv1", "conv2", "conv3", "fc1", "fc2"];

/// Parameters of one layer: weight as `[outputs, inputs, ...]`, one bias per output.
struct Layer {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Layer {
    /// Layer `name` out of `read`, refused unless the weight has the shape the net is built for.
    fn read<F>(read: &mut F, name: &str, shape: &[usize]) -> Result<Self, Box<dyn Error>>
    where
        F: FnMut(&str) -> Result<(Vec<usize>, Vec<f32>), Box<dyn Error>>,
    {
        let mut tensor = |part: &str, expected: &[usize]| {
            let name = format!("{name}.{part}");
            let (found, values) = read(&name)?;
            if found != expected {
                return Err(format!("{name} has shape {found:?}, expected {expected:?}").into());
            }
            Ok::<_, Box<dyn Error>>(values)
        };
        Ok(Self {
            weight: tensor("weight", shape)?,
            bias: tensor("bias", &shape[..1])?,
        })
    }
}

/// The classifier: three convolutions and two linear layers.
pub struct Net {
    conv1: Layer,
    conv2: Layer,
    conv3: Layer,
    fc1: Layer,
    fc2: Layer,
}

impl Net {
    /// Net from the tensors `read` returns by name, each as shape and values.
    pub fn read<F>(mut read: F) -> Result<Self, Box<dyn Error>>
    where
        F: FnMut(&str) -> Result<(Vec<usize>, Vec<f32>), Box<dyn Error>>,
    {
        Ok(Self {
            conv1: Layer::read(&mut read, LAYERS[0], &[16, 1, 3, 3])?,
            conv2: Layer::read(&mut read, LAYERS[1], &[32, 16, 3, 3])?,
            conv3: Layer::read(&mut read, LAYERS[2], &[64, 32, 3, 3])?,
            fc1: Layer::read(&mut read, LAYERS[3], &[128, 256])?,
            fc2: Layer::read(&mut read, LAYERS[4], &[10, 128])?,
        })
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        [&self.conv1, &self.conv2, &self.conv3, &self.fc1, &self.fc2]
            .iter()
            .map(|layer| layer.weight.len() + layer.bias.len())
            .sum()
    }

    /// Ten logits for one image of `SIDE * SIDE` pixels in 0..=1. `activation` gets what goes into
    /// each of [`LAYERS`], by position, and may change it.
    pub fn logits<A>(&self, image: &[f32], mut activation: A) -> Vec<f32>
    where
        A: FnMut(usize, &mut [f32]),
    {
        let mut x = image.to_vec();
        activation(0, &mut x);
        let mut x = relu(conv3x3(&x, SIDE, &self.conv1));
        activation(1, &mut x);
        let x = relu(conv3x3(&x, SIDE, &self.conv2));
        let mut x = max_pool(&x, SIDE);
        activation(2, &mut x);
        let x = relu(conv3x3(&x, SIDE / 2, &self.conv3));
        let mut x = max_pool(&x, SIDE / 2);
        activation(3, &mut x);
        let mut x = relu(linear(&x, &self.fc1));
        activation(4, &mut x);
        linear(&x, &self.fc2)
    }

    /// Most likely digit for one image.
    pub fn classify<A>(&self, image: &[f32], activation: A) -> usize
    where
        A: FnMut(usize, &mut [f32]),
    {
        let logits = self.logits(image, activation);
        (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
    }
}

/// 3x3 convolution over square channels of `side` pixels, stride 1, zero padding 1.
fn conv3x3(x: &[f32], side: usize, layer: &Layer) -> Vec<f32> {
    let inputs = x.len() / (side * side);
    let mut out = Vec::with_capacity(layer.bias.len() * side * side);
    for (kernels, &bias) in layer.weight.chunks_exact(inputs * 9).zip(&layer.bias) {
        for row in 0..side {
            for column in 0..side {
                let mut sum = bias;
                for (kernel, channel) in kernels.chunks_exact(9).zip(x.chunks_exact(side * side)) {
                    // The window starts one pixel up and left; what lies outside adds zero.
                    for i in row.max(1) - 1..(row + 2).min(side) {
                        for j in column.max(1) - 1..(column + 2).min(side) {
                            let tap = (i + 1 - row) * 3 + (j + 1 - column);
                            sum += kernel[tap] * channel[i * side + j];
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

/// 2x2 maximum over square channels of `side` pixels, stride 2.
fn max_pool(x: &[f32], side: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len() / 4);
    for channel in x.chunks_exact(side * side) {
        for rows in channel.chunks_exact(2 * side) {
            let (upper, lower) = rows.split_at(side);
            for (a, b) in upper.chunks_exact(2).zip(lower.chunks_exact(2)) {
                out.push(a[0].max(a[1]).max(b[0]).max(b[1]));
            }
        }
    }
    out
}

/// Fully connected layer.
fn linear(x: &[f32], layer: &Layer) -> Vec<f32> {
    layer
        .weight
        .chunks_exact(x.len())
        .zip(&layer.bias)
        .map(|(row, bias)| bias + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>())
        .collect()
}

fn relu(mut x: Vec<f32>) -> Vec<f32> {
    for value in &mut x {
        *value = value.max(0.0);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(weight: &[f32], bias: &[f32]) -> Layer {
        Layer {
            weight: weight.to_vec(),
            bias: bias.to_vec(),
        }
    }

    #[test]
    fn conv_correlates_and_pads_with_zeros() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        // The tap right of the centre moves the image left; a flipped kernel would move it right.
        let right = layer(&[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], &[0.0]);
        assert_eq!(
            conv3x3(&x, 3, &right),
            [2.0, 3.0, 0.0, 5.0, 6.0, 0.0, 8.0, 9.0, 0.0]
        );
        let sum = layer(&[1.0; 9], &[0.5]);
        assert_eq!(
            conv3x3(&x, 3, &sum),
            [12.5, 21.5, 16.5, 27.5, 45.5, 33.5, 24.5, 39.5, 28.5]
        );
    }

    #[test]
    fn conv_sums_input_channels_for_each_output() {
        let x = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
        let mut weight = [0.0; 36];
        for (centre, value) in [(4, 1.0), (13, 2.0), (22, -1.0), (31, 0.5)] {
            weight[centre] = value;
        }
        assert_eq!(
            conv3x3(&x, 2, &layer(&weight, &[0.0, 100.0])),
            [21.0, 42.0, 63.0, 84.0, 104.0, 108.0, 112.0, 116.0]
        );
    }

    #[test]
    fn pool_takes_the_maximum_of_each_tile() {
        let x = [
            1.0, 2.0, 3.0, 4.0, //
            5.0, 0.0, 0.0, 0.0, //
            -1.0, -2.0, 0.0, 0.0, //
            -3.0, -4.0, 0.0, 9.0,
        ];
        assert_eq!(max_pool(&x, 4), [5.0, 4.0, -1.0, 9.0]);
    }

    #[test]
    fn linear_and_relu() {
        let out = linear(
            &[1.0, 2.0],
            &layer(&[1.0, 1.0, -1.0, -1.0, 0.0, 3.0], &[0.0, 1.0, 0.5]),
        );
        assert_eq!(out, [3.0, -2.0, 6.5]);
        assert_eq!(relu(out), [3.0, 0.0, 6.5]);
    }

    #[test]
    fn every_layer_gets_the_activation_it_is_given() {
        let ones = |name: &str| {
            let shape: &[usize] = match name.split('.').next().unwrap() {
                "conv1" => &[16, 1, 3, 3],
                "conv2" => &[32, 16, 3, 3],
                "conv3" => &[64, 32, 3, 3],
                "fc1" => &[128, 256],
                _ => &[10, 128],
            };
            let shape = if name.ends_with("bias") {
                &shape[..1]
            } else {
                shape
            };
            Ok((shape.to_vec(), vec![1.0; shape.iter().product()]))
        };
        let net = Net::read(ones).unwrap();
        let mut sizes = Vec::new();
        net.logits(&[1.0; SIDE * SIDE], |_, x| sizes.push(x.len()));
        assert_eq!(sizes, [64, 16 * 64, 32 * 16, 64 * 4, 128]);
        for layer in 0..LAYERS.len() {
            let zeroed = |at, x: &mut [f32]| {
                if at == layer {
                    x.fill(0.0);
                }
            };
            let image = [1.0; SIDE * SIDE];
            assert!(
                net.logits(&image, zeroed)[0] < net.logits(&image, |_, _| {})[0],
                "{layer}"
            );
        }
    }

    #[test]
    fn net_names_a_tensor_of_the_wrong_shape() {
        let error = Net::read(|_| Ok((vec![1], vec![0.0]))).err().unwrap();
        assert_eq!(
            error.to_string(),
            "conv1.weight has shape [1], expected [16, 1, 3, 3]"
        );
    }
}
