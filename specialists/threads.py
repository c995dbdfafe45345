"""How many CPU threads and which share of a GPU a model may take, told in the way it obeys.

Environment variables reach OpenMP only. OpenVINO follows CPU affinity, onnxruntime does not (one
allowed core, two used), and both take every core unless a session says otherwise; ultralytics sets
torch's count by itself. So each is told by name, and the runner's variable is the default.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from engine.protocols import Resources


def thread_count() -> int:
    """What `runner.threads` put into OMP_NUM_THREADS, else 1; never what is idle."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else 1


def device_resources(device: str, gpus: float | None) -> Resources:
    """What a worker takes that computes on `device`: a whole CUDA GPU unless a share is given."""
    is_gpu = device.startswith("cuda") or device.isdigit()  # ultralytics takes bare numbers too
    return Resources(gpus=float(is_gpu) if gpus is None else gpus)


@contextlib.contextmanager
def onnxruntime_threads(count: int) -> Iterator[None]:
    """Sessions opened inside compute with that many threads, whoever opens them."""
    import onnxruntime

    unlimited = onnxruntime.InferenceSession

    class LimitedSession(unlimited):  # type: ignore[misc,valid-type]  # onnxruntime has no types
        def __init__(self, model: Any, sess_options: Any = None, *args: Any, **kwargs: Any) -> None:
            options = sess_options or onnxruntime.SessionOptions()
            options.intra_op_num_threads = count
            options.inter_op_num_threads = 1
            super().__init__(model, options, *args, **kwargs)

    onnxruntime.InferenceSession = LimitedSession
    try:
        yield
    finally:
        onnxruntime.InferenceSession = unlimited


@contextlib.contextmanager
def openvino_threads(count: int) -> Iterator[None]:
    """Models compiled inside for the CPU compute with that many threads, whoever compiles them."""
    import openvino

    unlimited = openvino.Core.compile_model

    def compile_limited(core: Any, *args: Any, **kwargs: Any) -> Any:
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": count})
        return unlimited(core, *args, **kwargs)

    openvino.Core.compile_model = compile_limited
    try:
        yield
    finally:
        openvino.Core.compile_model = unlimited
