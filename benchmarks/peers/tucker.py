#!/usr/bin/env python3
"""Tucker-2 and CP of kernels of convolutions by NumPy and Tensorpress, taking turns, at the same ranks.

Of each convolution of a model whose windows have several places and whose group is one, Tucker-2 keeps the given parts of both ranks;
CP gets the rank with which it has as many elements. NumPy does what one would write: higher-order orthogonal iteration with
numpy.linalg.svd of unfoldings, or with numpy.linalg.eigh of the Gram matrix of their smaller side in f64 ("by Gram"), from the truncated
SVD of one of them, and alternating least squares with numpy.linalg.lstsq ("CP"). All stop by one rule: the squared error falls by less
than 1e-4 of itself. Errors are relative to the norm; NumPy's is measured on its factors, in f64, and not timed.
"""
import argparse
import os
import statistics
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("models", nargs="+")
parser.add_argument("--keep", type=float, nargs="*", default=[0.25, 0.5], help="of either rank")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--threads", type=int, default=2, help="of each")
parser.add_argument("--no-cp", action="store_true")
parser.add_argument("--processor", action="store_true", help="time of processors, for a busy machine; with --threads 1 threads do not spin")
args = parser.parse_args()
for library in ("OMP", "OPENBLAS", "MKL"):  # before they are loaded
    os.environ[library + "_NUM_THREADS"] = str(args.threads)
from common import need  # noqa: E402

np, onnx = need("numpy", "onnx")
RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "run.sh")
TOLERANCE = 1e-4
PAUSE = 0.1  # seconds until OpenBLAS' threads have stopped to spin


