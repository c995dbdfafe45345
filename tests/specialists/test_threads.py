"""Thread counts as the runtimes themselves report them."""

import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper

from engine.protocols import Resources
from specialists.threads import (
    device_resources,
    onnxruntime_threads,
    openvino_threads,
    thread_count,
)


@pytest.fixture
def identity(tmp_path):
    """The smallest ONNX model: its answer is its input."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "identity", ports[:1], ports[1:]
    )
    opset = helper.make_opsetid("", 13)
    file = tmp_path / "identity.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), file)
    return file


@pytest.mark.parametrize(
    ("variable", "count"), [("", 1), ("3", 3), ("4,2", 4), ("0", 1), ("many", 1)]
)
def test_thread_count_is_the_runners(monkeypatch, variable, count):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert thread_count() == count


def test_thread_count_without_a_runner_is_one(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert thread_count() == 1


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [("cpu", None, 0), ("cuda:0", None, 1), ("0", None, 1), ("cuda", 0.25, 0.25), ("mps", None, 0)],
)
def test_device_resources_take_a_whole_gpu_unless_told(device, gpus, expected):
    assert device_resources(device, gpus) == Resources(gpus=expected)


def test_onnxruntime_threads_holds_inside_only(identity):
    with onnxruntime_threads(3):
        inside = onnxruntime.InferenceSession(str(identity), providers=["CPUExecutionProvider"])
    outside = onnxruntime.InferenceSession(str(identity), providers=["CPUExecutionProvider"])
    assert inside.get_session_options().intra_op_num_threads == 3
    assert inside.get_session_options().inter_op_num_threads == 1
    assert outside.get_session_options().intra_op_num_threads == 0  # its word for: every core


def test_openvino_threads_holds_inside_only(identity):
    with openvino_threads(1):
        inside = openvino.Core().compile_model(str(identity), "CPU")
    compile_model = openvino.Core.compile_model
    with pytest.raises(RuntimeError, match="leave"), openvino_threads(1):
        raise RuntimeError("leave")
    assert inside.get_property("INFERENCE_NUM_THREADS") == 1
    assert openvino.Core.compile_model is compile_model
