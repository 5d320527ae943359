"""The commands `python -m dataset_tools convert FORMAT SOURCE OUT`: one per format, with the options of that format.

The arguments and options that all formats share stand once, in `_format`.
"""

import inspect
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dataset_tools.commands import DryRunOption, WorkersOption
from dataset_tools.convert.bdd100k import read_bdd100k
from dataset_tools.convert.camvid import read_camvid
from dataset_tools.convert.cityscapes import MasksFrom, read_cityscapes
from dataset_tools.convert.coco import Crowd, read_coco, read_panoptic
from dataset_tools.convert.coco_files import CocoSplit
from dataset_tools.convert.fasterseg import CustomMasksFrom, read_fasterseg
from dataset_tools.convert.folders import FolderNames, read_folders
from dataset_tools.convert.labelme import LineWidths, read_labelme
from dataset_tools.convert.mapillary import Version, read_mapillary
from dataset_tools.convert.orientation import DrawnOn
from dataset_tools.convert.output import ImageMode, OutputOptions, write_dataset
from dataset_tools.convert.painting import Background, Degenerate, PaintOrder, ShapeOptions, Unlabelled
from dataset_tools.convert.pairing import Unmatched
from dataset_tools.convert.source import Encoding, SourceDataset
from dataset_tools.convert.voc import EncodingChoice, read_voc
from dataset_tools.convert.yolo import Boxes, read_yolo
from dataset_tools.description import summarize
from dataset_tools.lists import read_lines
from fasterseg.base.commandline import Program
from fasterseg.base.console import CONSOLE
from fasterseg.base.text import printable

convert = Program("Make a dataset folder of a set in another form.")

LabelsOption = Annotated[Path | None, typer.Option(help="Label definitions, YAML or CSV.")]
IgnoreOption = Annotated[
    list[str] | None, typer.Option("--ignore", help="Class whose pixels are ignored (255); may be repeated.")
]
SkipOption = Annotated[
    list[str] | None,
    typer.Option("--skip", help="Class whose objects are not painted: what is beneath is seen; may be repeated."),
]
OrderOption = Annotated[
    PaintOrder,
    typer.Option(
        "--order",
        help="Which of two overlapping objects is seen: file, the later one; reversed, the earlier one; area, the "
        "smaller one; class, the one of the higher train id.",
    ),
]
BackgroundOption = Annotated[
    Background,
    typer.Option("--background", help="Pixels without an object: a class `background` (train id 0), or ignored (255)."),
]
DegenerateOption = Annotated[
    Degenerate, typer.Option("--degenerate", help="Outlines of fewer than 3 corners: an error, or left out.")
]
UnlabelledOption = Annotated[
    Unlabelled, typer.Option("--unlabelled", help="Images without a label file or mask: an error, or background alone.")
]
OutputSplitOption = Annotated[
    list[str] | None,
    typer.Option("--split", help="NAME=ANNOTATIONS.json,IMAGES for files of other names; may be repeated."),
]


@convert.callback()
def _convert() -> None:
    """Make a dataset folder of a set in another form: images linked or copied, 8-bit masks, dataset.yaml.

    A conversion that was cut off goes on where it was; the source is only read.
    """


def _write(dataset: SourceDataset, out: Path, options: OutputOptions) -> None:
    """Writes a dataset and says what was done and what comes next."""
    copy, dry_run = options.image_mode == "copy", options.dry_run
    done = write_dataset(dataset, out, options)
    made = "would make" if dry_run else "made"
    parts = [f"{made} {done.made} masks"]
    parts += [f"kept {done.kept} of an earlier run"] if done.kept else []
    parts += [f"{done.without_mask} images have none"] if done.without_mask else []
    where = (
        "nothing was written (--dry-run)" if dry_run else f"images are {'copies' if copy else 'links to the source'}"
    )
    CONSOLE.print(f"{out} ({summarize(done.description)}): {', '.join(parts)}; {where}")
    for reason, count in sorted(done.skipped.items()):
        CONSOLE.print(f"  left out, {printable(reason)}: {count}")
    if not done.skipped:
        CONSOLE.print("  nothing was left out")
    for note in done.notes:
        CONSOLE.print(f"  {printable(note)}")
    next_step = (
        "the same command without --dry-run" if dry_run else f"python -m dataset_tools check {shlex.quote(str(out))}"
    )
    CONSOLE.print(f"next: {next_step}")


