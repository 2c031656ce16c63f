#!/usr/bin/env python3
"""Sparsity by PyTorch and by Tensorpress, taking turns: selection, dense to CSR, CSR times dense.

Tensorpress runs as a process beside this one and does one piece of work when told to, while PyTorch waits, and the other
way round. Work under 50 ms is run once before it is timed, on either side. PyTorch's results are checked here,
Tensorpress checks its own. PyTorch allocates its results; Tensorpress writes to memory that it has, but for the case that
ends in FRESH. Ratios are medians over the rounds of the ratio within a round. With --processor both work on one thread, and
what is timed is that thread.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings

from common import need

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "run.sh")
SHORT = 0.05
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else PyTorch's threads still spin while Tensorpress works

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--size", type=int, default=4096, help="rows and columns")
parser.add_argument("--sparsity", type=int, default=90, help="per cent of zeros")
parser.add_argument("--columns", type=int, nargs="+", default=[1, 128], help="of the dense factor")
parser.add_argument("--rounds", type=int, default=9)
parser.add_argument("--threads", type=int, default=2, help="of each")
parser.add_argument("--processor", action="store_true", help="processor time of one thread each, for a busy machine")
args = parser.parse_args()
if args.processor:
    args.threads = 1
(torch,) = need("torch")
warnings.filterwarnings("ignore", message="Sparse ")  # their layouts are in beta, and unchecked
torch.set_num_threads(args.threads)
torch.set_grad_enabled(False)


class Tensorpress:
    """Runs pieces of work by name."""

    def __init__(self):
        self.process = subprocess.Popen(
            [RUN, "sparse", "--serve", "--size", str(args.size), "--threads", str(args.threads), *["--processor"] * args.processor],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, case, columns):
        self.process.stdin.write(f"{case} {args.sparsity} {columns}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"sparse.py: Tensorpress failed at {case}")
        return int(answer) * 1e-9

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def seconds(work):
    clock = time.thread_time if args.processor else time.perf_counter
    start = clock()
    work()
    return clock() - start


n = args.size
generator = torch.Generator().manual_seed(1)
weight = torch.randn(n, n, generator=generator) * 0.05
magnitudes = weight.abs().flatten()
rank = max(1, magnitudes.numel() * args.sparsity // 100)
threshold = torch.kthvalue(magnitudes, rank).values
if (magnitudes < threshold).sum() >= rank or (magnitudes <= threshold).sum() < rank:
    sys.exit("sparse.py: kthvalue is wrong")
pruned = torch.where(torch.rand(n, n, generator=generator) * 100 < args.sparsity, torch.zeros(()), weight)
csr = pruned.to_sparse_csr()
if not torch.equal(csr.to_dense(), pruned):
    sys.exit("sparse.py: to_sparse_csr is wrong")
narrow = torch.sparse_csr_tensor(csr.crow_indices().int(), csr.col_indices().int(), csr.values(), (n, n))

# PyTorch's work, Tensorpress' cases for it, and the least ratio of times that is asked for.
pairs = [
    ("torch.kthvalue of magnitudes", lambda: torch.kthvalue(magnitudes, rank), {"KTH": 25}, 0),
    ("to_sparse_csr", lambda: pruned.to_sparse_csr(), {"TO_CSR16": 10, "TO_CSR16_FRESH": None, "TO_CSR32": 10, "TO_BITMASK": None}, 0),
]
for columns in args.columns:
    factor = torch.rand(n, columns, generator=generator) * 2 - 1
    if columns == 1:
        factor = factor[:, 0]  # MKL's product with a vector, the faster one
    if not torch.allclose(csr @ factor, pruned @ factor, rtol=1e-4, atol=1e-3):
        sys.exit("sparse.py: CSR times dense is wrong")
    ours = dict.fromkeys(["CSR16", "CSR32"], {1: 1.2, 128: 1.8}.get(columns))
    pairs += [
        (f"CSR, int64 @ dense, {columns} columns", lambda f=factor: csr @ f, ours, columns),
        (f"CSR, int32 @ dense, {columns} columns", lambda f=factor: narrow @ f, ours, columns),
        (f"dense @ dense, {columns} columns", lambda f=factor: pruned @ f, dict.fromkeys(ours), columns),
    ]

tensorpress = Tensorpress()
times = []
for name, work, cases, columns in pairs:
    for case in cases:
        tensorpress.seconds(case, max(columns, 1))  # prepares it
    times.append({key: [] for key in ["torch", *cases]})
for _ in range(args.rounds):
    for (name, work, cases, columns), sample in zip(pairs, times):
        first = seconds(work)
        sample["torch"].append(seconds(work) if first < SHORT else first)
        for case in cases:
            first = tensorpress.seconds(case, max(columns, 1))
            sample[case].append(tensorpress.seconds(case, max(columns, 1)) if first < SHORT else first)
tensorpress.close()

threads = "processor time of one thread" if args.processor else f"{args.threads} threads"
print(f"PyTorch {torch.__version__}; {n} x {n}, {args.sparsity} % zeros, {threads} each, "
      f"median of {args.rounds} rounds, taking turns; load average {os.getloadavg()[0]:.2f}\n")
print("| PyTorch | ms | Tensorpress | ms | times as fast | middle half | target |\n|---|---:|---|---:|---:|---|---:|")
for (name, _, cases, _), sample in zip(pairs, times):
    for case, target in cases.items():
        ratios = sorted(t / own for t, own in zip(sample["torch"], sample[case]))
        print(f"| {name} | {statistics.median(sample['torch']) * 1e3:.4g} | {case} | "
              f"{statistics.median(sample[case]) * 1e3:.4g} | {statistics.median(ratios):.2f} | "
              f"{ratios[len(ratios) // 4]:.2f} to {ratios[-1 - len(ratios) // 4]:.2f} | {target or ''} |")
