#!/usr/bin/env python3
"""Singular value decompositions by PyTorch, SciPy, scikit-learn and Tensorpress, taking turns, of the same f32 matrices.

Tensorpress runs as a process beside this one, reads the matrices from files, and works when told to, while the others
wait, and the other way round. Everything is run for a second before it is timed, since a JVM compiles meanwhile. Errors ||A - U S V^T|| / ||A|| and ||U^T U - I||, ||V^T V - I||
(all Frobenius) of all results are computed here, in f64. Ratios are medians over the rounds of the ratio within a round, and
beside them those of the least times, which other load disturbs less. "In products": the share of the time that Svd.times()
reports for products of dense matrices.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--full", type=int, nargs="*", default=[384, 1024], help="sizes of full decompositions")
parser.add_argument("--size", type=int, default=4096, help="rows and columns of what is truncated; 0: nothing is")
parser.add_argument("--rank", type=int, default=256)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--threads", type=int, default=2, help="of each")
args = parser.parse_args()
for library in ("OMP", "OPENBLAS", "MKL"):  # before they are loaded
    os.environ[library + "_NUM_THREADS"] = str(args.threads)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin in wait for others that have no core take seconds
from common import need  # noqa: E402

np, torch, _, _ = need("numpy", "torch", "scipy", "sklearn")
import scipy.linalg  # noqa: E402
from sklearn.utils.extmath import randomized_svd  # noqa: E402

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "run.sh")
WARM = 1  # seconds
PAUSE = 0.1  # seconds until OpenBLAS' threads have stopped to spin
torch.set_num_threads(args.threads)
torch.set_grad_enabled(False)


class Tensorpress:
    """Decomposes matrices in files."""

    def __init__(self):
        self.process = subprocess.Popen([RUN, "svd", "--serve", "--threads", str(args.threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"svd.py: Tensorpress failed at: {line}")
        return [float(word) for word in answer.split()]

    def factors(self, file, n, rank):
        self.ask(f"save {file}")
        u, s, vt = np.split(np.fromfile(file, np.float32), [n * rank, n * rank + rank])
        return u.reshape(n, rank), s, vt.reshape(rank, n)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def quality(a, u, s, vt):
    """Relative error and the two orthogonalities."""
    u, s, vt = (torch.as_tensor(x).double() for x in (u, s, vt))
    squares = sum(float(((part.double() - (rows * s) @ vt) ** 2).sum()) for part, rows in zip(a.split(512), u.split(512)))
    unit = torch.eye(len(s), dtype=torch.double)
    return (squares ** 0.5 / float(a.double().norm()), float((u.T @ u - unit).norm()), float((vt @ vt.T - unit).norm()))


def warm(work):
    """The first result, and more of the same until a second is over."""
    end = time.perf_counter() + WARM
    result = work()
    while time.perf_counter() < end:
        work()
    return result


def truncated(a):
    u, s, v = torch.svd_lowrank(a, q=args.rank, niter=2)
    return u, s, v.T


generator = torch.Generator().manual_seed(1)


def gaussian(n):
    return torch.randn(n, n, generator=generator)


torch.manual_seed(2)  # svd_lowrank draws from the global generator
FULL = {"torch.linalg.svd": lambda a: torch.linalg.svd(a, full_matrices=False),
        "scipy.linalg.svd": lambda a: scipy.linalg.svd(a.numpy(), full_matrices=False)}
PART = {"torch.svd_lowrank, niter=2": truncated,
        "randomized_svd, n_iter=2": lambda a: randomized_svd(a.numpy(), args.rank, n_iter=2, random_state=0)}

# Name, matrix, rank, the others' work, whether ours measures itself by name, the least ratio of times that is asked for.
cases = [(f"Gaussian, {n}, full", gaussian(n), n, FULL, {"Tensorpress": False}, {"scipy.linalg.svd": 1 / 1.5}) for n in args.full]
if args.size:
    n = args.size
    left, right = (torch.linalg.qr(gaussian(n))[0] for _ in range(2))
    ours = {"Tensorpress": True, "Tensorpress, not measured": False}
    cases += [
        (f"Gaussian, {n}, rank {args.rank}", gaussian(n), args.rank, PART, ours, dict(zip(PART, (1.5, 1.8)))),
        (f"1 / i, {n}, rank {args.rank}", left / torch.arange(1, n + 1) @ right, args.rank, PART, ours, dict.fromkeys(PART, 2.5)),
    ]

print(f"PyTorch {torch.__version__}, SciPy {scipy.__version__}; {args.threads} threads each, medians of {args.rounds} rounds, "
      f"taking turns; load average {os.getloadavg()[0]:.2f}\n")
print("| | | ms | least to most | in products | error | of the bound | of the estimate | left | right |\n"
      "|---|---|---:|---|---:|---:|---:|---:|---:|---:|")
ratios = []
tensorpress = Tensorpress()
with tempfile.TemporaryDirectory() as folder:
    for number, (name, a, rank, others, ours, targets) in enumerate(cases):
        n = len(a)
        file = os.path.join(folder, f"{number}.f32")
        a.numpy().tofile(file)
        results, bounds, estimates, shares = {}, {}, {}, {}
        for own, measured in ours.items():
            line = f"run {file} {n} {rank} {str(measured).lower()}"
            bounds[own], estimates[own] = (warm(lambda: tensorpress.ask(line)) + [0, 0, 0])[3:5]
            results[own] = quality(a, *tensorpress.factors(os.path.join(folder, "factors"), n, rank))
        for other, work in others.items():
            results[other] = quality(a, *warm(lambda: work(a)))
        times = {key: [] for key in results}
        for _ in range(args.rounds):
            time.sleep(PAUSE)
            for own, measured in ours.items():
                spent, products, *_ = tensorpress.ask(f"run {file} {n} {rank} {str(measured).lower()}")
                times[own].append(spent * 1e-9)
                shares.setdefault(own, []).append(products / spent)
            for other, work in others.items():
                time.sleep(PAUSE)
                start = time.perf_counter()
                work(a)
                times[other].append(time.perf_counter() - start)
        bound, estimate = (max(x.values()) / float(a.double().norm()) for x in (bounds, estimates))
        for key, (error, *orthogonality) in results.items():
            share = f"{statistics.median(shares[key]):.0%}" if key in shares else ""
            print(f"| {name} | {key} | {statistics.median(times[key]) * 1e3:.4g} | {min(times[key]) * 1e3:.4g} to "
                  f"{max(times[key]) * 1e3:.4g} | {share} | {error:.6g} | {f'{error / bound:.4f}' if bound else ''} | "
                  f"{f'{error / estimate:.4f}' if estimate else ''} | "
                  f"{orthogonality[0]:.1e} | {orthogonality[1]:.1e} |", flush=True)
        for own in ours:
            for other in others:
                faster = statistics.median(o / t for o, t in zip(times[other], times[own]))
                least = min(times[other]) / min(times[own])
                less = results[own][0] <= results[other][0]
                ratios.append(f"| {name} | {own} | {other} | {faster:.2f} | {least:.2f} | "
                              f"{f'{targets[other]:.2f}' if other in targets else ''} | {'yes' if less else 'no'} |")
tensorpress.close()
print("\n| | | than | times as fast | by least times | target | error no larger |\n|---|---|---|---:|---:|---:|---|")
print("\n".join(ratios))
print(f"\nLoad average at the end: {os.getloadavg()[0]:.2f}, this program's own threads included.")
