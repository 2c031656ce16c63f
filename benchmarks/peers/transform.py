#!/usr/bin/env python3
"""What transforms gain on the weights of a model, and how long scipy.fft and PyWavelets take for them.

With a MODEL in ONNX: for its largest table and its largest matrices, the relative error of codes of so many bits by their entropy, of the elements
themselves and of coefficients, `--bits` for each, of at most
4096 rows; each number is the best by a search of the step. With `--ours`, the relative errors that
`tensorpress compress` reports of the same weights for the recipes that are named alike. With `--image`, the same of a plane of an image (a file that NumPy
reads, uint8 [rows, columns]; without a name one that is made up). Without a MODEL: times of one matrix of 1024 x 1040, beside
`benchmarks/run.sh jmh TransformBenchmark -p threads=1`, the median of the rounds, of processor
time, since each is of one thread.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

from common import LAUNCHER, need

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", nargs="?", help="an ONNX file")
parser.add_argument("--bits", type=float, nargs="+", default=[2, 3, 4, 5])
parser.add_argument("--weights", type=int, default=4, help="how many, the largest first")
parser.add_argument("--ours", action="store_true", help="compress with the method transform too")
parser.add_argument("--options", default="", help="more of them for --ours, such as 'rows: 8, point: 0.5'")
parser.add_argument("--image", nargs="?", const="", help="a plane in place of weights")
parser.add_argument("--rounds", type=int, default=15)
args = parser.parse_args()
np, fft, pywt = need("numpy", "scipy.fft", "pywt")


def blocks(x, n, dimensions, inverse=False):
    """The DCT of blocks, of the part of x that is whole blocks."""
    one = fft.idctn if inverse else fft.dctn
    if dimensions == 1:
        return one(x.reshape(x.shape[0], -1, n), norm="ortho", axes=[2]).reshape(x.shape)
    tiles = x.reshape(x.shape[0] // n, n, x.shape[1] // n, n)
    return one(tiles, norm="ortho", axes=[1, 3]).reshape(x.shape)


def wavelet(x, name, levels):
    """Coefficients, and what makes elements of them."""
    array, where = pywt.coeffs_to_array(pywt.wavedec2(x, name, mode="periodization", level=levels))
    return array, lambda y: pywt.waverec2(pywt.array_to_coeffs(y, where, "wavedec2"), name, mode="periodization")


def entropy(codes):
    counts = np.bincount((codes - codes.min()).ravel())
    counts = counts[counts > 0] / codes.size
    return -np.sum(counts * np.log2(counts))


def coded(y, bits):
    """y as codes of so many bits stand for it: the least step that takes no more."""
    least, most = -40.0, 20.0
    for _ in range(24):
        middle = (least + most) / 2
        if np.abs(y).max() / 2**middle > 2**20 or entropy(np.rint(y / 2**middle).astype(np.int64)) > bits:
            least = middle
        else:
            most = middle
    return np.rint(y / 2**most) * 2**most


def ways(x):
    """By name: coefficients, and what makes elements of them."""
    yield "elements", x, lambda y: y
    yield "dct 8", blocks(x, 8, 1), lambda y: blocks(y, 8, 1, True)
    yield "dct 8x8", blocks(x, 8, 2), lambda y: blocks(y, 8, 2, True)
    yield "dct 64x64", blocks(x, 64, 2), lambda y: blocks(y, 64, 2, True)
    for name, kind in (("haar", "haar"), ("cdf97", "bior4.4")):
        yield (name, *wavelet(x, kind, 3))


def table(name, x):
    x = np.asarray(x, np.float64)
    x = x[:min(4096, x.shape[0] // 64 * 64), :x.shape[1] // 64 * 64]
    print(f"{name}: {x.shape[0]} x {x.shape[1]}, relative error, and in brackets dB gained")
    print("| Coefficients | " + " | ".join(f"{b:g} bits" for b in args.bits) + " |\n|---|" + "---|" * len(args.bits))
    plain = []
    for way, y, back in ways(x):
        errors = [np.linalg.norm(back(coded(y, b)) - x) / np.linalg.norm(x) for b in args.bits]
        plain = plain or errors
        print(f"| {way} | " + " | ".join(f"{e:.4f} ({20 * np.log10(p / e):+.2f})" for e, p in zip(errors, plain)) + " |", flush=True)


def ours(model, names):
    for kind in ("{kind: dct, block: 8, dimensions: 1", "{kind: dct, block: 8", "{kind: dct, block: 64", "{kind: haar", "{kind: cdf97", "{kind: cdf53"):
        rows = {name: [] for name in names}
        for bits in args.bits:
            with tempfile.TemporaryDirectory() as folder:
                recipe, report = os.path.join(folder, "r.yaml"), os.path.join(folder, "r.json")
                with open(recipe, "w") as f:
                    f.write(f"steps: [{{select: {{name: {json.dumps(names)}}}, transform: {kind}, bits: {bits}, codes: int16, {args.options}}}}}]\n")
                subprocess.run([LAUNCHER, "compress", model, "-o", os.path.join(folder, "o.onnx"), "--recipe", recipe, "--report", report], check=True,
                               stdout=subprocess.DEVNULL)
                with open(report) as f:
                    for weight in json.load(f)["weights"]:
                        if weight["name"] in rows and "relativeError" in weight:
                            rows[weight["name"]].append(weight["relativeError"])
        for name, errors in rows.items():
            print(f"| {kind}}} of {name} | " + " | ".join(f"{e:.4f}" for e in errors) + " |", flush=True)


def weights(model):
    onnx, helper = need("onnx", "onnx.numpy_helper")
    arrays = [(t.name, helper.to_array(t)) for t in onnx.load(model).graph.initializer if len(t.dims) == 2 and min(t.dims) >= 64]
    return sorted(arrays, key=lambda a: -a[1].size)


def plane():
    """Smooth shapes with edges, and some noise."""
    random = np.random.default_rng(1)
    i, j = np.mgrid[:512, :512]
    x = 120 + 50 * np.sin(i / 37) * np.cos(j / 51) + 40 * ((i - 200) ** 2 + (j - 300) ** 2 < 9000) - 30 * (i + j > 700)
    return np.clip(x + 2 * random.standard_normal(x.shape), 0, 255).astype(np.uint8)


def times():
    x = np.random.default_rng(1).standard_normal((1024, 1040)).astype(np.float32)
    whole = {n: np.ascontiguousarray(x[:, :1040 // n * n]) for n in (8, 16, 64)}
    tasks = {f"dct {n}, {d} dimension{'s' * (d > 1)}": lambda n=n, d=d: blocks(whole[n], n, d) for n in (8, 16, 64) for d in (1, 2)}
    for name, kind in (("haar", "haar"), ("cdf97", "bior4.4")):
        tasks[f"{name}, 1 level, 2 dimensions"] = lambda kind=kind: pywt.dwt2(x, kind, mode="periodization")
    spent = {name: [] for name in tasks}
    for _ in range(args.rounds):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            spent[name].append(time.process_time() - start)
    for name, seconds in spent.items():
        print(f"{name}: {statistics.median(seconds) * 1e3:.2f} ms")


if args.image is not None:
    table(args.image or "made plane", np.load(args.image) if args.image else plane())
elif args.model:
    largest = weights(args.model)[:args.weights]
    for name, x in largest:
        table(name, x)
    if args.ours:
        ours(args.model, [name for name, _ in largest])
else:
    times()
