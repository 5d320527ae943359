"""After each epoch: how good the supernet's networks are, and which student and teacher follow from them.

Source: FasterSeg, section 3.4 (the score that chooses between the pairs of branches).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from dataset_tools.dataset import LabeledImage
from dataset_tools.description import DatasetDescription
from fasterseg.engine.metrics import SegmentationMetrics
from fasterseg.networks.architecture import Architecture
from fasterseg.networks.derivation import derive_architecture
from fasterseg.networks.resizing import map_size, resize_bilinear
from fasterseg.networks.space import BRANCH_PAIRS, ArchitectureSet, Branches
from search.fitting import BudgetFitter, FittedArchitecture
from search.supernet import PAIR_HEADS, Supernet, SupernetLogits


@dataclass(frozen=True)
class StudentCandidate:
    """A student that the search may choose after an epoch's validation.

    Attributes:
        pair: Output strides at which its branches end.
        fitted: The network, within the budget.
        miou: mIoU of the supernet's head for that pair.
        score: miou · (derived latency / budget) ** exponent.
    """

    pair: Branches
    fitted: FittedArchitecture
    miou: float
    score: float


@torch.inference_mode()
def score_heads(
    supernet: Supernet,
    batches: Iterable[LabeledImage],
    *,
    architecture_set: ArchitectureSet,
    description: DatasetDescription,
    device: torch.device,
) -> dict[str, float]:
    """The mIoU of each of the five heads on labelled images, by its field of `SupernetLogits`.

    All heads come from one pass at the set's most probable widths.
    """
    supernet.eval()
    metrics = {
        name: SegmentationMetrics(description.class_names, ignore_index=description.ignore_index, device=device)
        for name in SupernetLogits._fields
    }
    for batch in batches:
        image, label = batch.image.to(device), batch.label.to(device)
        heads = supernet(image, architecture_set, "most_probable")
        for name, logits in zip(SupernetLogits._fields, heads, strict=True):
            metrics[name].update(resize_bilinear(logits, map_size(image)), label)
    return {name: metric.compute().miou for name, metric in metrics.items()}


def fit_students(supernet: Supernet, fitter: BudgetFitter) -> dict[Branches, FittedArchitecture]:
    """The student of each pair of branches that the fitter knows, within the budget."""
    logits = supernet.architecture("student").logits()
    return {pair: fitter.fit(logits, pair) for pair in fitter.expected.pairs}


def rank_students(
    fitted: Mapping[Branches, FittedArchitecture], *, miou: Mapping[str, float], budget_ms: float, exponent: float
) -> list[StudentCandidate]:
    """The candidates of an epoch, best first.

    Args:
        fitted: The student of each pair.
        miou: What `score_heads` gave for the student set.
        budget_ms: The budget.
        exponent: Weight of the latency in the score. The latency that counts is the one before fitting: it is the
            network that the supernet's mIoU speaks for.
    """
    candidates = []
    for pair, student in fitted.items():
        pair_miou = miou[PAIR_HEADS[pair]]
        score = pair_miou * (student.derived_ms / budget_ms) ** exponent
        candidates.append(StudentCandidate(pair, student, pair_miou, score))
    return sorted(candidates, key=lambda candidate: candidate.score, reverse=True)


def derive_teacher(supernet: Supernet, miou: Mapping[str, float]) -> tuple[Architecture, float]:
    """The teacher with the better pair of branches, and the mIoU of the supernet's head for it."""
    pair = max(BRANCH_PAIRS, key=lambda ends: miou[PAIR_HEADS[ends]])
    logits = supernet.architecture("teacher").logits()
    teacher = derive_architecture(logits, supernet.space, architecture_set="teacher", ends=pair)
    return teacher, miou[PAIR_HEADS[pair]]