def _format(name: str) -> Callable[[Callable[..., SourceDataset]], Callable[..., None]]:
    """Makes a command of a function that lists the source of a format and takes that format's options.

    The command has the arguments SOURCE and OUT, the function's own options, and the options that all formats share.

    Args:
        name: The format.
    """

    def register(read: Callable[..., SourceDataset]) -> Callable[..., None]:
        def command(
            source: Annotated[Path, typer.Argument(help="Folder of the set; only read.")],
            out: Annotated[Path, typer.Argument(help="Dataset folder to make, or to go on with.")],
            *,
            copy: Annotated[bool, typer.Option("--copy", help="Copy the images instead of linking to them.")] = False,
            dry_run: DryRunOption = False,
            unmatched: Annotated[
                Unmatched, typer.Option(help="Images without a mask and masks without an image: an error, or left out.")
            ] = "error",
            drawn_on: Annotated[
                DrawnOn,
                typer.Option(
                    help="What the annotations of images with an EXIF orientation show: the upright picture, or the "
                    "pixels as stored. auto: polygons the upright picture, masks what has their size."
                ),
            ] = "auto",
            workers: WorkersOption = 0,
            **options: Any,
        ) -> None:
            image_mode: ImageMode = "copy" if copy else "link"
            output = OutputOptions(image_mode, dry_run=dry_run, drawn_on=drawn_on, workers=workers)
            _write(read(source, unmatched=unmatched, **options), out, output)

        # typer reads the options from the signature: in place of **options stand those of the format.
        source, out, *shared, _ = inspect.signature(command).parameters.values()
        _, *own = inspect.signature(read).parameters.values()
        own = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in own if option.name != "unmatched"]
        command.__signature__ = inspect.Signature([source, out, *own, *shared])  # type: ignore[attr-defined]
        command.__annotations__ = {**read.__annotations__, **command.__annotations__}
        command.__doc__ = read.__doc__
        convert.command(name)(command)
        return command

    return register


@_format("cityscapes")
def _cityscapes(
    source: Path,
    masks_from: Annotated[MasksFrom, typer.Option(help="Which files the masks are made of.")] = "labelIds",
    annotations: Annotated[str, typer.Option(help="Folder of the annotations: gtFine or gtCoarse.")] = "gtFine",
    labels: LabelsOption = None,
    *,
    unmatched: Unmatched,
) -> SourceDataset:
    """Cityscapes, or a set in its form with label definitions of its own.

    Polygons are painted in the order of their file; labels with an id below 0 are not painted, those with the train id
    255 are ignored.

    Example: python -m dataset_tools convert cityscapes downloads/cityscapes data/cityscapes

    Example: python -m dataset_tools convert cityscapes downloads/own data/own --masks-from polygons --labels labels.csv
    """
    return read_cityscapes(source, masks_from=masks_from, annotations=annotations, labels=labels, unmatched=unmatched)


@_format("camvid")
def _camvid(source: Path, *, unmatched: Unmatched) -> SourceDataset:
    """CamVid in SegNet's layout, or the original with its 32 colours; 11 classes, void is ignored.

    Example: python -m dataset_tools convert camvid downloads/CamVid data/camvid
    """
    return read_camvid(source, unmatched=unmatched)


@_format("bdd100k")
def _bdd100k(source: Path, *, unmatched: Unmatched) -> SourceDataset:
    """BDD100K's semantic segmentation: Cityscapes' 19 classes.

    Example: python -m dataset_tools convert bdd100k downloads/bdd100k data/bdd100k
    """
    return read_bdd100k(source, unmatched=unmatched)


