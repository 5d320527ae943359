import base64
import re
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from dataset_tools.description import DatasetDescription
from dataset_tools.doctor.examine import CheckOptions, examine
from dataset_tools.doctor.report import report_page
from dataset_tools.split import compile_group_pattern

Clean = Callable[..., DatasetDescription]


def page_of(description: DatasetDescription, options: CheckOptions | None = None) -> str:
    report = examine(description, description.splits, options)
    return report_page(report, description)


def pictures(page: str) -> list[np.ndarray]:
    encoded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR) for text in encoded]


def test_clean_page_stands_alone(clean: Clean) -> None:
    page = page_of(clean())
    assert "Nothing was found." in page
    assert "http" not in page
    assert "<img" not in page
    assert page.count('class="swatch"') == 3


def test_pictures_are_overlays(clean: Clean) -> None:
    page = page_of(clean(), CheckOptions(group_pattern=compile_group_pattern(r"(\d)\.png")))
    shown = pictures(page)
    assert [picture.shape for picture in shown] == [(48, 80, 3)] * 4
    assert "train 0.png train.txt:2" in page


def test_a_mask_that_does_not_fit_stands_beside_its_image(clean: Clean) -> None:
    description = clean()
    mask = description.samples("train")[1].mask
    assert mask is not None
    Image.open(mask).convert("RGB").save(mask)
    assert [picture.shape for picture in pictures(page_of(description))] == [(48, 160, 3)]


def test_a_damaged_image_has_no_picture(clean: Clean) -> None:
    description = clean()
    description.samples("train")[1].image.write_bytes(b"damaged")
    page = page_of(description)
    assert "unreadable" in page
    assert "<img" not in page


def test_class_names_are_escaped(clean: Clean) -> None:
    description = clean()
    named = DatasetDescription(
        description.root, "<i>set</i>", ("<b>road</b>", "car", "sky"), description.colors, description.splits
    )
    page = page_of(named)
    assert "<b>road" not in page
    assert "&lt;b&gt;road&lt;/b&gt;" in page
    assert "<i>set" not in page
