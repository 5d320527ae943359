"""The graph that is timed is the operator that is trained and exported."""

import io
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from fasterseg.networks import DeployedNetwork, DerivedNetwork, OperatorSpec, SpaceConfig, derived_specs
from fasterseg.networks.operator_specs import CellSpec, ConvNormActSpec, HeadSpec, ResizeSpec, random_input
from fasterseg.networks.operators import OPERATOR_NAMES
from fasterseg.networks.pyramid import PyramidStageSpec, PyramidSumSpec
from fasterseg.networks.sampling import random_architecture
from fasterseg.runtime.export import onnx_bytes
from latency.runners.graphs import export_graph, half_precision_graph

CELLS = [
    CellSpec(operator=name, in_channels=8, out_channels=16, stride=stride, height=height, width=width)
    for name in OPERATOR_NAMES
    for stride in (1, 2)
    for height, width in ((8, 12), (7, 9))
]
OTHERS = [
    ConvNormActSpec(in_channels=3, out_channels=8, kernel_size=3, stride=2, height=15, width=18),
    HeadSpec(in_channels=8, num_classes=3, height=6, width=8),
    ResizeSpec(in_channels=3, height=6, width=8, out_height=45, out_width=61),
    PyramidSumSpec(in_channels=8, height=7, width=9),
    PyramidStageSpec(in_channels=8, height=7, width=9, out_channels=4, bins=3),
]


def run_model(model: bytes, image: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0])


def compiled_nodes(model: bytes, folder: Path) -> Counter[str]:
    """The node types that ONNX Runtime executes."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def with_random_statistics(module: nn.Module) -> nn.Module:
    """The module with batch norms that do something, so that a norm folded wrongly shows."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.normal_(part.bias)
    return module.eval()


@pytest.mark.parametrize("spec", [*CELLS, *OTHERS], ids=lambda spec: spec.key)
def test_the_timed_graph_computes_what_the_operator_computes(spec: OperatorSpec) -> None:
    torch.manual_seed(0)
    module = with_random_statistics(spec.build())
    image = random_input(spec)
    with torch.inference_mode():
        expected = module(image).numpy()
    np.testing.assert_allclose(run_model(export_graph(module, spec.input_shape()), image), expected, atol=1e-4)


@pytest.mark.parametrize("spec", [*CELLS[::2], *OTHERS], ids=lambda spec: spec.key)
def test_the_timed_graph_executes_the_nodes_of_the_deployed_one(spec: OperatorSpec, tmp_path: Path) -> None:
    module = spec.build().eval()
    timed = compiled_nodes(export_graph(module, spec.input_shape()), tmp_path)
    deployed = compiled_nodes(onnx_bytes(module, spec.input_shape()), tmp_path)
    assert timed == deployed
    assert "BatchNormalization" not in timed or (isinstance(spec, CellSpec) and spec.operator == "skip")


def test_a_deployed_network_executes_the_nodes_of_its_operators(tmp_path: Path) -> None:
    """Besides the operators' own nodes, the exported network has the concatenations of fusion and branches, no more.

    Where the branches part, two operators that read the same map at half size share that resize.
    """
    space, size = SpaceConfig(layers=8, base_channels=4, widths=(0.5, 1.0), student_width=0.5), (64, 96)
    architecture = random_architecture(space, "student", random.Random(3))
    network = DeployedNetwork(DerivedNetwork(architecture, 3)).eval()
    operators: Counter[str] = Counter()
    for spec in derived_specs(architecture, 3, input_size=size):
        operators += compiled_nodes(export_graph(spec.build(), spec.input_shape()), tmp_path)
    exported = compiled_nodes(onnx_bytes(network, (1, 3, *size)), tmp_path)
    assert compiled_nodes(export_graph(network, (1, 3, *size)), tmp_path) == exported
    steps = sum({8: 0, 16: 1, 32: 2}[end] for end in architecture.ends)
    assert exported - operators == Counter({"Concat": steps + 1})
    assert operators - exported in (Counter(), Counter({"Resize": 1}))


def test_the_module_stays_as_it_was() -> None:
    module = CELLS[0].build().train()
    before = io.BytesIO()
    torch.save(module.state_dict(), before)
    export_graph(module, CELLS[0].input_shape())
    after = io.BytesIO()
    torch.save(module.state_dict(), after)
    assert module.training and before.getvalue() == after.getvalue()


@pytest.mark.parametrize("spec", [*CELLS[::2], *OTHERS], ids=lambda spec: spec.key)
def test_half_precision_lies_between_casts(spec: OperatorSpec) -> None:
    torch.manual_seed(0)
    module, image = with_random_statistics(spec.build()), random_input(spec)
    model = half_precision_graph(export_graph(module, spec.input_shape()))
    with torch.inference_mode():
        expected = module(image).numpy()
    output = run_model(model, image)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected, atol=1e-2 * np.abs(expected).max())
    graph = onnx.load_from_string(model).graph
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert [item.type.tensor_type.elem_type for item in (*graph.input, *graph.output)] == [single, single]
    casts = [node.attribute[0].i for node in graph.node if node.op_type == "Cast"]
    assert sorted(casts) == sorted([half, single])
    assert all(weight.data_type == half for weight in graph.initializer if weight.data_type in (half, single))


def test_a_damaged_model_is_refused() -> None:
    with pytest.raises(ValueError, match="the ONNX model is damaged"):
        half_precision_graph(b"not an ONNX file")


def test_a_graph_takes_a_fraction_of_a_deployed_file() -> None:
    """Hundreds of operators are exported for a table; the exporter of deployed files takes half a second for each."""
    spec = CELLS[0]
    module = spec.build().eval()
    least_s = {}
    for export in (export_graph, onnx_bytes):
        durations_s = []
        for _ in range(4):
            start = time.process_time()
            export(module, spec.input_shape())
            durations_s.append(time.process_time() - start)
        least_s[export] = min(durations_s)
    assert least_s[export_graph] < least_s[onnx_bytes] / 4