@_format("mapillary")
def _mapillary(
    source: Path,
    version: Annotated[Version, typer.Option(help="Which of the two labellings.")] = "v2.0",
    ignore: IgnoreOption = None,
    all_labels: Annotated[
        bool, typer.Option("--all-labels", help="Make classes of labels that are not evaluated, too.")
    ] = False,
    *,
    unmatched: Unmatched,
) -> SourceDataset:
    """Mapillary Vistas; labels that are not evaluated are ignored.

    Example: python -m dataset_tools convert mapillary downloads/vistas data/vistas --version v1.2
    """
    return read_mapillary(source, version=version, ignore=ignore or (), all_labels=all_labels, unmatched=unmatched)


@_format("coco")
def _coco(
    source: Path,
    panoptic: Annotated[bool, typer.Option("--panoptic", help="Read the panoptic annotations instead.")] = False,
    split: OutputSplitOption = None,
    order: OrderOption = "area",
    background: BackgroundOption = "class",
    crowd: Annotated[
        Crowd, typer.Option(help="Annotations of crowds: as their class, ignored, or left out.")
    ] = "paint",
    ignore: IgnoreOption = None,
    skip: SkipOption = None,
    degenerate: DegenerateOption = "error",
    *,
    unmatched: Unmatched,
) -> SourceDataset:
    """COCO's instance annotations (polygons, run lengths) or panoptic ones.

    --order, --background and --skip are of instances: panoptic segments do not overlap, and what has none is ignored.

    Example: python -m dataset_tools convert coco downloads/coco data/coco --crowd ignore

    Example: python -m dataset_tools convert coco downloads/own data/own --split train=annotations/own.json,photos
    """
    splits = _parse_splits(source, split)
    if panoptic and (skip or order != "area" or background != "class" or degenerate != "error"):
        raise ValueError("--panoptic takes no --skip, --order, --background or --degenerate: its segments are pixels")
    if panoptic:
        return read_panoptic(source, splits=splits, ignore=ignore or (), crowd=crowd, unmatched=unmatched)
    options = _shape_options(order, background, ignore, skip, degenerate)
    return read_coco(source, splits=splits, options=options, crowd=crowd, unmatched=unmatched)


@_format("labelme")
def _labelme(
    source: Path,
    names: Annotated[
        Path | None, typer.Option(help="Text file of class names, one per line, in the order of the train ids.")
    ] = None,
    order: OrderOption = "file",
    background: BackgroundOption = "class",
    ignore: IgnoreOption = None,
    skip: SkipOption = None,
    degenerate: DegenerateOption = "error",
    line_width_px: Annotated[float, typer.Option(min=0, help="Width of lines and line strips.")] = 10,
    point_radius_px: Annotated[float, typer.Option(min=0, help="Radius of points.")] = 5,
    *,
    unmatched: Unmatched,
) -> SourceDataset:
    """A folder of labelme's JSON files, all shape types; the label __ignore__ is ignored.

    Example: python -m dataset_tools convert labelme annotations data/mine --ignore glare --order area
    """
    listed = None if names is None else [line.strip() for _, line in read_lines(names)]
    options = _shape_options(order, background, ignore, skip, degenerate)
    widths = LineWidths(line_width_px, point_radius_px)
    return read_labelme(source, labels=listed, options=options, widths=widths, unmatched=unmatched)


@_format("voc")
def _voc(
    source: Path,
    encoding: Annotated[
        EncodingChoice,
        typer.Option(help="What masks hold; auto: colours where there is a labelmap.txt, indices otherwise."),
    ] = "auto",
    unlabelled: UnlabelledOption = "error",
    ignore: IgnoreOption = None,
    *,
    unmatched: Unmatched,
) -> SourceDataset:
    """PASCAL VOC's form, also CVAT's export "Segmentation mask" with its labelmap.txt; the border (255) is ignored.

    Example: python -m dataset_tools convert voc downloads/VOCdevkit/VOC2012 data/voc
    """
    return read_voc(source, encoding=encoding, ignore=ignore or (), unlabelled=unlabelled, unmatched=unmatched)


