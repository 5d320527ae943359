import numpy as np
import pytest
import torch
from torch import nn

from fasterseg.engine.checkpoint import DatasetFacts
from fasterseg.networks import DeployedNetwork, DerivedNetwork
from fasterseg.runtime.predictor import NetworkBackend, Predictor
from latency.runners import RUNNERS, SessionBackend
from tests.latency.runners.test_runners import searched, with_statistics

DATASET = DatasetFacts(
    class_names=("a", "b", "c"),
    colors=((0, 0, 0), (9, 9, 9), (1, 2, 3)),
    ignore_index=255,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "pytorch"])
def test_a_predictor_scores_what_the_runner_runs(name: str) -> None:
    network = DerivedNetwork(searched(1), 3)
    with_statistics(network)
    session = RUNNERS[name]().prepare(DeployedNetwork(network).eval(), (1, 3, 64, 96))
    images = torch.randn(2, 3, 64, 96)
    deployed = Predictor(SessionBackend(session), DATASET)
    expected = Predictor(NetworkBackend(network), DATASET)
    np.testing.assert_allclose(deployed.logits(images).numpy(), expected.logits(images).numpy(), atol=1e-4)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    assert (deployed.predict(image) == expected.predict(image)).mean() > 0.99


def test_batches_are_refused() -> None:
    session = RUNNERS["pytorch"]().prepare(nn.Identity(), (2, 3, 8, 8))
    with pytest.raises(ValueError, match="prepared for batches of 2, expected 1"):
        SessionBackend(session)
