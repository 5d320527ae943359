"""The doctor's report: as data, on the terminal, as JSON, and as an HTML page that stands alone."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dataset_tools.description import DatasetDescription
from dataset_tools.doctor.dataset_checks import WEIGHT_FORMULA, ClassShare
from dataset_tools.doctor.findings import Finding, Severity
from dataset_tools.pictures import data_uri, render_page, sample_picture
from fasterseg.base.text import printable

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_TERMINAL_EXAMPLES = 4
_PICTURES_PER_FINDING = 8
_PICTURE_WIDTH_PX = 360


@dataclass(frozen=True)
class Report:
    """What an examination found.

    Attributes:
        root: The dataset folder.
        name: Name of the dataset; empty where dataset.yaml cannot be read.
        splits: Number of pairs of each examined split.
        read_pairs: How many of them were read.
        findings: The worst first.
        classes: How often each class occurs; empty where not every mask was read.
    """

    root: Path
    name: str
    splits: dict[str, int]
    read_pairs: int
    findings: tuple[Finding, ...]
    classes: tuple[ClassShare, ...] = ()

    @property
    def has_errors(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.kind.severity is Severity.ERROR for finding in self.findings)

    def summary(self) -> str:
        """The verdict in one line."""
        counts = Counter(finding.kind.severity for finding in self.findings)
        named = [f"{counts[severity]} {severity}{'s' * (counts[severity] != 1)}" for severity in Severity]
        kinds = ", ".join(text for text, severity in zip(named, Severity, strict=True) if counts[severity])
        splits = ", ".join(f"{split} {count}" for split, count in self.splits.items())
        total = sum(self.splits.values())
        read = f"{self.read_pairs} of {total} pairs read" if self.read_pairs < total else f"all {total} pairs read"
        return f"{kinds or 'no findings'}; {splits or 'no splits'}; {read}"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "format": "dataset report",
            "version": 1,
            "dataset": self.name,
            "root": str(self.root),
            "splits": self.splits,
            "read_pairs": self.read_pairs,
            "findings": [
                {
                    "code": finding.kind.code,
                    "severity": str(finding.kind.severity),
                    "title": finding.kind.title,
                    "mend": finding.kind.mend,
                    "count": finding.count,
                    "examples": [
                        {"detail": example.detail, "images": [str(sample.image) for sample in example.samples]}
                        for example in finding.examples
                    ],
                }
                for finding in self.findings
            ],
            "classes": [
                {
                    "name": share.name,
                    "pixels": share.pixels,
                    "images": share.images,
                    "share": share.share,
                    "weight": share.weight,
                }
                for share in self.classes
            ],
            "weight_formula": WEIGHT_FORMULA,
        }

    def to_json(self) -> str:
        """The report as JSON in plain ASCII, whatever the file names hold."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


def print_report(report: Report, console: Console) -> None:
    """Prints a report.

    Args:
        report: What was found.
        console: Where to.
    """
    for finding in report.findings:
        kind = finding.kind
        console.print(Text(f"{kind.severity} {kind.code}", _STYLES[kind.severity]), f"({finding.count}): {kind.title}")
        for example in finding.examples[:_TERMINAL_EXAMPLES]:
            console.print(Text(f"    {printable(example.detail)}"))
        hidden = finding.count - min(_TERMINAL_EXAMPLES, len(finding.examples))
        if hidden:
            console.print(f"    ... and {hidden} more")
        console.print(f"  mend: {kind.mend}")
    if report.classes:
        console.print(_class_table(report), soft_wrap=False)
        console.print(f"loss weight = {WEIGHT_FORMULA}")


def _class_table(report: Report) -> Table:
    """Share, images and weight of each class."""
    table = Table("class", *(f"images {split}" for split in report.classes[0].images), "pixels %", "loss weight")
    for column in table.columns[1:]:
        column.justify = "right"
    for share in report.classes:
        images = (str(number) for number in share.images.values())
        table.add_row(Text(printable(share.name)), *images, f"{100 * share.share:.3f}", f"{share.weight:.2f}")
    return table


def report_page(report: Report, description: DatasetDescription | None) -> str:
    """Makes the HTML page, with the first files of each finding as pictures.

    Args:
        report: What was found.
        description: The dataset; None where dataset.yaml cannot be read.

    Returns:
        The HTML.
    """
    return render_page(
        "doctor.html.j2",
        report=report,
        findings=[
            {
                "kind": finding.kind,
                "count": finding.count,
                "details": [example.detail for example in finding.examples],
                "hidden": finding.count - len(finding.examples),
                "pictures": [] if description is None else _pictures(finding, description),
            }
            for finding in report.findings
        ],
        largest_share=max((share.share for share in report.classes), default=0) or 1,
        weight_formula=WEIGHT_FORMULA,
    )


def _pictures(finding: Finding, description: DatasetDescription) -> list[dict[str, str]]:
    """The first files of a finding; those that cannot be shown are left out."""
    pictures = []
    samples = dict.fromkeys(sample for example in finding.examples for sample in example.samples)
    for sample in list(samples)[:_PICTURES_PER_FINDING]:
        picture = sample_picture(
            sample, description.colors, ignore_index=description.ignore_index, width_px=_PICTURE_WIDTH_PX
        )
        if picture is not None:
            caption = f"{sample.image.name} {sample.origin}".strip()
            pictures.append({"source": data_uri(picture), "caption": caption})
    return pictures
