import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fasterseg.base.images import read_image, write_png
from fasterseg.base.pictures import overlay
from fasterseg.engine.checkpoint import DatasetFacts
from fasterseg.runtime.pictures import PictureKind, picture, submission_archive, submission_name, to_label_ids

IDS = np.array([[0, 1], [2, 3]], np.uint8)
IMAGE = np.full((2, 2, 3), 100, np.uint8)


def test_index_pictures_keep_their_values(tmp_path: Path) -> None:
    write_png(tmp_path / "a" / "index.png", IDS)
    with Image.open(tmp_path / "a" / "index.png") as stored:
        assert (stored.format, stored.mode) == ("PNG", "L")
        assert (np.asarray(stored) == IDS).all()
    wide = np.array([[0, 300]], np.uint16)
    write_png(tmp_path / "wide.png", wide)
    with Image.open(tmp_path / "wide.png") as stored:
        assert (np.asarray(stored) == wide).all()
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["index.png", "wide.png"]


def test_every_kind_of_picture(dataset: DatasetFacts) -> None:
    pictures = {kind: picture(kind, IMAGE, IDS, dataset, opacity=0.25) for kind in PictureKind}
    assert (pictures[PictureKind.INDEX] == IDS).all()
    assert pictures[PictureKind.LABEL_IDS].tolist() == [[7, 8], [23, 26]]
    assert pictures[PictureKind.COLOR][1, 0].tolist() == [70, 130, 180]
    assert pictures[PictureKind.OVERLAY][1, 0].tolist() == [92, 108, 120]


def test_opacity_goes_from_image_to_colours() -> None:
    colored = np.full((2, 2, 3), 7, np.uint8)
    assert (overlay(IMAGE, colored, 0.0) == IMAGE).all()
    assert (overlay(IMAGE, colored, 1.0) == colored).all()


def test_label_ids_need_a_source_labelling(dataset: DatasetFacts) -> None:
    with pytest.raises(ValueError, match="the model's dataset has none"):
        to_label_ids(IDS, replace(dataset, label_ids=None))
    with pytest.raises(ValueError, match=r"must lie in 0\.\.255.*'car -1'"):
        to_label_ids(IDS, replace(dataset, label_ids=(7, 8, 23, -1)))


def test_images_are_read_as_rgb(tmp_path: Path) -> None:
    path = tmp_path / "ä b.png"
    Image.fromarray(np.array([[[255, 0, 10]]], np.uint8)).save(path)
    assert read_image(path).tolist() == [[[255, 0, 10]]]
    Image.fromarray(np.array([[5]], np.uint8)).save(path)
    assert read_image(path).tolist() == [[[5, 5, 5]]]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_unreadable_images_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"image cannot be read: .*broken\.png"):
        read_image(tmp_path / "broken.png")
    with pytest.raises(FileNotFoundError, match=r"image not found: .*absent\.png"):
        read_image(tmp_path / "absent.png")


def test_submission_names_are_the_servers() -> None:
    assert submission_name(Path("test/berlin/berlin_000000_000019_leftImg8bit.png")) == (
        "berlin_000000_000019_labelIds.png"
    )


def test_a_submission_that_fails_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "submission.zip"
    with pytest.raises(RuntimeError, match="cut"), submission_archive(path) as archive:
        archive.add(Path("a.png"), IDS)
        raise RuntimeError("cut")
    assert list(tmp_path.iterdir()) == []
    with submission_archive(path) as archive:
        archive.add(Path("a.png"), IDS)
    with zipfile.ZipFile(path) as stored:
        assert stored.namelist() == ["a_labelIds.png"]
        decoded = cv2.imdecode(np.frombuffer(stored.read("a_labelIds.png"), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    assert (decoded == IDS).all()
