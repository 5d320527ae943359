"""`train prune`: removes filters from a trained network, and reports what was kept and what that changed.

Without an experiment file it prunes and counts. With one it also scores and times the network before and after, trains
between the steps of a progressive pruning, and finds the factor that meets a budget.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dataset_tools.config import DatasetConfig
from fasterseg.base.experiment import Experiment
from fasterseg.base.files import file_digest, write_text
from fasterseg.engine.checkpoint import NetworkCheckpoint, save_network
from fasterseg.engine.run_folder import RunFolder, open_run_folder
from fasterseg.networks import Network
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pruned import base_architecture, build_base, pruned_architecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.networks.space import SpaceConfig
from fasterseg.runtime.load import load_checkpoint
from latency.config import LatencyConfig, TargetConfig
from train.config import BaselinesConfig, StageName, StudentConfig, stage_config
from train.prune.factor import Budget, fit_budget
from train.prune.filters import (
    FilterGraph,
    FilterGroup,
    Plan,
    Ranking,
    check_factor,
    kept_indices,
    largest,
    rank_filters,
)
from train.prune.report import PruneReport, measure_networks, plot_norms, write_prune_report
from train.stages import ARCHITECTURE_NAME, train_network
from train.start import NetworkStart

STAGE = "prune"
SECTIONS: dict[str, type[BaseModel]] = {
    "dataset": DatasetConfig,
    "target": TargetConfig,
    "space": SpaceConfig,
    "latency": LatencyConfig,
    "student": StudentConfig,
    "baselines": BaselinesConfig,
}
KEPT_NAME = "kept_filters.json"
NORMS_NAME = "filter_norms.png"
# how many filters of a group to keep, given the group and the count that the ranking proposes
Choose = Callable[[FilterGroup, int], int]


@dataclass(frozen=True)
class PruneRequest:
    """What to prune, and how.

    Attributes:
        checkpoint: A network checkpoint of any family.
        factor: Fraction of the filters to keep; with a budget the largest fraction.
        ranking: Whether filters compete within their layer or over the whole network.
        progressive: Whether to remove half of the filters first, train the network, and then remove the rest.
        soft: Whether filters are zeroed in place instead of removed.
        budget: The latency budget and its table, or None.

    Raises:
        ValueError: A field has an invalid value.
    """

    checkpoint: Path
    factor: float = 0.5
    ranking: Ranking = "layer"
    progressive: bool = False
    soft: bool = False
    budget: Budget | None = None

    def __post_init__(self) -> None:
        check_factor(self.factor)
        if self.soft and self.progressive:
            raise ValueError("soft and progressive exclude each other: training would change zeroed filters again")

    def steps(self, factor: float) -> tuple[float, ...]:
        """The fraction of the original filters that is left after each step: 3/4, then 1/2 for a progressive 1/2."""
        return ((1 + factor) / 2, factor) if self.progressive and factor < 1 else (factor,)

    def settings(self) -> dict[str, Any]:
        """The settings that determine the result, as plain data."""
        values: dict[str, Any] = {**vars(self), "checkpoint": str(self.checkpoint), "budget": None}
        if self.budget is not None:
            values["budget"] = {"budget_ms": self.budget.budget_ms, "table": file_digest(self.budget.table_path)}
        return {**values, "origins": {"checkpoint": file_digest(self.checkpoint)}}


def run_prune(
    request: PruneRequest, *, out: Path, experiment: Experiment | None = None, choose: Choose | None = None
) -> PruneReport:
    """Prunes a network and writes it as `best.pt`, with the kept filters, a plot of their norms and a report.

    Args:
        request: What to prune, and how.
        out: The run folder.
        experiment: Read with `SECTIONS`; needed to score, time, fit a budget and prune progressively.
        choose: Decides how many filters of each group to keep, such as by asking; None for the ranking's counts.

    Raises:
        FileNotFoundError: The checkpoint, the table or the dataset is missing.
        ValueError: One of them does not fit, no factor meets the budget, or `out` belongs to something else.
    """
    if experiment is None and (request.progressive or request.budget is not None):
        raise ValueError("--progressive and --budget-ms need an experiment file; give it with --config")
    checkpoint = load_checkpoint(request.checkpoint)
    settings = {
        **request.settings(),
        "interactive": choose is not None,
        "sections": _sections(experiment, request, checkpoint),
    }
    with open_run_folder(out, stage=STAGE, settings=settings) as run_folder:
        if run_folder.finished(run_folder.best):
            return PruneReport.from_dict(run_folder.summary())
        factor = request.factor
        if experiment is not None and request.budget is not None:
            factor = fit_budget(checkpoint, request.budget, request=request, experiment=experiment, out=out)
            run_folder.log(f"factor {factor:g} meets the budget of {request.budget.budget_ms:g} ms in prediction")
        pruned, kept = checkpoint, None
        before, steps = 1.0, request.steps(factor)
        for number, part in enumerate(steps):
            if number:
                assert experiment is not None
                pruned = _train_between(pruned, experiment, out=out, number=number)
            plot = out / (NORMS_NAME if part == steps[-1] else f"step_{number + 1}_{NORMS_NAME}")
            pruned, chosen = _prune_once(
                pruned, part / before, request, run_folder=run_folder, plot=plot, choose=choose
            )
            kept, before = _composed(kept, chosen), part
        assert kept is not None
        origins = {**checkpoint.origins, "pruned_from": file_digest(request.checkpoint)}
        save_network(run_folder.best, replace(pruned, origins=origins, scores={}))
        write_text(out / ARCHITECTURE_NAME, json.dumps(pruned.architecture.to_dict(), indent=2) + "\n")
        write_text(out / KEPT_NAME, json.dumps(kept, indent=1) + "\n")
        report = _measure(request, checkpoint, experiment, factor=factor, pruned_path=run_folder.best)
        write_prune_report(report, out)
        run_folder.finish(report.to_dict())
    return report


def _measure(
    request: PruneRequest,
    checkpoint: NetworkCheckpoint,
    experiment: Experiment | None,
    *,
    factor: float,
    pruned_path: Path,
) -> PruneReport:
    """The figures of the network before and after pruning by the factor."""
    size, image_scale = checkpoint.input_size, 1.0
    if experiment is not None:
        size = experiment.section("target", TargetConfig).input_size
        image_scale = stage_config(experiment, training_stage(checkpoint)).image_scale
    files = {"before": request.checkpoint, "after": pruned_path}
    rows = measure_networks(files, input_size=size, image_scale=image_scale, experiment=experiment)
    return PruneReport(factor=factor, ranking=request.ranking, input_size=size, rows=rows)


def training_stage(checkpoint: NetworkCheckpoint) -> StageName:
    """The section whose recipe a network is trained by."""
    base = base_architecture(checkpoint.architecture)
    if isinstance(base, ICNetArchitecture):
        return "icnet"
    return "pspnet50" if isinstance(base, PSPNetArchitecture) else "student"


def _prune_once(
    checkpoint: NetworkCheckpoint,
    part: float,
    request: PruneRequest,
    *,
    run_folder: RunFolder,
    plot: Path,
    choose: Choose | None,
) -> tuple[NetworkCheckpoint, dict[str, list[int]]]:
    """Prunes a network to a fraction of its filters; returns the checkpoint and each convolution's kept filters."""
    network = checkpoint.build()
    graph = FilterGraph(network)
    plan: Plan = rank_filters(graph.groups, part, ranking=request.ranking)
    if choose is not None:
        plan = {group.name: largest(group, choose(group, len(plan[group.name]))) for group in graph.groups}
    kept = kept_indices(graph.groups, plan)
    filters = sum(group.size for group in graph.groups)
    left = sum(map(len, plan.values()))
    verb = "zeroes" if request.soft else "removes"
    run_folder.log(f"{verb} {filters - left} of {filters} coupled filters in {len(graph.groups)} groups")
    plot_norms(graph.groups, plan, plot)
    if request.soft:
        graph.zero(plan)
        return replace(checkpoint, weights=network.state_dict()), kept
    graph.remove(plan)
    return _as_checkpoint(network, checkpoint), kept


