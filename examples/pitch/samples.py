"""Makes samples for a pitch tracker of the CREPE kind, and the class of each.

    python samples.py FOLDER COUNT SEED

A sample is a frame of 1,024 values at 16 kHz: a tone with harmonics and some noise, at zero mean and unit variance, as the model was
trained on. Its class is the tone's bin of 20 cents, of 360.
"""

import pathlib
import sys

import numpy


def tone(random):
    """A frame, and its class."""
    time = numpy.arange(1024) / 16000
    # From 50 to 2,000 Hz, where the model was trained; in the middle of a bin.
    pitch = int(random.integers(40, 350))
    hertz = 10 * 2 ** ((20 * pitch + 1997.3794084376191) / 1200)
    harmonics = [n for n in range(1, 13) if n * hertz < 7500]
    slope = random.uniform(0.5, 2)
    phases = random.uniform(0, 2 * numpy.pi, len(harmonics))
    frame = sum(
        numpy.sin(2 * numpy.pi * n * hertz * time + phase) / n**slope
        for n, phase in zip(harmonics, phases)
    )
    noise = 10 ** -random.uniform(0.5, 2)
    frame += noise * frame.std() * random.standard_normal(1024)
    frame = (frame - frame.mean()) / frame.std()
    return frame.astype(numpy.float32)[None], pitch


def main(folder, count, seed):
    random = numpy.random.default_rng(seed)
    folder = pathlib.Path(folder)
    folder.mkdir()
    lines = ["file,class"]
    for i in range(count):
        frame, pitch = tone(random)
        name = f"{i:04}.npy"
        numpy.save(folder / name, frame)
        lines.append(f"{name},{pitch}")
    folder.with_suffix(".csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
