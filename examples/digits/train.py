"""Small convolutional net for scikit-learn's 8x8 digits, trained with plain numpy.

    pip install numpy scikit-learn safetensors
    python train.py

Writes next to this script:

  digits.safetensors          the model, f32, PyTorch names and layouts
  digits-heldout.safetensors  500 images the training never saw, with labels
  digits-calibration.safetensors  200 of the images it saw, for ranges of activations

The last epoch is the one saved: the held-out images choose nothing, they are
only counted at the end. A run takes some ten seconds on two cores. The seed fixes
split, start and batches; another BLAS may round sums otherwise and so move the
accuracy by an image or two.
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 7
HELD_OUT = 500
CALIBRATION = 200
EPOCHS = 40
BATCH = 64
PEAK_RATE = 2e-3
WEIGHT_DECAY = 1e-2
DATA = (
    "UCI Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, 1998; "
    "doi:10.24432/C50P49), CC BY 4.0, as shipped with scikit-learn (load_digits)"
)


def windows(x):
    """3x3 windows of a zero-padded [n, c, h, w] as rows of [n*h*w, c*9]."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, c * 9)


class Conv:
    """3x3 convolution, stride 1, zero padding 1."""

    def __init__(self, rng, inputs, outputs):
        scale = np.sqrt(2 / (inputs * 9))
        self.weight = (rng.standard_normal((outputs, inputs, 3, 3)) * scale).astype(np.float32)
        self.bias = np.zeros(outputs, np.float32)

    def forward(self, x):
        n, _, h, w = x.shape
        self.shape, self.rows = x.shape, windows(x)
        out = self.rows @ self.weight.reshape(len(self.weight), -1).T + self.bias
        return out.reshape(n, h, w, -1).transpose(0, 3, 1, 2)

    def backward(self, grad):
        n, c, h, w = self.shape
        grad = grad.transpose(0, 2, 3, 1).reshape(n * h * w, -1)
        self.grads = {
            "weight": (grad.T @ self.rows).reshape(self.weight.shape),
            "bias": grad.sum(0),
        }
        rows = (grad @ self.weight.reshape(len(self.weight), -1)).reshape(n, h, w, c, 3, 3)
        padded = np.zeros((n, c, h + 2, w + 2), np.float32)
        for i in range(3):
            for j in range(3):
                padded[:, :, i : i + h, j : j + w] += rows[..., i, j].transpose(0, 3, 1, 2)
        return padded[:, :, 1:-1, 1:-1]


class Linear:
    """Fully connected layer; flattens what it gets."""

    def __init__(self, rng, inputs, outputs):
        scale = np.sqrt(2 / inputs)
        self.weight = (rng.standard_normal((outputs, inputs)) * scale).astype(np.float32)
        self.bias = np.zeros(outputs, np.float32)

    def forward(self, x):
        self.shape, self.rows = x.shape, x.reshape(len(x), -1)
        return self.rows @ self.weight.T + self.bias

    def backward(self, grad):
        self.grads = {"weight": grad.T @ self.rows, "bias": grad.sum(0)}
        return (grad @ self.weight).reshape(self.shape)


class Relu:
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask

    def backward(self, grad):
        return grad * self.mask


