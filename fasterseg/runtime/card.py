"""The model card: all that deployment must know of a trained network besides its weights.

A checkpoint gives one, and an exported file carries it as JSON in its ONNX metadata, so prediction, evaluation and
`fasterseg info` treat both alike.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter, ValidationError

from fasterseg.base.errors import describe_validation
from fasterseg.base.jsonfile import load_json
from fasterseg.engine.checkpoint import DatasetFacts, NetworkCheckpoint
from fasterseg.networks import Size, measure_size
from fasterseg.networks.families import AnyArchitecture, architecture_from_dict

METADATA_KEY = "fasterseg"
FORMAT = "fasterseg-export"
FORMAT_VERSION = 2


@dataclass(frozen=True)
class ModelCard:
    """What is known of a trained network.

    Attributes:
        architecture: What built the network, of whichever family.
        dataset: Classes, colours and normalisation.
        input_size: (height, width) that an exported file is fixed to, or that a checkpoint was searched for.
        parameters: Trainable values, auxiliary heads included.
        macs: Multiply-accumulates of one evaluation at the input size.
        origins: Hashes of the files it came from, by role.
        scores: Figures measured on it, such as `miou`.
    """

    architecture: AnyArchitecture
    dataset: DatasetFacts
    input_size: Size
    parameters: int
    macs: int
    origins: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The card as strict JSON; scores that are no number (such as an absent class's IoU) are left out."""
        data = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)}
        data["architecture"] = self.architecture.to_dict()
        data["scores"] = {name: score for name, score in self.scores.items() if math.isfinite(score)}
        return json.dumps(data, allow_nan=False)

    @staticmethod
    def from_json(text: str, source: str) -> "ModelCard":
        """The card that `to_json` wrote.

        Args:
            text: The JSON.
            source: What an error message calls it, such as its file.

        Raises:
            ValueError: It is no JSON, of another format or version, or fields are missing or of another type.
        """
        data = load_json(text, f"{source}: the '{METADATA_KEY}' metadata")
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"{source}: the '{METADATA_KEY}' metadata is not of format '{FORMAT}'")
        if data.get("version") != FORMAT_VERSION:
            raise ValueError(
                f"{source} was exported with format version {data.get('version')}, this release reads "
                f"{FORMAT_VERSION}; export the checkpoint again with `fasterseg export`"
            )
        data["architecture"] = architecture_from_dict(data.get("architecture"), f"{source}: architecture")
        try:
            card = _CARD.validate_python(data)
        except ValidationError as error:
            problems = describe_validation(error)
            raise ValueError(f"{source}: the '{METADATA_KEY}' metadata is damaged: {'; '.join(problems)}") from error
        _check_dataset(card.dataset, source)
        return card


_CARD = TypeAdapter(ModelCard)


def checkpoint_card(
    checkpoint: NetworkCheckpoint, *, input_size: Size | None = None, origins: Mapping[str, str] | None = None
) -> ModelCard:
    """The card of a network checkpoint.

    Args:
        checkpoint: The trained network.
        input_size: (height, width) to describe it at; its own when None.
        origins: Hashes to add to the checkpoint's own, by role.
    """
    size = checkpoint.input_size if input_size is None else input_size
    parameters, macs = measure_size(checkpoint.build(), size)
    return ModelCard(
        architecture=checkpoint.architecture,
        dataset=checkpoint.dataset,
        input_size=size,
        parameters=parameters,
        macs=macs,
        origins={**checkpoint.origins, **(origins or {})},
        scores=checkpoint.scores,
    )


def _check_dataset(dataset: DatasetFacts, source: str) -> None:
    """Refuses facts whose lists disagree about the number of classes."""
    counts = {"colors": len(dataset.colors)}
    if dataset.label_ids is not None:
        counts["label_ids"] = len(dataset.label_ids)
    for name, count in counts.items():
        if count != dataset.num_classes:
            raise ValueError(f"{source}: {name} lists {count} entries for {dataset.num_classes} classes")
