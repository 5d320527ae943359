"""The `fasterseg` program: predict with, export, import and inspect trained networks.

Modules that need PyTorch are imported inside the commands, so that `--help` answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import fasterseg
from fasterseg.base.commandline import (
    REPEATED,
    DeviceOption,
    ImageSize,
    InputSizeOption,
    ModelArgument,
    NumClassesOption,
    OverwriteOption,
    Program,
    ThreadsOption,
    run_app,
    say,
    size_option,
)
from fasterseg.base.console import format_duration
from fasterseg.networks.presets import PRESETS
from fasterseg.runtime.choices import (
    DEFAULT_KINDS,
    DEFAULT_OPSET,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    BranchChoice,
    LastResize,
    PictureKind,
)

if TYPE_CHECKING:
    from fasterseg.runtime.importers.program import ImportResult
    from fasterseg.runtime.predict import PredictionOutputs, PredictionReport
    from fasterseg.runtime.predictor import Predictor

_LISTED = 6  # names of tensors that a list on the terminal shows
_CITYSCAPES_SIZE = ImageSize(1024, 2048)

app = Program("Predict with, export and inspect trained networks.")


def _version(asked: bool) -> None:
    if asked:
        say(f"fasterseg {fasterseg.__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Predict with, export and inspect trained networks."""


@app.command()
def predict(
    model: ModelArgument,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="An image, a folder of images, or a video.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    input_size: InputSizeOption = None,
    only: Annotated[
        list[PictureKind] | None, typer.Option(help=f"Write only this kind of picture; {REPEATED}.")
    ] = None,
    label_ids: Annotated[bool, typer.Option("--label-ids", help="Write ids of the source labelling, too.")] = False,
    submission: Annotated[Path | None, typer.Option(help="Write a zip for the Cityscapes server.")] = None,
    index_frames: Annotated[bool, typer.Option("--index-frames", help="Video: write each frame's ids, too.")] = False,
    opacity: Annotated[float, typer.Option(help="Opacity of the colours in an overlay, 0 to 1.")] = 0.5,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Predict an image, a folder or a video: index, colour and overlay pictures at the images' own size.

    A checkpoint sees images at their own size unless --input-size is given; an exported file has a fixed size.
    """
    from fasterseg.runtime.load import load_predictor
    from fasterseg.runtime.predict import PredictionOutputs
    from fasterseg.runtime.video import predict_video

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
    _print_report(report)


def _predict_still(predictor: "Predictor", source: Path, out: Path, outputs: "PredictionOutputs") -> "PredictionReport":
    """Predicts an image, or a folder of images whose structure is kept."""
    from fasterseg.runtime.predict import find_images, predict_images

    if source.is_dir():
        return predict_images(predictor, find_images(source, excluding=out), out, root=source, outputs=outputs)
    if source.exists() and source.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{source} is of no known kind; expected {', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}")
    return predict_images(predictor, [source], out, outputs=outputs)


def _print_report(report: "PredictionReport") -> None:
    say(f"predicted {report.count} image(s) or frame(s) in {format_duration(report.duration_s)}")
    for path in report.written:
        say(f"wrote {path}")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The best.pt of a training stage.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    input_size: InputSizeOption = None,
    opset: Annotated[int, typer.Option(help="Version of the ONNX operator set.")] = DEFAULT_OPSET,
    last_resize: Annotated[
        LastResize, typer.Option(help="Resize to the image's size: `products` for a CPU, `node` for a GPU.")
    ] = "products",
    overwrite: OverwriteOption = False,
) -> None:
    """Export a checkpoint to ONNX at a fixed input size and check its logits against PyTorch's.

    Without --input-size the file gets the size that the network was searched for.
    """
    from fasterseg.runtime.export import export_checkpoint

    report = export_checkpoint(
        model, out, input_size=input_size, opset=opset, last_resize=last_resize, overwrite=overwrite
    )
    height, width = report.input_size
    say(f"logits agree with PyTorch's to {report.relative_difference:.1e} (relative)")
    say(
        f"wrote {report.path}: input {height}x{width}, opset {report.opset}, {report.size_bytes / 2**20:.1f} MiB",
    )
    say(f"next: fasterseg predict {report.path} IMAGE --out predictions")


@app.command("import")
def import_command(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A released arch_*.pt, or the weights of a published program.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write architecture.json, best.pt and import.json to.")],
    weights: Annotated[Path | None, typer.Option(help="The weights*.pt that belongs to an arch_*.pt.")] = None,
    architecture: Annotated[
        str | None, typer.Option(help=f"Architecture of the weights: a file, or one of {', '.join(PRESETS)}.")
    ] = None,
    branches: Annotated[BranchChoice, typer.Option(help="Branches of an arch_*.pt; auto: by its scores.")] = "auto",
    base_channels: Annotated[int, typer.Option(help="F of an arch_*.pt, which does not state it.")] = 12,
    dataset: Annotated[
        Path | None, typer.Option(help="dataset.yaml with class names and colours; 19 classes are Cityscapes'.")
    ] = None,
    num_classes: NumClassesOption = None,
    input_size: Annotated[
        ImageSize, size_option("--input-size", "Size the checkpoint is meant for.", default=_CITYSCAPES_SIZE)
    ] = _CITYSCAPES_SIZE,
    overwrite: OverwriteOption = False,
) -> None:
    """Import published files: FasterSeg's architectures and weights, ICNet, PSPNet50 (semseg), torchvision's ResNet50.

    Nothing in the files is executed; one that holds more than tensors and plain values is refused.

    Example: fasterseg import arch_1.pt --weights weights1.pt --out imported/student
    """
    from fasterseg.runtime.importers.program import ImportRequest, import_files

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
    _print_import(result, out)


def _print_import(result: "ImportResult", out: Path) -> None:
    for title, names in (("dropped", result.dropped), ("left with fresh values", result.uninitialised)):
        listed = ", ".join(names[:_LISTED]) + (f", ... (all in {out / 'import.json'})" if len(names) > _LISTED else "")
        say(f"{title}: {len(names)} tensors" + (f": {listed}" if names else ""))
    say(f"wrote {result.architecture} ({result.program})")
    if result.checkpoint is None:
        say(f"next: python -m train student --architecture {result.architecture} --config FILE")
    else:
        say(f"wrote {result.checkpoint}")
        say(f"next: fasterseg info {result.checkpoint}")


@app.command()
def info(model: ModelArgument, input_size: InputSizeOption = None) -> None:
    """Print a model's size, classes, architecture, scores and origins.

    --input-size sets the size that a checkpoint's operations are counted at.
    """
    from fasterseg.runtime.card import describe_card
    from fasterseg.runtime.load import load_card

    say(describe_card(load_card(model, input_size=input_size)))


def main() -> None:
    """Entry point of the `fasterseg` program."""
    run_app(app)
