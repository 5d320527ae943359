"""The largest pruning factor with which the predicted latency meets a budget."""

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fasterseg.base.console import CONSOLE
from fasterseg.base.experiment import Experiment
from fasterseg.engine.checkpoint import NetworkCheckpoint
from fasterseg.networks import OperatorSpec, network_specs
from fasterseg.networks.pruned import base_architecture, build_base, pruned_architecture
from latency.build import build_table
from latency.config import LatencyConfig, TargetConfig
from latency.table import TABLE_NAME, LatencyTable
from train.prune.filters import FilterGraph, Ranking, rank_filters

# factors are multiples of 1/16: most layers then have channel counts that processors compute fast
_STEPS = 16


@dataclass(frozen=True)
class Budget:
    """A latency budget.

    Attributes:
        budget_ms: The most that one inference may take.
        table_path: The latency table that predicts it; operators that it lacks are measured into a copy.

    Raises:
        ValueError: The budget is not above 0.
        FileNotFoundError: There is no such table.
    """

    budget_ms: float
    table_path: Path

    def __post_init__(self) -> None:
        if not self.budget_ms > 0:
            raise ValueError(f"budget_ms is {self.budget_ms}, expected milliseconds above 0")
        if not self.table_path.is_file():
            raise FileNotFoundError(
                f"no latency table at {self.table_path}; `python -m latency table --config FILE` measures one, or name "
                "another with --table"
            )


class PruningWay(Protocol):
    """The fields of a request that determine the layers' sizes."""

    @property
    def factor(self) -> float:
        """The largest fraction of the filters to keep."""

    @property
    def ranking(self) -> Ranking:
        """Whether filters compete within their layer or over the whole network."""


def fit_budget(
    checkpoint: NetworkCheckpoint, budget: Budget, *, request: PruningWay, experiment: Experiment, out: Path
) -> float:
    """The largest factor, in sixteenths and at most the request's, whose predicted time meets the budget.

    Args:
        checkpoint: The network before pruning.
        budget: The latency budget and the table.
        request: The largest factor and the ranking.
        experiment: Read with the sections `target`, `space` and `latency`.
        out: The folder that the extended copy of the table goes to.

    Raises:
        ValueError: No factor meets it, or the table is of another target or class count.
    """
    table_path = out / TABLE_NAME
    if not table_path.exists():
        shutil.copyfile(budget.table_path, table_path)

    def predict_ms(sixteenths: int) -> float:
        specs = _pruned_specs(checkpoint, sixteenths / _STEPS, request.ranking, experiment=experiment)
        predicted = _extend(table_path, specs, checkpoint, experiment=experiment).predict_ms(specs)
        CONSOLE.print(f"factor {sixteenths / _STEPS:g}: predicted {predicted:.4g} ms")
        return predicted

    largest = max(1, int(request.factor * _STEPS))
    smallest_ms = predict_ms(1)
    if smallest_ms > budget.budget_ms:
        raise ValueError(
            f"budget_ms {budget.budget_ms:g} cannot be met by pruning: at a factor of 1/{_STEPS} the network is still "
            f"predicted to take {smallest_ms:.4g} ms; raise the budget, or lower target.input_size"
        )
    if predict_ms(largest) <= budget.budget_ms:
        return largest / _STEPS
    fits, misses = 1, largest
    while misses - fits > 1:
        middle = (fits + misses) // 2
        if predict_ms(middle) <= budget.budget_ms:
            fits = middle
        else:
            misses = middle
    return fits / _STEPS


def _pruned_specs(
    checkpoint: NetworkCheckpoint, factor: float, ranking: Ranking, *, experiment: Experiment
) -> tuple[OperatorSpec, ...]:
    """The operators of the network after pruning by a factor, at the target's input size."""
    network = copy.deepcopy(checkpoint).build()
    graph = FilterGraph(network)
    graph.remove(rank_filters(graph.groups, factor, ranking=ranking))
    num_classes = checkpoint.dataset.num_classes
    base = base_architecture(checkpoint.architecture)
    architecture = pruned_architecture(base, network, build_base(base, num_classes))
    return network_specs(architecture, num_classes, input_size=experiment.section("target", TargetConfig).input_size)


def _extend(
    table_path: Path, specs: tuple[OperatorSpec, ...], checkpoint: NetworkCheckpoint, *, experiment: Experiment
) -> LatencyTable:
    """The table with these operators; measures those that it lacks."""
    table = LatencyTable.load(table_path)
    return build_table(
        table_path,
        target=experiment.section("target", TargetConfig),
        space=table.space,
        protocol=experiment.section("latency", LatencyConfig),
        num_classes=checkpoint.dataset.num_classes,
        extra_specs=specs,
        only_missing=True,
    )
