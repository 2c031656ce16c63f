#!/usr/bin/env python3
"""GPTQ of one matrix in NumPy, beside `benchmarks/run.sh jmh FeedbackBenchmark -p descent=0`.

Four bits symmetric in blocks of 32 inputs, inputs of the same kind, blocked updates of 128 inputs as the paper has them (Frantar et
al., 2022), by the inverse's Cholesky factor. Prints the median of the rounds, and the loss by that of rounding to nearest.
"""
import argparse
import statistics
import time

from common import need

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--inputs", type=int, default=384)
parser.add_argument("--outputs", type=int, default=1536)
parser.add_argument("--rounds", type=int, default=7)
args = parser.parse_args()
(np,) = need("numpy")
SAMPLES, BLOCK, UPDATE = 2048, 32, 128

random = np.random.default_rng(1)
x = (random.standard_normal((SAMPLES, 1)) + random.standard_normal((SAMPLES, args.inputs))).astype(np.float32)
w = random.standard_normal((args.inputs, args.outputs)).astype(np.float32)
gram = (x.T @ x).astype(np.float64)
scales = np.repeat(np.abs(w.reshape(-1, BLOCK, args.outputs)).max(1) / 7, BLOCK, 0)


def nearest(v, s):
    return np.clip(np.rint(v / s), -8, 7) * s


def gptq():
    """What the codes mean."""
    damped = gram + 0.01 * np.mean(np.diag(gram)) * np.eye(args.inputs)
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    rest, made = w.copy(), np.empty_like(w)
    for first in range(0, args.inputs, UPDATE):
        last = min(first + UPDATE, args.inputs)
        errors = np.empty((last - first, args.outputs), np.float32)
        for i in range(first, last):
            made[i] = nearest(rest[i], scales[i])
            errors[i - first] = (rest[i] - made[i]) / factor[i, i]
            rest[i + 1:last] -= np.outer(factor[i, i + 1:last], errors[i - first])
        rest[last:] -= factor[first:last, last:].T @ errors
    return made


def loss(made):
    e = (w - made).astype(np.float64)
    return np.sum(e * (gram @ e))


times = []
for _ in range(args.rounds):
    start = time.perf_counter()
    result = gptq()
    times.append(time.perf_counter() - start)
print(f"{args.inputs} x {args.outputs}: {statistics.median(times) * 1e3:.1f} ms, loss {loss(result) / loss(nearest(w, scales)):.3f} of rounding to nearest")
