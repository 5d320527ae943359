"""Example pictures of an evaluation in TensorBoard: image, label and prediction side by side."""

import torch

from fasterseg.base.pictures import example_picture
from fasterseg.engine.checkpoint import DatasetFacts
from fasterseg.engine.evaluation import LabeledBatch
from fasterseg.engine.run_folder import RunFolder


class ExamplePictures:
    """Shows the first image of each of the first batches; hand its `show` to `evaluate`.

    Args:
        run_folder: Whose TensorBoard they go to.
        facts: Colours and normalisation.
        count: How many to show.
        step: The step they belong to.
    """

    def __init__(self, run_folder: RunFolder, facts: DatasetFacts, *, count: int, step: int) -> None:
        self._run_folder, self._facts = run_folder, facts
        self._count, self._step = count, step
        self._shown = 0

    def show(self, batch: LabeledBatch, prediction: torch.Tensor) -> None:
        """Takes a batch and its predicted train ids (N, H, W)."""
        if self._shown >= self._count:
            return
        facts = self._facts
        picture = example_picture(
            batch.image[0].float().cpu().numpy(),
            batch.label[0].cpu().numpy(),
            prediction[0].cpu().numpy(),
            colors=facts.colors,
            mean=facts.mean,
            std=facts.std,
        )
        self._run_folder.picture(f"examples/{self._shown}", picture, self._step)
        self._shown += 1