def _as_checkpoint(network: Network, checkpoint: NetworkCheckpoint) -> NetworkCheckpoint:
    """The checkpoint with the network's channels and weights."""
    base = base_architecture(checkpoint.architecture)
    original = build_base(base, checkpoint.dataset.num_classes)
    return replace(checkpoint, architecture=pruned_architecture(base, network, original), weights=network.state_dict())


def _train_between(
    checkpoint: NetworkCheckpoint, experiment: Experiment, *, out: Path, number: int
) -> NetworkCheckpoint:
    """The network after training by its family's recipe, in a run folder of this step."""
    folder = out / f"step_{number}"
    path = folder.with_suffix(".pt")
    save_network(path, checkpoint)
    config = stage_config(experiment, training_stage(checkpoint))
    start = NetworkStart(checkpoint.architecture, {"start": file_digest(path)}, checkpoint.weights)
    best = train_network(experiment, config, stage=f"{STAGE}.{training_stage(checkpoint)}", out=folder, start=start)
    return load_checkpoint(best)


def _composed(kept: Mapping[str, list[int]] | None, chosen: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """The kept filters as indices of the original network, after one more step."""
    if kept is None:
        return dict(chosen)
    return {name: [kept[name][index] for index in indices] for name, indices in chosen.items()}


def _sections(experiment: Experiment | None, request: PruneRequest, checkpoint: NetworkCheckpoint) -> dict[str, Any]:
    """The settings of the experiment that determine the result."""
    if experiment is None:
        return {}
    sections: dict[str, Any] = {
        name: experiment.sections[name].model_dump(mode="json") for name in ("dataset", "target", "latency")
    }
    if request.progressive:
        stage = training_stage(checkpoint)
        sections |= {"seed": experiment.seed, stage: stage_config(experiment, stage).model_dump(mode="json")}
    return sections
