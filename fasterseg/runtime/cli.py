"""The `fasterseg` program: what a deployer does with a trained network."""

from pathlib import Path
from typing import Annotated

import typer

from fasterseg.base.commandline import run_app
from fasterseg.base.console import CONSOLE, format_duration
from fasterseg.networks.presets import PRESETS
from fasterseg.runtime.enlarging import LastResize
from fasterseg.runtime.export import DEFAULT_OPSET, export_checkpoint
from fasterseg.runtime.importers.program import (
    CITYSCAPES_SIZE,
    REPORT_NAME,
    ImportRequest,
    ImportResult,
    import_files,
)
from fasterseg.runtime.importers.published import BranchChoice
from fasterseg.runtime.info import describe_card
from fasterseg.runtime.load import Device, load_card, load_predictor
from fasterseg.runtime.pictures import PictureKind
from fasterseg.runtime.predict import (
    DEFAULT_KINDS,
    IMAGE_SUFFIXES,
    PredictionOutputs,
    PredictionReport,
    find_images,
    predict_images,
)
from fasterseg.runtime.predictor import Predictor
from fasterseg.runtime.video import VIDEO_SUFFIXES, predict_video

_LISTED = 6  # names that the terminal shows of a list of tensors

app = typer.Typer(
    help="Predict with, export and inspect trained networks.", no_args_is_help=True, pretty_exceptions_enable=False
)
Model = Annotated[Path, typer.Argument(help="A best.pt, or a .onnx file that `fasterseg export` wrote.")]
InputSize = Annotated[
    tuple[int, int] | None, typer.Option(metavar="HEIGHT WIDTH", help="Size the network sees; see the command.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]


@app.command()
def predict(
    model: Model,
    source: Annotated[Path, typer.Argument(help="An image, a folder of images, or a video.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    input_size: InputSize = None,
    only: Annotated[list[PictureKind] | None, typer.Option(help="Write only this kind of picture; repeatable.")] = None,
    label_ids: Annotated[bool, typer.Option("--label-ids", help="Write ids of the source labelling, too.")] = False,
    submission: Annotated[Path | None, typer.Option(help="Write a zip for the Cityscapes server.")] = None,
    index_frames: Annotated[bool, typer.Option("--index-frames", help="Video: write each frame's ids, too.")] = False,
    opacity: Annotated[float, typer.Option(help="Of the colours in an overlay, 0 to 1.")] = 0.5,
    device: Annotated[Device, typer.Option(help="Where a checkpoint runs.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all cores if left out.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Predict an image, a folder or a video: index, colour and overlay pictures at the images' own size.

    A checkpoint sees images at their own size unless --input-size is given; an exported file has a fixed size.
    """
    predictor = load_predictor(model, input_size=input_size, device=device, threads=threads)
    kinds = tuple(only) if only else DEFAULT_KINDS
    if label_ids and PictureKind.LABEL_IDS not in kinds:
        kinds = (*kinds, PictureKind.LABEL_IDS)
    if source.suffix.lower() in VIDEO_SUFFIXES:
        if only or label_ids or submission is not None:
            raise ValueError(f"{source} is a video; --only, --label-ids and --submission are for images")
        report = predict_video(predictor, source, out, index_frames=index_frames, opacity=opacity, overwrite=overwrite)
    else:
        if index_frames:
            raise ValueError(f"{source} is not a video; --index-frames is for videos")
        outputs = PredictionOutputs(kinds=kinds, submission=submission, overwrite=overwrite, opacity=opacity)
        report = _predict_still(predictor, source, out, outputs)
    _tell(report)


def _predict_still(predictor: Predictor, source: Path, out: Path, outputs: PredictionOutputs) -> PredictionReport:
    """Predicts an image, or a folder with its structure kept."""
    if source.is_dir():
        return predict_images(predictor, find_images(source, excluding=out), out, root=source, outputs=outputs)
    if source.exists() and source.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{source} is of no known kind; expected {', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}")
    return predict_images(predictor, [source], out, outputs=outputs)


def _tell(report: PredictionReport) -> None:
    CONSOLE.print(f"predicted {report.count} image(s) or frame(s) in {format_duration(report.duration_s)}")
    for path in report.written:
        CONSOLE.print(f"wrote {path}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="The best.pt of a teacher or student run.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    input_size: InputSize = None,
    opset: Annotated[int, typer.Option(help="Version of the ONNX operator set.")] = DEFAULT_OPSET,
    last_resize: Annotated[
        LastResize, typer.Option(help="Resize to the image's size: `products` for a CPU, `node` for a GPU.")
    ] = "products",
    overwrite: Overwrite = False,
) -> None:
    """Export a checkpoint to ONNX at a fixed input size and check its logits against PyTorch's.

    Without --input-size the file gets the size that the network was searched for.
    """
    report = export_checkpoint(
        checkpoint, out, input_size=input_size, opset=opset, last_resize=last_resize, overwrite=overwrite
    )
    height, width = report.input_size
    CONSOLE.print(f"logits agree with PyTorch's to {report.relative_difference:.1e} (relative)")
    CONSOLE.print(
        f"wrote {report.path}: input {height}x{width}, opset {report.opset}, {report.size_bytes / 2**20:.1f} MiB",
    )
    CONSOLE.print(f"next: fasterseg predict {report.path} IMAGE --out predictions")


@app.command("import")
def import_command(
    source: Annotated[Path, typer.Argument(help="A released arch_*.pt, or the weights of a published program.")],
    out: Annotated[Path, typer.Option(help="Folder to write architecture.json, best.pt and import.json to.")],
    weights: Annotated[Path | None, typer.Option(help="The weights*.pt that belongs to an arch_*.pt.")] = None,
    architecture: Annotated[
        str | None, typer.Option(help=f"What weights belong to: a file, or one of {', '.join(PRESETS)}.")
    ] = None,
    branches: Annotated[BranchChoice, typer.Option(help="Branches of an arch_*.pt; auto: by its figures.")] = "auto",
    base_channels: Annotated[int, typer.Option(help="F of an arch_*.pt, which does not tell it.")] = 12,
    dataset: Annotated[
        Path | None, typer.Option(help="dataset.yaml with class names and colours; 19 classes are Cityscapes'.")
    ] = None,
    num_classes: Annotated[int | None, typer.Option(help="Classes of a network that starts from ImageNet.")] = None,
    input_size: Annotated[
        tuple[int, int], typer.Option(metavar="HEIGHT WIDTH", help="Size the checkpoint is meant for.")
    ] = CITYSCAPES_SIZE,
    overwrite: Overwrite = False,
) -> None:
    """Import published files: FasterSeg's architectures and weights, ICNet, PSPNet50 (semseg), torchvision's ResNet50.

    Nothing in the files is executed; one that holds more than tensors and plain values is refused.

    Example: fasterseg import arch_1.pt --weights weights1.pt --out imported/student
    """
    result = import_files(
        ImportRequest(
            source=source,
            out=out,
            weights=weights,
            architecture=architecture,
            branches=branches,
            base_channels=base_channels,
            dataset_file=dataset,
            num_classes=num_classes,
            input_size=input_size,
            overwrite=overwrite,
        )
    )
    _tell_import(result, out)


def _tell_import(result: ImportResult, out: Path) -> None:
    for title, names in (("dropped", result.dropped), ("left with fresh values", result.uninitialised)):
        listed = ", ".join(names[:_LISTED]) + (f", ... (all in {out / REPORT_NAME})" if len(names) > _LISTED else "")
        CONSOLE.print(f"{title}: {len(names)} tensors" + (f": {listed}" if names else ""))
    CONSOLE.print(f"wrote {result.architecture} ({result.program})")
    if result.checkpoint is None:
        CONSOLE.print(f"next: python -m train student --architecture {result.architecture} --config FILE")
    else:
        CONSOLE.print(f"wrote {result.checkpoint}")
        CONSOLE.print(f"next: fasterseg info {result.checkpoint}")


@app.command()
def info(model: Model, input_size: InputSize = None) -> None:
    """Print a model's size, classes, architecture, scores and origins.

    --input-size sets the size that a checkpoint's operations are counted at.
    """
    CONSOLE.print(describe_card(load_card(model, input_size=input_size)))


def main() -> None:
    """Entry point of the `fasterseg` program."""
    run_app(app)
