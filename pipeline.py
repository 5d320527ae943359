"""All stages in order, on one experiment file: the main job of the toolkit.

    dataset → latency table → pretrain → search → teacher → student → export → report

A finished stage is skipped, and an interrupted one is resumed. The report compares teacher and student with the budget.
Each stage is also a separate command; this module only calls them in turn. A stage imports what it needs when it runs,
so that `--help` answers at once.
"""

import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel

from dataset_tools.config import DatasetConfig
from fasterseg.base.commandline import Program, SetOption, run_app
from fasterseg.base.console import CONSOLE, format_duration
from fasterseg.base.experiment import Experiment, load_experiment
from fasterseg.base.machine import available_cores
from fasterseg.networks.space import SpaceConfig
from latency.config import LatencyConfig, TargetConfig
from search.config import PretrainConfig, SearchConfig, SupernetTrainConfig
from train.config import BaselinesConfig, StudentConfig, TeacherConfig, TrainConfig, stage_config, stage_folder

if TYPE_CHECKING:
    from latency.table import LatencyTable

SECTIONS: dict[str, type[BaseModel]] = {
    "dataset": DatasetConfig,
    "target": TargetConfig,
    "space": SpaceConfig,
    "latency": LatencyConfig,
    "pretrain": PretrainConfig,
    "search": SearchConfig,
    "teacher": TeacherConfig,
    "student": StudentConfig,
    "baselines": BaselinesConfig,
}


class StageName(StrEnum):
    """The stages in order."""

    DATASET = "dataset"
    LATENCY = "latency"
    PRETRAIN = "pretrain"
    SEARCH = "search"
    TEACHER = "teacher"
    STUDENT = "student"
    EXPORT = "export"
    REPORT = "report"


class Pipeline:
    """One experiment's stages and the files that pass between them.

    Args:
        experiment: Read with all of `SECTIONS`.
    """

    def __init__(self, experiment: Experiment) -> None:
        from latency.table import TABLE_NAME

        self.experiment = experiment
        self.folder = experiment.stage_folder
        self.table_path = self.folder("latency") / TABLE_NAME
        self.architectures = {
            role: self.folder("search") / f"architecture_{role}.json" for role in ("teacher", "student")
        }
        self.checkpoints = {role: self.folder(role) / "best.pt" for role in ("teacher", "student")}
        self.exports = {role: self.folder("export") / f"{role}.onnx" for role in ("teacher", "student")}

    def run(self, until: StageName = StageName.REPORT) -> None:
        """Runs all stages up to and including `until`."""
        stages: dict[StageName, Callable[[], object]] = {
            StageName.DATASET: self.prepare_dataset,
            StageName.LATENCY: self.measure_latency,
            StageName.PRETRAIN: self.pretrain,
            StageName.SEARCH: self.search,
            StageName.TEACHER: self.train_teacher,
            StageName.STUDENT: self.train_student,
            StageName.EXPORT: self.export,
            StageName.REPORT: self.report,
        }
        for number, (name, stage) in enumerate(stages.items(), start=1):
            CONSOLE.rule(f"{number}/{len(stages)} {name}")
            started_s = time.monotonic()
            stage()
            CONSOLE.print(f"{name}: done in {format_duration(time.monotonic() - started_s)}")
            if name == until:
                break

    def prepare_dataset(self) -> None:
        """Generates the synthetic dataset if the experiment asks for one, and checks the splits that are used."""
        from dataset_tools.description import load_description
        from dataset_tools.doctor.examine import verify_split
        from dataset_tools.synthesis.writer import synthesize

        config = self.experiment.section("dataset", DatasetConfig)
        if config.synthesize is not None:
            synthesize(config.root, config.synthesize, workers=available_cores())
        description = load_description(config.root)
        for split in (config.train_split, config.validation_split):
            verify_split(description, split)
        splits = ", ".join(f"{name} {len(samples)}" for name, samples in description.splits.items())
        CONSOLE.print(f"{config.root}: {description.num_classes} classes; images: {splits}")

    def measure_latency(self) -> None:
        """Measures the latency table, and checks before any training that the space can meet the budget."""
        from latency.build import run_table
        from latency.table import LatencyTable

        run_table(self.experiment, out=self.folder("latency"))
        CONSOLE.print(f"the student's budget is {self.budget_ms(LatencyTable.load(self.table_path)):.4g} ms")

    def budget_ms(self, table: "LatencyTable") -> float:
        """The student's latency budget in milliseconds."""
        from latency.budget import resolve_budget_ms

        target = self.experiment.section("target", TargetConfig)
        pairs = self.experiment.section("search", SearchConfig).latency.pairs
        return resolve_budget_ms(target, table, self.experiment.section("space", SpaceConfig), pairs=pairs)

    def pretrain(self) -> None:
        """Pretrains the supernet."""
        from search.pretrain import run_pretrain

        run_pretrain(self.experiment, out=self.folder("pretrain"))

    def search(self) -> None:
        """Searches both architectures."""
        from search.trainer import run_search

        run_search(
            self.experiment,
            out=self.folder("search"),
            table_path=self.table_path,
            pretrained_path=self.folder("pretrain") / "best.pt",
        )

    def train_teacher(self) -> None:
        """Trains the searched teacher."""
        from train.stages import run_teacher
        from train.start import start_fresh

        run_teacher(self.experiment, out=self.folder("teacher"), start=start_fresh(self.architectures["teacher"]))

    def train_student(self) -> None:
        """Trains the searched student with its teacher's logits; a baseline as teacher is trained first."""
        from train.stages import run_baseline, run_student
        from train.start import start_fresh

        teacher = self.experiment.section("student", StudentConfig).teacher
        if teacher != "teacher":
            run_baseline(self.experiment, teacher, out=stage_folder(self.experiment, teacher))
        run_student(
            self.experiment,
            out=self.folder("student"),
            start=start_fresh(self.architectures["student"]),
            teacher_path=stage_folder(self.experiment, teacher) / "best.pt",
        )

    def export(self) -> None:
        """Exports both networks for the target's device; a file exported from the same checkpoint is kept."""
        from fasterseg.base.files import file_digest
        from fasterseg.runtime.export import export_checkpoint
        from fasterseg.runtime.load import load_card
        from latency.table import LatencyTable

        on_cpu = LatencyTable.load(self.table_path).target.device == "cpu"
        for role, checkpoint in self.checkpoints.items():
            path = self.exports[role]
            if path.is_file() and load_card(path).origins.get("checkpoint") == file_digest(checkpoint):
                CONSOLE.print(f"{path} is exported already")
                continue
            report = export_checkpoint(checkpoint, path, last_resize="products" if on_cpu else "node", overwrite=True)
            CONSOLE.print(
                f"wrote {path}: logits agree with PyTorch's to {report.relative_difference:.1e} (relative)",
            )

    def report(self) -> None:
        """Measures the exported files; writes the comparison and pictures of the student's predictions."""
        from latency.table import LatencyTable
        from train.evaluate import Evaluation, run_evaluate
        from train.report import TrainedNetwork, build_report, draw_predictions, write_report

        out = self.folder("report")
        table = LatencyTable.load(self.table_path)
        target = self.experiment.section("target", TargetConfig)
        budget_ms = self.budget_ms(table)
        networks = []
        for role, exported in self.exports.items():
            data = self.experiment.section("dataset", DatasetConfig)
            image_scale = self.experiment.section(role, TrainConfig).image_scale
            evaluation = Evaluation(model=exported, split=data.validation_split, image_scale=image_scale)
            scores = run_evaluate(self.experiment, evaluation, out=self.folder("evaluate") / evaluation.condition)
            budget = budget_ms if role == "student" else None
            networks.append(TrainedNetwork(role, self.checkpoints[role], exported, scores.miou, budget))
        rows = build_report(self.experiment, networks, table=table)
        conditions = {"input size": "×".join(map(str, target.input_size)), **table.conditions.to_dict()}
        write_report(rows, out, conditions=conditions)
        draw_predictions(self.experiment, self.exports["student"], out / "predictions.png", stage="student")
        CONSOLE.print(f"wrote {out}/: report.md, report.json, predictions.png (image, label, prediction)")
        CONSOLE.print(f"next: fasterseg predict {self.exports['student']} IMAGE --out predictions")


