"""What the scripts here share."""
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is loaded


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
