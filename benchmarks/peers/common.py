"""What the scripts here share."""
import importlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is loaded
LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tensorpress")


def require(*modules):
    """Ends with one clear line if this Python lacks any of the modules. Imports none."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        script = os.path.basename(sys.argv[0])
        sys.exit(f"{script}: {sys.executable} lacks {', '.join(missing)}: pip install {' '.join(missing)}, "
                 "or name another Python with PYTHON=")


def need(*modules):
    """Imports modules, all of which this Python must have."""
    require(*modules)
    return [importlib.import_module(name) for name in modules]


def size(model):
    """Bytes of an ONNX file, with the external data beside it."""
    return sum(os.path.getsize(model + end) for end in ("", ".data", "_data") if os.path.exists(model + end))


def measure(command):
    """Seconds of wall time, seconds of processors, MiB of peak resident memory."""
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            sys.exit(f"{os.path.basename(sys.argv[0])}: failed: {' '.join(command)}\n{output.read().decode(errors='replace')}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def session(model, threads, spin=True):
    """Of ONNX Runtime. Where time of processors is taken, threads must not spin: waiting is no work."""
    (ort,) = need("onnxruntime")
    ort.set_default_logger_severity(3)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def sentences(model_session, encodings):
    """What a model of sentences is fed, one at a time."""
    (np,) = need("numpy")
    values = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    names = [i.name for i in model_session.get_inputs()]
    return [{name: np.array([getattr(e, values[name])], np.int64) for name in names} for e in encodings]


def processor_times(models, threads, rounds, work):
    """Seconds by model and round: work(session), models in turns, one session at a time, after work that is not timed."""
    times = {model: [] for model in models}
    for _ in range(rounds):
        for model in models:
            s = session(model, threads, spin=False)
            work(s)
            start = time.process_time()
            work(s)
            times[model].append(time.process_time() - start)
    return times


def ratio(times, base):
    """The median over rounds, since those of one round have the same neighbours."""
    return statistics.median(a / b for a, b in zip(times, base))