def kernels(path):
    """Kernels of convolutions with a window, as f32 [outputs, inputs, places]."""
    graph = onnx.load(path).graph
    known = {i.name: i for i in graph.initializer}
    known |= {n.output[0]: a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"}
    for n in graph.node:
        groups = next((a.i for a in n.attribute if a.name == "group"), 1)
        if n.op_type == "Conv" and groups == 1 and n.input[1] in known:
            w = onnx.numpy_helper.to_array(known[n.input[1]])
            if w.ndim == 4 and w.shape[2] * w.shape[3] > 1 and min(w.shape[:2]) >= 8:
                yield "x".join(map(str, w.shape)), np.ascontiguousarray(w.reshape(*w.shape[:2], -1), np.float32)


def by_svd(x, rank):
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return u[:, :rank], float((s[:rank].astype(np.float64) ** 2).sum())


def by_gram(x, rank):
    x = x.astype(np.float64)
    wide = x.shape[0] <= x.shape[1]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = float(values[-rank:].sum())
    vectors = vectors[:, -rank:]
    return (vectors if wide else np.linalg.qr(x @ vectors)[0]), kept


def hooi(w, r, q, leading):
    """U, core, V and iterations."""
    m, n, k = w.shape
    squares = float((w.astype(np.float64) ** 2).sum())
    u, v = None, None
    if m <= n:
        u, _ = leading(w.reshape(m, -1), r)
    else:
        v, _ = leading(w.transpose(1, 0, 2).reshape(n, -1), q)
    lost = squares
    for iteration in range(1, 101):
        for side in "vu" if m <= n else "uv":
            if side == "v":
                left = np.tensordot(u.T, w, 1)
                v, kept = leading(left.transpose(1, 0, 2).reshape(n, -1), q)
            else:
                left = np.tensordot(w, v, (1, 0))
                u, kept = leading(left.reshape(m, -1), r)
        now = max(0, squares - kept)
        if lost - now <= TOLERANCE * lost:
            break
        lost = now
    return u, np.tensordot(np.tensordot(u.T, w, 1), v, (1, 0)).transpose(0, 2, 1), v.T, iteration


def tucker_error(w, u, core, v):
    made = np.einsum("or,rqk,qi->oik", *(x.astype(np.float64) for x in (u, core, v)), optimize=True)
    return float(np.linalg.norm(w - made) / np.linalg.norm(w.astype(np.float64)))


def terms(w, rank):
    """CP by alternating least squares, from normal numbers."""
    x = w.astype(np.float64)
    generator = np.random.default_rng(0)
    a, b, s = (generator.standard_normal((side, rank)) for side in w.shape)
    squares = float((x ** 2).sum())
    lost = squares
    for iteration in range(1, 301):
        for side in range(3):
            one, other = [f for i, f in enumerate((a, b, s)) if i != side]
            both = np.einsum("ir,jr->ijr", one, other).reshape(-1, rank)
            unfolded = np.moveaxis(x, side, 0).reshape(x.shape[side], -1)
            found = np.linalg.lstsq((one.T @ one) * (other.T @ other), (unfolded @ both).T, rcond=None)[0].T
            a, b, s = found if side == 0 else a, found if side == 1 else b, found if side == 2 else s
        now = float(((unfolded - s @ both.T) ** 2).sum())
        if lost - now <= TOLERANCE * lost or now < 1e-14 * squares:
            break
        lost = now
    return a, b, s, iteration


def terms_error(w, a, b, s):
    return float(np.linalg.norm(w - np.einsum("or,ir,kr->oik", a, b, s, optimize=True)) / np.linalg.norm(w.astype(np.float64)))


process = subprocess.Popen([RUN, "tucker", str(args.threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(line):
    process.stdin.write(line + "\n")
    process.stdin.flush()
    answer = process.stdout.readline().split()
    if not answer:
        raise SystemExit(f"tucker.py: Tensorpress failed at: {line}")
    return int(answer[args.processor]) * 1e-9, float(answer[2]), int(answer[3])


def timed(work):
    clock = time.process_time if args.processor else time.perf_counter
    start = clock()
    result = work()
    return clock() - start, result


print(f"NumPy {np.__version__}; {args.threads} threads each, medians of {args.rounds} rounds, taking turns{', processor time' if args.processor else ''}; "
      f"load average {os.getloadavg()[0]:.2f}\n")
print("| kernel | ranks | | ms | error | iterations | times of Tensorpress |\n|---|---|---|---:|---:|---:|---:|")
with tempfile.TemporaryDirectory() as folder:
    for model in args.models:
        for number, (name, w) in enumerate(kernels(model)):
            m, n, k = w.shape
            file = os.path.join(folder, f"{os.path.basename(model)}.{number}.f32")
            w.tofile(file)
            for keep in args.keep:
                r, q = max(1, round(m * keep)), max(1, round(n * keep))
                r, q = min(r, q * k), min(q, r * k)
                rank = (r * q * k + m * r + q * n) // (m + n + k)
                jobs = [(f"tucker {file} {m} {n} {k} {r} {q}", f"{r}, {q}", {
                    "NumPy": lambda: hooi(w, r, q, by_svd), "NumPy, by Gram": lambda: hooi(w, r, q, by_gram)}, tucker_error)]
                if not args.no_cp:
                    jobs.append((f"cp {file} {m} {n} {k} {rank}", str(rank), {"NumPy, CP": lambda: terms(w, rank)}, terms_error))
                for line, ranks, others, error in jobs:
                    times = {"Tensorpress": []} | {other: [] for other in others}
                    results = {}
                    for _ in range(3):
                        ask(line)
                    for _ in range(args.rounds):
                        time.sleep(PAUSE)
                        seconds, *results["Tensorpress"] = ask(line)
                        times["Tensorpress"].append(seconds)
                        for other, work in others.items():
                            seconds, factors = timed(work)
                            times[other].append(seconds)
                            results[other] = factors
                            time.sleep(PAUSE)
                    for key, result in results.items():
                        e, iterations = result if key == "Tensorpress" else (error(w, *result[:-1]), result[-1])
                        of = statistics.median(a / b for a, b in zip(times[key], times["Tensorpress"]))
                        print(f"| {name} | {ranks} | {key} | {statistics.median(times[key]) * 1e3:.4g} | {e:.6f} | {iterations} | {of:.1f} |",
                              flush=True)
process.stdin.close()
process.wait()
print(f"\nLoad average at the end: {os.getloadavg()[0]:.2f}, this program's own threads included.")
