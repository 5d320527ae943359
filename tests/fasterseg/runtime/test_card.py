import json
from dataclasses import replace
from typing import Any

import pytest

from fasterseg.engine.checkpoint import NetworkCheckpoint
from fasterseg.networks import measure_size
from fasterseg.runtime.card import ModelCard, checkpoint_card


@pytest.fixture(scope="module")
def card(checkpoint: NetworkCheckpoint) -> ModelCard:
    return checkpoint_card(checkpoint, origins={"checkpoint": "ff"})


def test_json_round_trip_leaves_out_what_is_no_number(card: ModelCard) -> None:
    restored = ModelCard.from_json(card.to_json(), "x")
    assert restored == replace(card, scores={"miou": 0.5})
    assert restored.origins == {"architecture": "0123456789abcdef", "checkpoint": "ff"}


def test_the_card_measures_the_network_at_the_size_asked_for(checkpoint: NetworkCheckpoint) -> None:
    card = checkpoint_card(checkpoint, input_size=(67, 101))
    assert card.input_size == (67, 101)
    assert (card.parameters, card.macs) == measure_size(checkpoint.build(), (67, 101))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "f.onnx: the 'fasterseg' metadata is not of format 'fasterseg-export'"),
        ({"version": 1}, "f.onnx was exported with format version 1, this release reads 2; export .* again"),
        ({"input_size": [64]}, "f.onnx: the 'fasterseg' metadata is damaged: input_size.1"),
        ({"macs": "many"}, "damaged: macs"),
        ({"dataset": {}}, "dataset.class_names: required, but not set.*dataset.colors"),
    ],
)
def test_damaged_metadata_is_refused(card: ModelCard, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelCard.from_json(json.dumps({**json.loads(card.to_json()), **change}), "f.onnx")


@pytest.mark.parametrize("field", ["colors", "label_ids"])
def test_lists_of_different_length_are_refused(card: ModelCard, field: str) -> None:
    data = json.loads(card.to_json())
    data["dataset"][field].pop()
    with pytest.raises(ValueError, match=f"f.onnx: {field} lists 3 entries for 4 classes"):
        ModelCard.from_json(json.dumps(data), "f.onnx")


@pytest.mark.parametrize("text", ["{", "[]", '"card"'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"f\.onnx: the 'fasterseg' metadata"):
        ModelCard.from_json(text, "f.onnx")