class MaxPool:
    """2x2 maximum, stride 2."""

    def forward(self, x):
        n, c, h, w = x.shape
        self.shape = x.shape
        tiles = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5)
        tiles = tiles.reshape(n, c, h // 2, w // 2, 4)
        self.index = tiles.argmax(-1)[..., None]
        return np.take_along_axis(tiles, self.index, -1)[..., 0]

    def backward(self, grad):
        n, c, h, w = self.shape
        tiles = np.zeros((n, c, h // 2, w // 2, 4), np.float32)
        np.put_along_axis(tiles, self.index, grad[..., None], -1)
        tiles = tiles.reshape(n, c, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5)
        return tiles.reshape(self.shape)


class Adam:
    """Adam with decoupled weight decay on the weights (not the biases)."""

    def __init__(self, layers):
        self.slots = [
            (layer, name, np.zeros_like(getattr(layer, name)), np.zeros_like(getattr(layer, name)))
            for layer in layers
            for name in ("weight", "bias")
        ]
        self.step_count = 0

    def step(self, rate):
        self.step_count += 1
        fix1, fix2 = 1 - 0.9**self.step_count, 1 - 0.999**self.step_count
        for layer, name, mean, square in self.slots:
            grad, value = layer.grads[name], getattr(layer, name)
            mean += 0.1 * (grad - mean)
            square += 0.001 * (grad * grad - square)
            if name == "weight":
                value *= 1 - rate * WEIGHT_DECAY
            value -= rate * (mean / fix1) / (np.sqrt(square / fix2) + 1e-8)


def forward(net, x):
    for layer in net:
        x = layer.forward(x)
    return x


def shifted(x, rng):
    """Each image moved by -1, 0 or 1 pixel in both directions, zeros moving in."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moves = rng.integers(0, 3, (len(x), 2))
    return np.stack([p[:, i : i + 8, j : j + 8] for p, (i, j) in zip(padded, moves)])


def split():
    """Images and labels to train on, and held out."""
    digits = load_digits()
    pixels = digits.images.astype(np.uint8)[:, None]  # 0..16
    return train_test_split(
        pixels, digits.target, test_size=HELD_OUT, stratify=digits.target, random_state=SEED
    )


def save_calibration(folder, train_x):
    images = np.ascontiguousarray(train_x[:CALIBRATION])
    about = f"Images that the training saw, pixels 0..16: divide by 16 for the net. Data: {DATA}."
    save_file({"images": images}, folder / "digits-calibration.safetensors", {"about": about})


def main():
    rng = np.random.default_rng(SEED)
    train_x, test_x, train_y, test_y = split()
    scale = lambda images: images.astype(np.float32) / 16

    named = {
        "conv1": Conv(rng, 1, 16),
        "conv2": Conv(rng, 16, 32),
        "conv3": Conv(rng, 32, 64),
        "fc1": Linear(rng, 256, 128),
        "fc2": Linear(rng, 128, 10),
    }
    net = [
        named["conv1"], Relu(), named["conv2"], Relu(), MaxPool(),
        named["conv3"], Relu(), MaxPool(),
        named["fc1"], Relu(), named["fc2"],
    ]  # fmt: skip
    adam = Adam(named.values())

    per_epoch = -(-len(train_x) // BATCH)
    for epoch in range(EPOCHS):
        order = rng.permutation(len(train_x))
        total = 0.0
        for batch in np.array_split(order, per_epoch):
            logits = forward(net, shifted(scale(train_x[batch]), rng))
            logits -= logits.max(1, keepdims=True)
            chance = np.exp(logits)
            chance /= chance.sum(1, keepdims=True)
            rows = np.arange(len(batch))
            total -= np.log(chance[rows, train_y[batch]] + 1e-12).sum()
            chance[rows, train_y[batch]] -= 1
            grad = chance / len(batch)
            for layer in reversed(net):
                grad = layer.backward(grad)
            # One warm-up epoch, then a cosine down to zero.
            done = adam.step_count / (EPOCHS * per_epoch)
            warm = min(1, (adam.step_count + 1) / per_epoch)
            adam.step(PEAK_RATE * warm * 0.5 * (1 + np.cos(np.pi * done)))
        print(f"epoch {epoch + 1:2}  loss {total / len(train_x):.4f}", flush=True)

    right = int((forward(net, scale(test_x)).argmax(1) == test_y).sum())
    accuracy = f"{right} of {HELD_OUT} held-out images right ({100 * right / HELD_OUT:.1f} %)"
    print(accuracy)

    # One metadata key per file: several are written in no fixed order.
    here = Path(__file__).resolve().parent
    model = {
        f"{name}.{part}": np.ascontiguousarray(getattr(layer, part), np.float32)
        for name, layer in named.items()
        for part in ("weight", "bias")
    }
    about = (
        f"Digit classifier: {accuracy}, {len(train_x)} trained on. "
        f"Input [n, 1, 8, 8], pixel / 16. Data: {DATA}."
    )
    save_file(model, here / "digits.safetensors", {"about": about})
    held_out = {"images": np.ascontiguousarray(test_x), "labels": test_y.astype(np.uint8)}
    about = f"Held-out images, pixels 0..16: divide by 16 for the net. Data: {DATA}."
    save_file(held_out, here / "digits-heldout.safetensors", {"about": about})
    save_calibration(here, train_x)
    return 0 if right >= 0.98 * HELD_OUT else 1


if __name__ == "__main__":
    sys.exit(main())
