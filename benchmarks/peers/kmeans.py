#!/usr/bin/env python3
"""Codebooks of weights by scikit-learn's KMeans and by Tensorpress' kernels, in turns within this process, of the same f32 matrices.

The kernels are called in the native library itself (LIBRARY, or --library), on one thread; scikit-learn has as many as --threads says.
Distortion is the mean squared error of what codes decode to, computed here in f64, as part of the matrix' mean square. Times are medians
over the rounds: finding the table, and the codes of all elements.
"""
import argparse
import ctypes
import os
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="an ONNX model")
parser.add_argument("--library", default=os.environ.get("LIBRARY"), help="libtensorpress.so")
parser.add_argument("--shapes", nargs="*", default=["384x1536", "30522x384"], help="of the matrices, the first of each shape is taken")
parser.add_argument("--bits", type=int, nargs="*", default=[4, 5, 8])
parser.add_argument("--dimension", type=int, default=1, help="elements to a code")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=1, help="of scikit-learn")
args = parser.parse_args()
for library in ("OMP", "OPENBLAS", "MKL"):  # before they are loaded
    os.environ[library + "_NUM_THREADS"] = str(args.threads)
from common import need  # noqa: E402

np, onnx, _ = need("numpy", "onnx", "sklearn")
import onnx.numpy_helper  # noqa: E402
from sklearn.cluster import KMeans  # noqa: E402


F32 = 1  # of tp_dtype


class Spec(ctypes.Structure):
    """tp_codebook"""
    _fields_ = [(name, ctypes.c_int64) for name in ("rows", "cols", "stride", "group_rows", "group_cols")] \
        + [(name, ctypes.c_int32) for name in ("dimension", "bits", "zero", "type")]


native = ctypes.CDLL(args.library)


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def call(function, *arguments):
    status = getattr(native, function)(*arguments)
    if status:
        raise SystemExit(f"{function} returned {status}")


def aligned(size):
    memory = np.empty(size + 64, np.uint8)
    at = -memory.ctypes.data % 64
    return memory[at:at + size]


def ours(x, bits):
    rows, cols = x.shape
    spec = Spec(rows, cols, cols, rows, cols, args.dimension, bits, 0, F32)
    n = ctypes.c_int64()
    call("tp_codebook_scratch", ctypes.byref(spec), ctypes.byref(n))
    scratch = aligned(n.value)
    table = np.empty((1 << bits, args.dimension), np.float32)
    codes = np.empty((rows, cols // args.dimension), np.uint8 if bits <= 8 else np.uint16)
    begin = time.perf_counter()
    call("tp_codebook_train", ctypes.byref(spec), ctypes.c_uint64(0), ctypes.c_int32(100), ctypes.c_int64(0), ctypes.c_int64(1), pointer(x),
         None, None, pointer(scratch), pointer(table))
    call("tp_codebook_assign", ctypes.byref(spec), ctypes.c_int64(0), ctypes.c_int64(rows), pointer(x), pointer(table), pointer(codes))
    return time.perf_counter() - begin, table[codes.reshape(-1)].reshape(x.shape)


def theirs(x, bits):
    points = x.reshape(-1, args.dimension)
    begin = time.perf_counter()
    found = KMeans(1 << bits, n_init=1, random_state=0).fit(points)
    return time.perf_counter() - begin, found.cluster_centers_[found.labels_].reshape(x.shape)


def distortion(x, y):
    x = x.astype(np.float64)
    return ((x - y) ** 2).mean() / (x ** 2).mean()


matrices = {}
for t in onnx.load(args.model).graph.initializer:
    shape = "x".join(map(str, t.dims))
    if shape in args.shapes and shape not in matrices:
        matrices[shape] = np.ascontiguousarray(onnx.numpy_helper.to_array(t), np.float32)
print(f"| matrix | bits | scikit-learn, s | Tensorpress, s | ratio | distortion | of Tensorpress | ratio |\n|{'---|' * 8}")
for shape in args.shapes:
    x = matrices[shape]
    for bits in args.bits:
        times, ratios = [], []
        for _ in range(args.rounds):
            b, mine = ours(x, bits)
            a, other = theirs(x, bits)
            times.append((a, b))
            ratios.append(a / b)
        p, q = distortion(x, other), distortion(x, mine)
        print(f"| {shape} | {bits} | {statistics.median(t[0] for t in times):.3f} | {statistics.median(t[1] for t in times):.3f} "
              f"| {statistics.median(ratios):.0f} | {p:.4e} | {q:.4e} | {q / p:.4f} |", flush=True)
