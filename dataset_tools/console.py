"""What the commands of this room print: one console, and a dataset in one line."""

from rich.console import Console

from dataset_tools.description import DatasetDescription

CONSOLE = Console(soft_wrap=True, highlight=False, markup=False)


def summarize(description: DatasetDescription) -> str:
    """Name, class count and split sizes in one line."""
    splits = ", ".join(f"{split} {len(samples)}" for split, samples in description.splits.items())
    return f"{description.name}: {description.num_classes} classes; images: {splits}"
