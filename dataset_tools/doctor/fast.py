"""The doctor's fast part, which the training stages run before they start.

A missing file is named after seconds instead of hours into training: every file of the lists is looked for, and an
evenly spaced sample of the pairs is read. Nothing is cached: files may change between two runs.
"""

from collections.abc import Sequence

from dataset_tools.dataset import Sample
from dataset_tools.description import DatasetDescription
from dataset_tools.doctor.examine import check_lists, select_splits
from dataset_tools.doctor.findings import Findings, Severity
from dataset_tools.doctor.inspection import inspect_pair, missing_files
from dataset_tools.doctor.list_checks import Splits
from dataset_tools.doctor.pair_checks import pair_problems
from dataset_tools.doctor.report import Report
from fasterseg.base.text import printable

DEFAULT_SAMPLE_LIMIT = 32


def examine_fast(
    description: DatasetDescription, splits: Splits, *, sample_limit: int | None = DEFAULT_SAMPLE_LIMIT
) -> Report:
    """Checks the lists, that every file exists, and a sample of the pairs.

    Args:
        description: The dataset.
        splits: What to examine.
        sample_limit: How many pairs of all splits together are read; None reads all.

    Returns:
        The findings.
    """
    findings = Findings()
    check_lists(splits, findings)
    present: list[Sample] = []
    for sample in (sample for samples in splits.values() for sample in samples):
        missing = missing_files(sample)
        for problem in missing:
            findings.add(problem.code, problem.detail, sample)
        if not missing:
            present.append(sample)
    chosen = _spread(present, sample_limit)
    for sample in chosen:
        for problem in pair_problems(description, sample, inspect_pair(sample, description.colors)):
            findings.add(problem.code, problem.detail, sample)
    counts = {split: len(samples) for split, samples in splits.items()}
    return Report(description.root, description.name, counts, len(chosen), tuple(findings))


def verify_split(
    description: DatasetDescription, split: str, *, sample_limit: int | None = DEFAULT_SAMPLE_LIMIT
) -> None:
    """Refuses a split with errors; what every stage calls first.

    Args:
        description: The dataset.
        split: Its name, or several joined by "+".
        sample_limit: How many pairs are read to check decoding, sizes and mask values; None reads all.

    Raises:
        ValueError: The split is unknown or empty, or at least one pair is wrong; the message lists the first problems
            of each kind and says how to mend them.
    """
    report = examine_fast(description, select_splits(description, split), sample_limit=sample_limit)
    lines = []
    for finding in report.findings:
        if finding.kind.severity is not Severity.ERROR:
            continue
        lines += [printable(example.detail) for example in finding.examples]
        if finding.count > len(finding.examples):
            lines.append(f"... and {finding.count - len(finding.examples)} more")
        lines.append(f"mend: {finding.kind.mend}")
    if lines:
        raise ValueError(f"split {split!r} of the dataset {description.root} has problems:\n  " + "\n  ".join(lines))


def _spread(samples: Sequence[Sample], limit: int | None) -> Sequence[Sample]:
    """At most `limit` samples, evenly spaced and with the first and the last among them."""
    if limit is None or len(samples) <= limit:
        return samples
    if limit < 2:
        return samples[:limit]
    return [samples[index * (len(samples) - 1) // (limit - 1)] for index in range(limit)]
