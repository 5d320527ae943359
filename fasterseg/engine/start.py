"""How a training stage starts, whichever it is: what decides its result, a checked dataset, seeded generators."""

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
    """What decides a training stage's result, for `open_run_folder`.

    Args:
        stage: Its name.
        config: Its section.
        fabric: Its processes.
        seed: The experiment's.
        dataset: What of the `dataset` section counts.
        origins: Hashes of what it starts from, by role.
        sections: What of other sections counts, by name.
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
        run_folder: The stage's.
        product: What it leaves in the end.
        fabric: Its processes; the first one checks.
        seed: The experiment's.
        check: Refuses data that the stage cannot train on.

    Returns:
        Whether there is anything left to do.

    Raises:
        ValueError: The data is refused, or the stage is done but its product is gone.
    """
    if run_folder.finished(product):
        return False
    run_in_first(fabric, check)
    seed_everything(seed)
    return True
