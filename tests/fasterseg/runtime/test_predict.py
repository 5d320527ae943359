"""Predictions written to disk, and the pictures that are written."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fasterseg.base.images import read_image, write_png
from fasterseg.base.pictures import overlay
from fasterseg.engine.checkpoint import DatasetFacts, NetworkCheckpoint
from fasterseg.runtime.predict import (
    PictureKind,
    PredictionOutputs,
    find_images,
    picture,
    predict_images,
    submission_archive,
    submission_name,
    to_label_ids,
)
from fasterseg.runtime.predictor import Predictor

BERLIN = "berlin/berlin_000000_000019_leftImg8bit.png"
LABELS = PredictionOutputs(kinds=(PictureKind.LABEL_IDS,))


@pytest.fixture(scope="module")
def predictor(checkpoint: NetworkCheckpoint) -> Predictor:
    return Predictor.from_network(checkpoint.build(), checkpoint.dataset)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_folder_keeps_its_structure(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    images = find_images(folder)
    report = predict_images(predictor, images, out, root=folder)
    assert report.count == 2
    assert report.written == (out / "index", out / "color", out / "overlay")
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert found == [
        f"{kind}/{name}" for kind in ("color", "index", "overlay") for name in (BERLIN, "bonn/with space.png")
    ]
    for image in images:
        pixels = read_image(image)
        ids = read(out / "index" / image.relative_to(folder).with_suffix(".png"))
        assert (ids == predictor.predict(pixels)).all()
        colored = read(out / "color" / image.relative_to(folder).with_suffix(".png"))
        assert (colored == np.asarray(predictor.dataset.colors, np.uint8)[ids]).all()
        blended = read(out / "overlay" / image.relative_to(folder).with_suffix(".png"))
        assert np.abs(blended - (pixels / 2 + colored / 2)).max() <= 1


def test_predictions_are_not_trivial(predictor: Predictor, folder: Path) -> None:
    assert len(np.unique(predictor.predict(read_image(folder / BERLIN)))) > 1


def test_our_own_output_is_not_predicted_again(predictor: Predictor, folder: Path) -> None:
    out = folder / "predictions"
    before = find_images(folder)
    predict_images(predictor, before, out, root=folder)
    assert find_images(folder, excluding=out) == before
    assert len(find_images(folder)) > len(before)


def test_label_ids_and_submission(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    out, submission = tmp_path / "out", tmp_path / "submission.zip"
    outputs = PredictionOutputs(kinds=(PictureKind.INDEX, PictureKind.LABEL_IDS), submission=submission)
    report = predict_images(predictor, find_images(folder), out, root=folder, outputs=outputs)
    assert report.written == (out / "index", out / "label_ids", submission)
    expected = np.array([7, 8, 23, 26])[read(out / "index" / BERLIN)]
    assert (read(out / "label_ids" / BERLIN) == expected).all()
    with zipfile.ZipFile(submission) as archive:
        assert sorted(archive.namelist()) == ["berlin_000000_000019_labelIds.png", "with space_labelIds.png"]
        with Image.open(io.BytesIO(archive.read("berlin_000000_000019_labelIds.png"))) as stored:
            assert (stored.mode, stored.size) == ("L", (96, 64))
            assert (np.asarray(stored) == expected).all()


def test_label_ids_are_checked_before_anything_is_written(
    checkpoint: NetworkCheckpoint, folder: Path, tmp_path: Path
) -> None:
    predictor = Predictor.from_network(checkpoint.build(), replace(checkpoint.dataset, label_ids=None))
    for outputs in (LABELS, PredictionOutputs(submission=tmp_path / "submission.zip")):
        with pytest.raises(ValueError, match="label ids are asked for"):
            predict_images(predictor, find_images(folder), tmp_path / "out", root=folder, outputs=outputs)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unless_told(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    out, images = tmp_path / "out", [folder / BERLIN]
    precious = out / "index" / BERLIN
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    with pytest.raises(ValueError, match=r"leftImg8bit\.png exists already \(1 file\(s\) in all\).*--overwrite"):
        predict_images(predictor, images, out, root=folder)
    assert precious.read_text() == "precious"
    assert not (out / "color").exists()
    predict_images(predictor, images, out, root=folder, outputs=PredictionOutputs(overwrite=True))
    assert read(precious).shape == (64, 96)
    submission = tmp_path / "submission.zip"
    submission.write_text("precious")
    with pytest.raises(ValueError, match=r"submission\.zip exists already"):
        predict_images(predictor, images, tmp_path / "new", outputs=replace(LABELS, submission=submission))


def test_an_unreadable_image_is_named_and_no_submission_left(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    (folder / "bonn" / "zz.png").write_bytes(b"no image")
    outputs = PredictionOutputs(submission=tmp_path / "submission.zip")
    with pytest.raises(ValueError, match=r"image cannot be read: .*zz\.png"):
        predict_images(predictor, find_images(folder), tmp_path / "out", root=folder, outputs=outputs)
    assert not (tmp_path / "submission.zip").exists()
    with pytest.raises(FileNotFoundError, match=r"image not found: .*absent\.png"):
        predict_images(predictor, [folder / "absent.png"], tmp_path / "out")


def test_two_images_of_one_name_are_refused(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    twin = folder / "bonn" / "berlin_000000_000019.png"
    twin.write_bytes((folder / BERLIN).read_bytes())
    both = [folder / BERLIN, twin]
    with pytest.raises(ValueError, match="would both be written as berlin_000000_000019_labelIds.png"):
        outputs = PredictionOutputs(submission=tmp_path / "submission.zip")
        predict_images(predictor, both, tmp_path / "out", root=folder, outputs=outputs)
    jpeg = twin.with_suffix(".jpg")
    with pytest.raises(ValueError, match=r"would both be written as berlin_000000_000019\.png"):
        predict_images(predictor, [twin, jpeg], tmp_path / "out")


def test_empty_folders_and_lists_are_refused(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no image; expected files ending in \.png"):
        find_images(tmp_path)
    with pytest.raises(ValueError, match="there is no image to predict"):
        predict_images(predictor, [], tmp_path)


def test_outputs_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="opacity is 1.5"):
        PredictionOutputs(opacity=1.5)
    with pytest.raises(ValueError, match="nothing is to be written"):
        PredictionOutputs(kinds=())


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
