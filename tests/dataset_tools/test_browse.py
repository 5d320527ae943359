import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from dataset_tools.__main__ import app
from dataset_tools.description import DatasetDescription
from dataset_tools.masks import read_mask, write_mask

MakeDataset = Callable[..., DatasetDescription]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["browse", *(str(argument) for argument in arguments)])


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))


def colors_of(picture: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return {tuple(color) for color in np.unique(picture.reshape(-1, 3), axis=0).tolist()}


def test_png(make_dataset: MakeDataset, tmp_path: Path) -> None:
    description = make_dataset()
    out = tmp_path / "sheet.png"
    result = invoke(description.root, out, "--count", "3")
    assert result.exit_code == 0, result.output
    assert f"wrote {out}: 3 images of tiny, train" in result.output
    picture = pixels(out)
    # two columns of two pictures of 80x48
    assert picture.shape[1] == 18 + 2 * (80 + 6 + 80 + 18)
    assert set(description.colors) <= colors_of(picture)


def test_more_than_there_are(make_dataset: MakeDataset, tmp_path: Path) -> None:
    result = invoke(make_dataset().root, tmp_path / "sheet.png", "--split", "train+val")
    assert "7 images of tiny, train+val" in result.output


@pytest.mark.parametrize("ending", ["png", "html"])
def test_the_seed_decides(make_dataset: MakeDataset, tmp_path: Path, ending: str) -> None:
    root = make_dataset().root
    sheets = []
    for number, seed in enumerate(("1", "1", "2")):
        out = tmp_path / f"{number}.{ending}"
        result = invoke(root, out, "--augment", "--crop", "32x64", "--seed", seed, "--count", "4")
        assert result.exit_code == 0, result.output
        sheets.append(out.read_bytes())
    assert sheets[0] == sheets[1]
    assert sheets[0] != sheets[2]


def test_html(make_dataset: MakeDataset, tmp_path: Path) -> None:
    root = make_dataset().root
    text = (root / "dataset.yaml").read_text()
    (root / "dataset.yaml").write_text(text.replace("name: road", "name: <b>road</b>"))
    out = tmp_path / "sheet.html"
    result = invoke(root, out, "--augment", "--crop", "32x64", "--split", "val")
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert page.count("<img") == 4
    assert "after, 32x64" in page
    assert "street 1.png" in page
    assert "<b>road" not in page
    assert "&lt;b&gt;road&lt;/b&gt;" in page
    assert "http" not in page


def test_class(make_dataset: MakeDataset, tmp_path: Path) -> None:
    description = make_dataset()
    for sample in description.samples("train"):
        assert sample.mask is not None
        label = read_mask(sample.mask).copy()
        if sample.image.name not in ("street 1.png", "street 3.png"):
            label[label == 2] = 0
            write_mask(sample.mask, label.astype(np.uint8))
    result = invoke(description.root, tmp_path / "sheet.png", "--class", "sky", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "street 1.png" in result.output
    assert "street 3.png" in result.output
    assert "would write 2 images" in result.output
    assert not (tmp_path / "sheet.png").exists()
    only_one = invoke(description.root, tmp_path / "sheet.png", "--class", "sky", "--dry-run", "--count", "1")
    assert "would write 1 images" in only_one.output


def test_wrong_use(make_dataset: MakeDataset, tmp_path: Path) -> None:
    description = make_dataset()
    image = description.samples("train")[0].image
    before = image.read_bytes()
    for arguments, message in (
        ((tmp_path / "sheet.jpg",), "ends in .png or .html"),
        ((tmp_path / "sheet.png", "--augment"), "--augment needs the crop"),
        ((tmp_path / "sheet.png", "--crop", "32x32"), "--augment needs the crop"),
        ((tmp_path / "sheet.png", "--augment", "--crop", "30x32"), "not divisible by 32|less than 32"),
        ((tmp_path / "sheet.png", "--class", "boat"), "no class 'boat'"),
        ((tmp_path / "sheet.png", "--split", "tset"), "no split 'tset'"),
        ((image,), "is a file of the dataset"),
    ):
        result = invoke(description.root, *arguments)
        with pytest.raises(ValueError, match=message):
            raise result.exception or AssertionError("no error")
    assert image.read_bytes() == before
    assert not list(tmp_path.glob("sheet*"))


def test_class_that_no_mask_holds(make_dataset: MakeDataset, tmp_path: Path) -> None:
    description = make_dataset(train=2)
    for sample in description.samples("train"):
        assert sample.mask is not None
        write_mask(sample.mask, np.zeros((48, 80), np.uint8))
    result = invoke(description.root, tmp_path / "sheet.png", "--class", "sky")
    assert "no mask of the split 'train' contains the class 'sky'" in str(result.exception)


def test_strange_names(make_dataset: MakeDataset, tmp_path: Path) -> None:
    description = make_dataset(train=1)
    sample = description.samples("train")[0]
    sample.image.rename(sample.image.with_name("東京 'x' <b>.png"))
    (description.root / "train.txt").write_text("\"train/東京 'x' <b>.png\" 'trainannot/street 0.png'\n")
    for name in ("sheet.png", "sheet.html"):
        result = invoke(description.root, tmp_path / name)
        assert result.exit_code == 0, result.output
    assert "東京 &#39;x&#39; &lt;b&gt;.png" in (tmp_path / "sheet.html").read_text()
