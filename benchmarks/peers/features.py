#!/usr/bin/env python3
"""Scores of features and components of sparse data by scikit-learn and Tensorpress, taking turns, of the same f32 numbers.

Scores of dense data [samples, features] of 10 classes: variance, ANOVA, chi squared, regression. Components of sparse data: PCA with
the solver arpack (which scikit-learn 1.5 and later has for sparse data), and covariance_eigh where asked for, and TruncatedSVD, randomized and
arpack. Each of these runs in a process of its own, so that its largest memory is its own; "kept" is the sum of the variances, or of the squares,
relative to arpack's, which iterates until all digits are right. Times are medians over rounds.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--dense", type=int, nargs=2, default=[100000, 512], metavar=("SAMPLES", "FEATURES"))
parser.add_argument("--sparse", type=int, nargs=2, default=[50000, 10000], metavar=("SAMPLES", "FEATURES"))
parser.add_argument("--density", type=float, default=0.001)
parser.add_argument("--rank", type=int, default=50)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--threads", type=int, default=2, help="of each")
parser.add_argument("--eigh", action="store_true", help="also covariance_eigh, which takes minutes and some GB for 10,000 features")
parser.add_argument("--solve", help=argparse.SUPPRESS)
args = parser.parse_args()
for library in ("OMP", "OPENBLAS", "MKL"):  # before they are loaded
    os.environ[library + "_NUM_THREADS"] = str(args.threads)
from common import need  # noqa: E402

np, scipy, sklearn = need("numpy", "scipy", "sklearn")
import scipy.sparse  # noqa: E402
from sklearn.decomposition import PCA, TruncatedSVD  # noqa: E402
from sklearn.feature_selection import chi2, f_classif, f_regression  # noqa: E402

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "run.sh")


def load(folder):
    a = [np.fromfile(os.path.join(folder, n), t) for n, t in (("values", np.float32), ("indices", np.int32), ("offsets", np.int64))]
    return scipy.sparse.csr_matrix((a[0], a[1], a[2].astype(np.int32)), shape=args.sparse)


def solve(name, folder):
    """One decomposition in this process: prints what FeatureWork prints."""
    x = load(folder)
    kind, solver = name.split(":")
    model = PCA(args.rank, svd_solver=solver, random_state=0) if kind == "pca" else TruncatedSVD(args.rank, algorithm=solver, random_state=0)
    start, used = time.perf_counter_ns(), time.process_time_ns()
    model.fit(x)
    nanos, used = time.perf_counter_ns() - start, time.process_time_ns() - used
    kept = model.explained_variance_.sum() if kind == "pca" else (model.singular_values_.astype(np.float64) ** 2).sum()
    resident = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    print(nanos, used, resident, float(kept))


class Tensorpress:
    def __init__(self):
        self.process = subprocess.Popen([RUN, "features", str(args.threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, work, folder, shape):
        self.process.stdin.write(f"{work} {folder} {shape[0]} {shape[1]} {args.rank}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"features.py: Tensorpress failed at: {work}")
        return [float(word) for word in answer.split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(work):
    start, used = time.perf_counter_ns(), time.process_time_ns()
    result = work()
    return [time.perf_counter_ns() - start, time.process_time_ns() - used, 0, float(np.sum(result, dtype=np.float64))]


def middle(rounds, i):
    return statistics.median(r[i] for r in rounds)


def dense(folder):
    n, d = args.dense
    rng = np.random.default_rng(1)
    x = rng.random((n, d), np.float32)
    classes = (np.arange(n) % 10).astype(np.int32)
    x[:, :10] += classes[:, None].astype(np.float32) / 50
    targets = x[:, :5].sum(1, dtype=np.float64) + rng.standard_normal(n)
    for name, a in (("x", x), ("classes", classes), ("targets", targets)):
        a.tofile(os.path.join(folder, name))
    works = {"variance": lambda: x.var(axis=0), "anova": lambda: f_classif(x, classes)[0], "chi": lambda: chi2(x, classes)[0],
             "regression": lambda: f_regression(x, targets)[0]}
    ours = Tensorpress()
    print(f"\n| {n:,} x {d} | scikit-learn, ms | processor ms | Tensorpress, ms | processor ms | times | processor, times | sums differ by |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, work in works.items():
        ours.ask(name, folder, args.dense)
        pairs = [(timed(work), ours.ask(name, folder, args.dense)) for _ in range(args.rounds)]
        theirs, own = [p[0] for p in pairs], [p[1] for p in pairs]
        print(f"| {name} | {middle(theirs, 0) / 1e6:.0f} | {middle(theirs, 1) / 1e6:.0f} | {middle(own, 0) / 1e6:.0f} | {middle(own, 1) / 1e6:.0f} | "
              f"{statistics.median(a[0] / b[0] for a, b in pairs):.1f} | {statistics.median(a[1] / b[1] for a, b in pairs):.1f} | "
              f"{abs(theirs[0][3] - own[0][3]) / abs(own[0][3]):.1e} |", flush=True)
    ours.close()


def sparse(folder):
    x = scipy.sparse.random(*args.sparse, density=args.density, format="csr", dtype=np.float32, random_state=1)
    # Features differ in scale, so that there is something to find.
    x = (x @ scipy.sparse.diags((1 / np.sqrt(1 + np.arange(args.sparse[1]) / 20)).astype(np.float32))).tocsr()
    x.sort_indices()
    x.data.astype(np.float32).tofile(os.path.join(folder, "values"))
    x.indices.astype(np.int32).tofile(os.path.join(folder, "indices"))
    x.indptr.astype(np.int64).tofile(os.path.join(folder, "offsets"))
    names = ["pca:arpack"] + (["pca:covariance_eigh"] if args.eigh else []) + ["tensorpress:pca", "svd:arpack", "svd:randomized", "tensorpress:svd"]
    results = {name: [] for name in names}
    for _ in range(args.rounds):
        for name in names:
            kind, solver = name.split(":")
            if kind == "tensorpress":
                ours = Tensorpress()
                ours.ask(solver, folder, args.sparse)  # a JVM compiles meanwhile
                results[name].append(ours.ask(solver, folder, args.sparse))
                ours.close()
            else:
                shape = [str(s) for s in args.sparse]
                out = subprocess.run([sys.executable, __file__, "--solve", name + "@" + folder, "--rank", str(args.rank), "--sparse", *shape,
                                      "--threads", str(args.threads)], check=True, stdout=subprocess.PIPE, text=True).stdout
                results[name].append([float(word) for word in out.split()])
    print(f"\n| {args.sparse[0]:,} x {args.sparse[1]:,}, {x.nnz:,} entries, {args.rank} components | s | processor s | largest memory, MB | kept |")
    print("|---|---:|---:|---:|---:|")
    for name, rounds in results.items():
        best = results["pca:arpack" if "pca" in name else "svd:arpack"][0][3]
        print(f"| {name} | {middle(rounds, 0) / 1e9:.2f} | {middle(rounds, 1) / 1e9:.2f} | {max(r[2] for r in rounds) * 1.024e-3:.0f} | "
              f"{rounds[0][3] / best:.6f} |", flush=True)


if args.solve:
    solve(*args.solve.split("@"))
else:
    print(f"scikit-learn {sklearn.__version__}, load average {os.getloadavg()[0]:.1f}, {args.rounds} rounds, {args.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        dense(folder)
        sparse(folder)
