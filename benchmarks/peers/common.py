"""What the scripts here share."""
import importlib
import importlib.util
import os
import sys

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