def refuse_processes(experiment: Experiment) -> None:
    """Refuses several processes: between training stages the pipeline measures and exports in one process.

    Raises:
        ValueError: `torchrun` started this, or a training has several devices.
    """
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    teacher = experiment.section("student", StudentConfig).teacher
    configs: dict[str, SupernetTrainConfig | TrainConfig] = {
        "pretrain": experiment.section("pretrain", PretrainConfig),
        "search": experiment.section("search", SearchConfig),
        "teacher": experiment.section("teacher", TeacherConfig),
        "student": experiment.section("student", StudentConfig),
        teacher: stage_config(experiment, teacher),
    }
    counts = {name: config.device.devices for name, config in configs.items()}
    several = [f"{name}.device.devices is {count}" for name, count in counts.items() if count > 1]
    if TorchElasticEnvironment.detect():
        several.append("torchrun started it")
    if several:
        raise ValueError(
            f"pipeline.py runs in one process, but {', '.join(several)}; train that stage by itself, such as by "
            "`torchrun --nproc_per_node 4 -m train teacher --config FILE --set teacher.batch_size=N` with a quarter of "
            "the file's batch size, and then run the pipeline, which goes on after it"
        )


app = Program()


@app.command()
def main(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The experiment file.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="The experiment file, as an option.")] = None,
    settings: SetOption = None,
    until: Annotated[StageName, typer.Option("--until", help="The last stage to run.")] = StageName.REPORT,
) -> None:
    """Run every stage of an experiment in order, from its dataset to an exported network and a report.

    Example: python pipeline.py --config configs/toy.yaml
    """
    if (file is None) == (config is None):
        raise typer.BadParameter("name one experiment file, as FILE or by --config, such as configs/toy.yaml")
    path = file or config
    assert path is not None
    experiment = load_experiment(path, settings or [], SECTIONS)
    refuse_processes(experiment)
    Pipeline(experiment).run(until)


if __name__ == "__main__":
    run_app(app)
