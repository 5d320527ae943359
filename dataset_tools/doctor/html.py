"""The doctor's report as an HTML page that stands alone, with the findings' first files as pictures."""

from dataclasses import dataclass

from dataset_tools.dataset import Sample
from dataset_tools.doctor.class_checks import WEIGHT_FORMULA
from dataset_tools.doctor.findings import Finding, FindingKind
from dataset_tools.doctor.report import Report
from dataset_tools.masks import Rgb
from dataset_tools.pages import render_page
from dataset_tools.pictures import data_uri, sample_picture

_PICTURES_PER_FINDING = 8
_PICTURE_WIDTH_PX = 360


@dataclass(frozen=True)
class _Picture:
    source: str
    caption: str


@dataclass(frozen=True)
class _ShownFinding:
    """A finding as the page shows it."""

    kind: FindingKind
    count: int
    details: tuple[str, ...]
    hidden: int
    pictures: tuple[_Picture, ...]


def report_page(report: Report, *, colors: tuple[Rgb, ...], ignore_index: int) -> str:
    """Makes the page.

    Args:
        report: What was found.
        colors: RGB of each class; empty where dataset.yaml cannot be read.
        ignore_index: Mask value of pixels without a label.

    Returns:
        The HTML.
    """
    return render_page(
        "doctor.html.j2",
        report=report,
        findings=[_show(finding, colors, ignore_index) for finding in report.findings],
        largest_share=max((share.share for share in report.classes), default=0) or 1,
        weight_formula=WEIGHT_FORMULA,
    )


def _show(finding: Finding, colors: tuple[Rgb, ...], ignore_index: int) -> _ShownFinding:
    """Reads the first files of a finding; those that cannot be shown are left out."""
    samples: dict[Sample, None] = {}
    for example in finding.examples:
        samples.update(dict.fromkeys(example.samples))
    pictures = []
    for sample in list(samples)[:_PICTURES_PER_FINDING]:
        picture = sample_picture(sample, colors, ignore_index=ignore_index, width_px=_PICTURE_WIDTH_PX)
        if picture is not None:
            pictures.append(_Picture(data_uri(picture), f"{sample.image.name} {sample.origin}".strip()))
    return _ShownFinding(
        kind=finding.kind,
        count=finding.count,
        details=tuple(example.detail for example in finding.examples),
        hidden=finding.count - len(finding.examples),
        pictures=tuple(pictures),
    )