@_format("yolo")
def _yolo(
    source: Path,
    data: Annotated[Path | None, typer.Option(help="The data file; the one YAML with `names` when not given.")] = None,
    order: OrderOption = "area",
    background: BackgroundOption = "class",
    boxes: Annotated[Boxes, typer.Option(help="Lines that are boxes: an error, painted, or left out.")] = "error",
    unlabelled: UnlabelledOption = "error",
    ignore: IgnoreOption = None,
    skip: SkipOption = None,
    degenerate: DegenerateOption = "error",
    *,
    unmatched: Unmatched,
) -> SourceDataset:
    """YOLO's polygons (Ultralytics) with their data.yaml, or its semantic masks where that has masks_dir.

    Example: python -m dataset_tools convert yolo downloads/coco8-seg data/coco8 --unlabelled background
    """
    options = _shape_options(order, background, ignore, skip, degenerate)
    return read_yolo(source, data=data, options=options, boxes=boxes, unlabelled=unlabelled, unmatched=unmatched)


@_format("folders")
def _folders(
    source: Path,
    labels: Annotated[Path, typer.Option(help="Label definitions, YAML or CSV: ids or colours and their train ids.")],
    images: Annotated[str, typer.Option(help="Folder of the images, below SOURCE.")] = "images",
    masks: Annotated[str, typer.Option(help="Folder of the masks, below SOURCE.")] = "masks",
    image_suffix: Annotated[str, typer.Option(help="What image names end in, such as _raw.")] = "",
    mask_suffix: Annotated[str, typer.Option(help="What mask names end in, such as _mask.")] = "",
    encoding: Annotated[Encoding, typer.Option(help="Whether masks hold ids or colours.")] = "index",
    *,
    unmatched: Unmatched,
) -> SourceDataset:
    """Plain folders of images and masks of the same names; folders in both are splits.

    Example: python -m dataset_tools convert folders downloads/mine data/mine --labels labels.yaml --mask-suffix _mask
    """
    names = FolderNames(images, masks, image_suffix, mask_suffix)
    return read_folders(source, labels, names=names, encoding=encoding, unmatched=unmatched)


@_format("fasterseg")
def _fasterseg(
    source: Path,
    labels: LabelsOption = None,
    masks_from: Annotated[CustomMasksFrom, typer.Option(help="Which files the masks are made of.")] = "polygons",
    lists: Annotated[
        bool | None,
        typer.Option("--lists/--folders", help="Splits from the mapping lists (default where there are any)."),
    ] = None,
    *,
    unmatched: Unmatched,
) -> SourceDataset:
    """FasterSeg's custom layout: original_images, annotations, a label CSV, mapping lists.

    Polygons are painted in the order of their file; labels with an id below 0 are not painted, those with the train id
    255 are ignored.

    Example: python -m dataset_tools convert fasterseg downloads/route data/route --labels downloads/route/labels.csv
    """
    return read_fasterseg(source, labels=labels, masks_from=masks_from, lists=lists, unmatched=unmatched)


def _shape_options(
    order: PaintOrder,
    background: Background,
    ignore: Sequence[str] | None,
    skip: Sequence[str] | None,
    degenerate: Degenerate,
) -> ShapeOptions:
    """The options of formats that hold objects."""
    return ShapeOptions(order, background, tuple(sorted(ignore or ())), tuple(sorted(skip or ())), degenerate)


def _parse_splits(source: Path, texts: Sequence[str] | None) -> dict[str, CocoSplit]:
    """Reads `NAME=ANNOTATIONS,IMAGES`, both below the source."""
    splits = {}
    for text in texts or ():
        name, _, paths = text.partition("=")
        annotations, _, images = paths.partition(",")
        if not (name and annotations and images):
            raise ValueError(f"--split {text!r}: expected NAME=ANNOTATIONS.json,IMAGES, both below {source}")
        splits[name] = CocoSplit(source / annotations, source / images)
    return splits
