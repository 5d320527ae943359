"""The search stage: builds supernet, data, latency table and budget, and runs the search."""

from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dataset_tools.config import DatasetConfig
from dataset_tools.experiment_data import ExperimentData
from fasterseg.base.experiment import Experiment
from fasterseg.base.files import file_digest
from fasterseg.engine.devices import build_fabric
from fasterseg.engine.loop import StageResult, run_stage
from fasterseg.engine.run_folder import open_run_folder
from fasterseg.engine.start import begin_stage, stage_settings
from fasterseg.networks.space import SpaceConfig
from latency.budget import latency_range, resolve_budget_ms
from latency.config import TargetConfig
from latency.table import LatencyTable
from search.config import SearchConfig
from search.data import build_search_data
from search.expected_latency import ExpectedLatency
from search.fitting import BudgetFitter
from search.latency_costs import LatticeProblem
from search.stage import SearchStage
from search.training import SupernetLoss, load_supernet

STAGE = "search"
SECTIONS: dict[str, type[BaseModel]] = {
    "dataset": DatasetConfig,
    "target": TargetConfig,
    "space": SpaceConfig,
    STAGE: SearchConfig,
}


def run_search(experiment: Experiment, *, out: Path, table_path: Path, pretrained_path: Path) -> Path:
    """Searches teacher and student, or goes on with it.

    Args:
        experiment: Read with `SECTIONS`.
        out: The run folder.
        table_path: The latency table of the experiment's target.
        pretrained_path: The `best.pt` of the pretrain stage.

    Returns:
        The run folder, with `architecture_teacher.json` and `architecture_student.json`.

    Raises:
        FileNotFoundError: Dataset, table or pretrained supernet is missing.
        ValueError: One of them does not fit, the budget cannot be reached, `out` belongs to another experiment, or a
            loss is not finite.
    """
    config = experiment.section(STAGE, SearchConfig)
    space = experiment.section("space", SpaceConfig)
    data = ExperimentData.load(experiment)
    description = data.description
    fitter = build_fitter(
        LatencyTable.load(table_path),
        target=experiment.section("target", TargetConfig),
        space=space,
        config=config,
        num_classes=description.num_classes,
    )
    supernet = load_supernet(pretrained_path, space=space, num_classes=description.num_classes)
    origins = {
        "dataset": description.digest(),
        "latency_table": file_digest(table_path),
        "pretrained": file_digest(pretrained_path),
    }
    fabric = build_fabric(config.device)
    settings = stage_settings(
        STAGE,
        config,
        fabric=fabric,
        seed=experiment.seed,
        dataset=data.settings(),
        origins=origins,
        **{name: experiment.sections[name].model_dump(mode="json") for name in ("target", "space")},
    )
    with open_run_folder(out, stage=STAGE, settings=settings, fabric=fabric) as run_folder:
        check = partial(data.check, f"{data.config.train_split}+{data.config.validation_split}")
        product = run_folder.path / "architecture_student.json"
        if not begin_stage(run_folder, product, fabric=fabric, seed=experiment.seed, check=check):
            return run_folder.path
        run_folder.log(f"the student's budget is {fitter.budget_ms:.4g} ms")
        stage = SearchStage(
            supernet,
            config=config,
            data=build_search_data(data, config=config, fabric=fabric, seed=experiment.seed),
            fitter=fitter,
            loss=SupernetLoss(config, ignore_index=description.ignore_index, fabric=fabric),
            fabric=fabric,
            run_folder=run_folder,
        )
        result = run_stage(
            stage,
            stage.data.training,
            run_folder,
            fabric=fabric,
            epochs=config.epochs,
            validate_every=config.validate_every,
            log_every=config.log_every,
            save_every_minutes=config.save_every_minutes,
        )
        run_folder.finish(summarize(result, fitter.budget_ms))
        fabric.barrier()
    return run_folder.path


def build_fitter(
    table: LatencyTable, *, target: TargetConfig, space: SpaceConfig, config: SearchConfig, num_classes: int
) -> BudgetFitter:
    """The student's expected latency and its budget, by the table of the target.

    Raises:
        ValueError: The table is of another target or space, or the budget cannot be reached.
    """
    table.check_target(target, space=space, num_classes=num_classes)
    problem = LatticeProblem(space, "student", num_classes, target.input_size)
    expected = ExpectedLatency(
        problem, entry_ms=table.entry_ms, pairs=config.latency.pairs, correction=table.correction
    )
    return BudgetFitter(
        expected,
        predict_ms=table.predict_architecture,
        fastest=latency_range(table, space, pairs=config.latency.pairs).fastest,
        budget_ms=resolve_budget_ms(target, table, space, pairs=config.latency.pairs),
    )


def summarize(result: StageResult, budget_ms: float) -> dict[str, Any]:
    """The summary of a finished search: the figures of the epoch that the student comes from."""
    figures = result.best_figures
    return {
        "architectures": ["architecture_teacher.json", "architecture_student.json"],
        "best_epoch": None if result.best_epoch is None else result.best_epoch + 1,
        "budget_ms": budget_ms,
        "predicted_ms": figures.get("predicted_ms"),
        "derived_ms": figures.get("derived_ms"),
        "expected_ms": figures.get("expected_ms"),
        "supernet_miou": figures.get("miou"),
        "score": figures.get("score"),
        "duration_s": result.duration_s,
    }
