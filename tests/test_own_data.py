"""The commands under "Your own data" in the README, run as they stand there: from labelme polygons to an overlay."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
# a set of its own: names and shapes of no public dataset; the first is what lies between the objects
CLASSES = {
    "background": (70, 50, 40),
    "leaf": (60, 160, 60),
    "weed": (150, 190, 40),
    "stone": (150, 150, 155),
    "drip line": (20, 20, 30),
}
SIZE = (96, 128)
# what a person sets for a small machine; the rest is the toy experiment's
SHORTENED = {
    "target": {"input_size": [64, 96], "budget_ms": None, "budget_share": 0.5, "threads": 1},
    "space": {"layers": 8, "base_channels": 2, "widths": [0.5, 1.0], "student_width": 1.0},
    "latency": {"rounds": 3, "round_ms": 0.5, "warmup_ms": 0.5, "correction_networks": 6},
}


def polygon(random: np.random.Generator, corners: int, radius: float) -> list[list[float]]:
    """A star-shaped polygon inside the image."""
    height, width = SIZE
    center = random.uniform((radius, radius), (width - radius, height - radius))
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    radii = random.uniform(0.6 * radius, radius, corners)
    points = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return [[float(x), float(y)] for x, y in points]


def write_annotations(folder: Path, photos: Path) -> None:
    """Photographs of a bed of plants with labelme files beside them, and some photographs without."""
    random = np.random.default_rng(0)
    folder.mkdir()
    photos.mkdir()
    names = list(CLASSES)
    for index in range(24):
        image = np.full((*SIZE, 3), CLASSES["background"], np.float64)
        shapes = []
        for name, corners, radius in (("leaf", 9, 18), ("weed", 5, 12), ("stone", 7, 10), ("leaf", 9, 14)):
            points = polygon(random, corners, radius)
            shapes.append({"label": name, "points": points, "shape_type": "polygon", "group_id": None, "flags": {}})
            cv2.fillPoly(image, [np.round(points).astype(np.int32)], CLASSES[name])
        y = float(random.uniform(10, SIZE[0] - 10))
        line = [[0.0, y], [float(SIZE[1] - 1), y]]
        shapes.append({"label": names[-1], "points": line, "shape_type": "line", "group_id": None, "flags": {}})
        cv2.line(image, (0, round(y)), (SIZE[1] - 1, round(y)), CLASSES[names[-1]], 8)
        image = (image + random.normal(0, 12, image.shape)).clip(0, 255).astype(np.uint8)
        target = folder if index < 20 else photos
        cv2.imwrite(str(target / f"bed {index}.jpg"), image[:, :, ::-1])
        if index < 20:
            data = {
                "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"bed {index}.jpg", "imageData": None,
                "imageHeight": SIZE[0], "imageWidth": SIZE[1],
            }  # fmt: skip
            (folder / f"bed {index}.json").write_text(json.dumps(data))


def readme_commands() -> list[str]:
    section = re.split(r"^## ", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith("Your own data"))
    block = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)[0]
    return [line.split("  #")[0].strip() for line in block.splitlines() if line.strip()]


def shorten(experiment: dict[str, object]) -> dict[str, object]:
    """The README's experiment with stages of a few steps: what is tested is the road, not the network."""
    for name in ("pretrain", "search", "teacher", "student"):
        section = experiment[name]
        assert isinstance(section, dict)
        section |= {"epochs": 1, "iterations_per_epoch": 2, "batch_size": 2, "crop_size_px": [64, 64]}
        if "predict_test_every" in section:
            section["predict_test_every"] = 0
    for name, values in SHORTENED.items():
        section = experiment[name]
        assert isinstance(section, dict)
        section |= values
    experiment["target"] = {k: v for k, v in dict(experiment["target"]).items() if v is not None}  # type: ignore[call-overload]
    return experiment


def test_polygons_of_an_own_set_become_a_predicted_overlay(tmp_path: Path) -> None:
    for name in ("dataset_tools", "latency", "search", "train", "fasterseg", "pipeline.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_annotations(tmp_path / "annotations", tmp_path / "photos")
    toy = yaml.safe_load((ROOT / "configs" / "toy.yaml").read_text())
    toy |= {"name": "mine", "dataset": {"root": "data/mine", "num_workers": 0}}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text(yaml.safe_dump(shorten(toy)))
    commands = readme_commands()
    assert any("convert labelme" in command for command in commands)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for command in commands:
        arguments = shlex.split(command)
        program = [sys.executable, *arguments[1:]] if arguments[0] == "python" else None
        program = program or [sys.executable, "-m", "fasterseg.runtime", *arguments[1:]]
        result = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    description = yaml.safe_load((tmp_path / "data/mine/dataset.yaml").read_text())
    assert sorted(entry["name"] for entry in description["classes"]) == sorted(CLASSES)
    overlays = sorted((tmp_path / "predictions" / "overlay").iterdir())
    assert len(overlays) == 4
    overlay = cv2.imread(str(overlays[0]))
    assert overlay is not None and overlay.shape == (*SIZE, 3)
