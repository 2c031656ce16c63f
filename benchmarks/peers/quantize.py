#!/usr/bin/env python3
"""Quantization of an f32 matrix to int8 by PyTorch and NumPy: the work of benchmarks/run.sh, by other tools.

Cases take turns. Each result is checked before it is timed. "Of stream" is a share of the speed of a loop that reads
four bytes and writes one: here PyTorch's own conversion to bytes, as nothing closer to the machine is at hand.
"""
import argparse
import os
import statistics
import time
import warnings

from common import need

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--size", type=int, default=8192, help="rows and columns")
parser.add_argument("--rounds", type=int, default=9)
parser.add_argument("--threads", type=int, default=os.cpu_count())
args = parser.parse_args()
np, torch = need("numpy", "torch")
warnings.filterwarnings("ignore", message=".*deprecated.*")  # quantized tensors of PyTorch
torch.set_num_threads(args.threads)

n = args.size
x = torch.randn(n, n, generator=torch.Generator().manual_seed(1)) * 0.05
x_np = x.numpy()
narrow = torch.empty(n, n, dtype=torch.uint8)


def scales(axis):
    """One scale for each index along the axis."""
    return x.abs().amax(dim=1 - axis).clamp_min(1e-38) / 127


def per_channel(axis, s):
    zeros = torch.zeros(n, dtype=torch.int64)
    return torch.quantize_per_channel(x, s, zeros, axis, torch.qint8)


def numpy_rows():
    s = np.maximum(np.abs(x_np).max(axis=1, keepdims=True), 1e-38) / np.float32(127)
    return np.clip(np.rint(x_np / s), -128, 127).astype(np.int8)


def per_tensor():
    s = float(x.abs().max()) / 127
    return torch.quantize_per_tensor(x, s, 0, torch.qint8)


given = scales(0)
cases = {
    "stream: PyTorch, f32 to bytes": (lambda: narrow.copy_(x), None),
    "PyTorch, int8 per row, scales given": (lambda: per_channel(0, given), given[:, None]),
    "PyTorch, int8 per row": (lambda: per_channel(0, scales(0)), given[:, None]),
    "PyTorch, int8 per column": (lambda: per_channel(1, scales(1)), scales(1)[None, :]),
    "PyTorch, int8 per tensor": (per_tensor, x.abs().max() / 127),
    "NumPy, int8 per row (1 thread)": (numpy_rows, given[:, None]),
}


def check(name, codes, scale):
    """Codes may differ from rounding x / scale by one where a tool multiplies by the inverse; no value by more."""
    codes = (codes.int_repr() if isinstance(codes, torch.Tensor) else torch.from_numpy(codes)).to(torch.int32)
    differ = (codes - torch.round(x / scale).to(torch.int32)).abs()
    if differ.max() > 1 or differ.count_nonzero() > differ.numel() * 1e-5:
        raise SystemExit(f"wrong result: {name}")


for name, (work, scale) in cases.items():
    result = work()
    if scale is not None:
        check(name, result, scale)
    del result

times = {name: [] for name in cases}
for _ in range(args.rounds):
    for name, (work, _) in cases.items():
        start = time.perf_counter()
        work()
        times[name].append(time.perf_counter() - start)

stream = next(iter(times.values()))
print(f"PyTorch {torch.__version__}, NumPy {np.__version__}; {n} x {n}, {args.threads} threads, "
      f"median of {args.rounds} rounds\n")
print("| | ms | GB/s | of stream |\n|---|---:|---:|---:|")
for name, t in times.items():
    median = statistics.median(t)
    share = statistics.median(s / own for s, own in zip(stream, t))
    print(f"| {name} | {median * 1e3:.4g} | {5 * n * n / median * 1e-9:.1f} | {share:.2f} |")
