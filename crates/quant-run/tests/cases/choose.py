"""Chooses small cases from those that capture_cases.py wrote, and packs them into cases.zip.

    python choose.py cases.zip cases...

Takes the smallest cases first that show a kind of operation, or a test, in another way than those
before: two of each test, and as many as it takes to see every kind of operation MOST times.
"""

import collections
import glob
import os
import sys
import zipfile

from coremltools.proto import Model_pb2

MOST = 6
BYTES = 1_900_000
MODEL = "Data/com.apple.CoreML/model.mlmodel"
# Without a reference.
RANDOM = ("random_", "multinomial")
# What MIL leaves open, and is an error here: indices out of range; boxes outside of an image; an
# initial state of another batch than the input's.
UNDEFINED = (
    "test_ios17_invalid_indices",
    "TestCropResize.test_builder_to_backend_smoke.95f20f87",
    "TestLSTMWithPackedSequence",
)


def operations(block):
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from operations(inner)


def kinds(package):
    model = Model_pb2.Model()
    with open(f"{package}/{MODEL}", "rb") as file:
        model.ParseFromString(file.read())
    found = set()
    for function in model.mlProgram.functions.values():
        for block in function.block_specializations.values():
            found |= {operation.type for operation in operations(block)}
    return found


def files(case):
    for folder in (case + ".mlpackage", case + ".io"):
        for path in sorted(glob.glob(folder + "/**", recursive=True)):
            if os.path.isfile(path) and not path.endswith("meta.json"):
                yield path


def main(archive, *folders):
    cases = sorted(path[:-10] for folder in folders for path in glob.glob(folder + "/*.mlpackage"))
    sizes = {case: sum(map(os.path.getsize, files(case))) for case in cases}
    seen, tests, chosen, total = collections.Counter(), collections.Counter(), [], 0
    for case in sorted(cases, key=lambda case: (sizes[case], case)):
        found = kinds(case + ".mlpackage")
        outputs = glob.glob(case + ".io/out_*.npy")
        if not outputs or any(kind.startswith(RANDOM) for kind in found):
            continue
        test = os.path.basename(case).rsplit(".", 1)[0]
        if any(name in case for name in UNDEFINED):
            continue
        rare = any(seen[kind] < MOST for kind in found)
        if tests[test] >= (MOST if rare else 1) or sizes[case] > 60_000:
            continue
        tests[test] += 1
        seen.update(found)
        chosen.append(case)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        names = set()
        for case in chosen:
            name = os.path.basename(case)
            if name in names or out.fp.tell() > BYTES:
                continue
            names.add(name)
            # Packages without weights have an empty folder for them.
            for path in sorted(glob.glob(case + ".mlpackage/**/weights", recursive=True)):
                out.writestr(zipfile.ZipInfo(name + path[len(case) :] + "/", (1980, 1, 1, 0, 0, 0)), "")
            for path in files(case):
                inside = name + path[len(case) :]
                info = zipfile.ZipInfo(inside, (1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                with open(path, "rb") as file:
                    out.writestr(info, file.read())
    print(len(names), "cases of", len(seen) - 1, "operations,", os.path.getsize(archive), "bytes")


main(*sys.argv[1:])
