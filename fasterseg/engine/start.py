"""The start of every training stage: the settings that determine its result, the check of its data, seeding."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from fasterseg.engine.config import TrainingConfig
from fasterseg.engine.devices import seed_everything
from fasterseg.engine.distributed import run_in_first
from fasterseg.engine.run_folder import RunFolder, training_settings


def stage_settings(
    stage: str,
    config: TrainingConfig,
    *,
    fabric: Fabric,
    seed: int,
    dataset: Mapping[str, Any],
    origins: Mapping[str, str],
    **sections: Any,
) -> dict[str, Any]:
    """The settings that determine a training stage's result, for `open_run_folder`.

    Args:
        stage: Name of the stage.
        config: The stage's section.
        fabric: The stage's processes.
        seed: The experiment's seed.
        dataset: Settings of the `dataset` section that affect the result.
        origins: Hashes of the files it starts from, by role.
        sections: Settings of other sections that affect the result, by section name.
    """
    return {
        "seed": seed,
        "dataset": dict(dataset),
        **sections,
        stage: training_settings(config, processes=fabric.world_size),
        "origins": dict(origins),
    }


def begin_stage(
    run_folder: RunFolder, product: Path, *, fabric: Fabric, seed: int, check: Callable[[], object]
) -> bool:
    """Checks what a stage reads and seeds all random generators, unless the stage is done.

    Args:
        run_folder: The stage's run folder.
        product: The file that a finished stage leaves.
        fabric: The stage's processes; the first one checks.
        seed: The experiment's seed.
        check: Raises an error for data that the stage cannot train on.

    Returns:
        Whether the stage has to run; False if it is finished.

    Raises:
        ValueError: The data is refused, or the stage is finished but its result is missing.
    """
    if run_folder.finished(product):
        return False
    run_in_first(fabric, check)
    seed_everything(seed)
    return True
