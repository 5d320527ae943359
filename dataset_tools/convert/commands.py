"""The commands `python -m dataset_tools convert FORMAT SOURCE OUT`: one per format, with the options of that format."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from dataset_tools.convert.bdd100k import read_bdd100k
from dataset_tools.convert.camvid import read_camvid
from dataset_tools.convert.cityscapes import MasksFrom, read_cityscapes
from dataset_tools.convert.coco import Crowd, read_coco
from dataset_tools.convert.fasterseg import CustomMasksFrom, read_fasterseg
from dataset_tools.convert.folders import FolderNames, Unmatched, read_folders
from dataset_tools.convert.labelme import LineWidths, read_labelme
from dataset_tools.convert.mapillary import Version, read_mapillary
from dataset_tools.convert.options import (
    BackgroundOption,
    CopyOption,
    DryRunOption,
    IgnoreOption,
    LabelsOption,
    OrderOption,
    OutArgument,
    SkipOption,
    SourceArgument,
    SplitOption,
    WorkersOption,
    parse_splits,
    shape_options,
)
from dataset_tools.convert.output import OutputOptions, write_dataset
from dataset_tools.convert.panoptic import read_panoptic
from dataset_tools.convert.source import Encoding, SourceDataset
from dataset_tools.convert.voc import EncodingChoice, read_voc
from dataset_tools.convert.yolo import Boxes, Unlabelled, read_yolo
from dataset_tools.description import summarize
from dataset_tools.quoting import read_list_lines
from fasterseg.base.console import CONSOLE
from fasterseg.base.text import printable

convert = typer.Typer(help="Make a dataset folder of a set in another form.", no_args_is_help=True)


@convert.callback()
def _convert() -> None:
    """Make a dataset folder of a set in another form: images linked or copied, 8-bit masks, dataset.yaml.

    A conversion that was cut off goes on where it was; the source is only read.
    """


def _write(dataset: SourceDataset, out: Path, *, copy: bool, dry_run: bool, workers: int) -> None:
    """Writes a dataset and says what was done and what comes next."""
    options = OutputOptions(image_mode="copy" if copy else "link", dry_run=dry_run, workers=workers)
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
    next_step = (
        "the same command without --dry-run" if dry_run else f"python -m dataset_tools check {shlex.quote(str(out))}"
    )
    CONSOLE.print(f"next: {next_step}")


@convert.command("cityscapes")
def cityscapes_command(
    source: SourceArgument,
    out: OutArgument,
    masks_from: Annotated[MasksFrom, typer.Option(help="Which files the masks are made of.")] = "labelIds",
    annotations: Annotated[str, typer.Option(help="Folder of the annotations: gtFine or gtCoarse.")] = "gtFine",
    labels: LabelsOption = None,
    copy: CopyOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = 0,
) -> None:
    """Cityscapes, or a set in its form with label definitions of its own.

    Polygons are painted in the order of their file; labels with an id below 0 are not painted, those with the train id
    255 are ignored.

    Example: python -m dataset_tools convert cityscapes downloads/cityscapes data/cityscapes

    Example: python -m dataset_tools convert cityscapes downloads/own data/own --masks-from polygons --labels labels.csv
    """
    dataset = read_cityscapes(source, masks_from=masks_from, annotations=annotations, labels=labels)
    _write(dataset, out, copy=copy, dry_run=dry_run, workers=workers)


@convert.command("camvid")
def camvid_command(
    source: SourceArgument,
    out: OutArgument,
    copy: CopyOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = 0,
) -> None:
    """CamVid in SegNet's layout, or the original with its 32 colours; 11 classes, void is ignored.

    Example: python -m dataset_tools convert camvid downloads/CamVid data/camvid
    """
    _write(read_camvid(source), out, copy=copy, dry_run=dry_run, workers=workers)


@convert.command("bdd100k")
def bdd100k_command(
    source: SourceArgument,
    out: OutArgument,
    copy: CopyOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = 0,
) -> None:
    """BDD100K's semantic segmentation: Cityscapes' 19 classes.

    Example: python -m dataset_tools convert bdd100k downloads/bdd100k data/bdd100k
    """
    _write(read_bdd100k(source), out, copy=copy, dry_run=dry_run, workers=workers)


@convert.command("mapillary")
def mapillary_command(
    source: SourceArgument,
    out: OutArgument,
    version: Annotated[Version, typer.Option(help="Which of the two labellings.")] = "v2.0",
    ignore: IgnoreOption = None,
    all_labels: Annotated[
        bool, typer.Option("--all-labels", help="Make classes of labels that are not evaluated, too.")
    ] = False,
    copy: CopyOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = 0,
) -> None:
    """Mapillary Vistas; labels that are not evaluated are ignored.

    Example: python -m dataset_tools convert mapillary downloads/vistas data/vistas --version v1.2
    """
    dataset = read_mapillary(source, version=version, ignore=ignore or (), all_labels=all_labels)
    _write(dataset, out, copy=copy, dry_run=dry_run, workers=workers)


@convert.command("coco")
def coco_command(
    source: SourceArgument,
    out: OutArgument,
    panoptic: Annotated[bool, typer.Option("--panoptic", help="Read the panoptic annotations instead.")] = False,
    split: SplitOption = None,
    order: OrderOption = "area",
    background: BackgroundOption = "class",
    crowd: Annotated[
        Crowd, typer.Option(help="Annotations of crowds: as their class, ignored, or left out.")
    ] = "paint",
    ignore: IgnoreOption = None,
    skip: SkipOption = None,
    copy: CopyOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = 0,
) -> None:
    """COCO's instance annotations (polygons, run lengths) or panoptic ones.

    --order, --background and --skip are of instances: panoptic segments do not overlap, and what has none is ignored.

    Example: python -m dataset_tools convert coco downloads/coco data/coco --crowd ignore

    Example: python -m dataset_tools convert coco downloads/own data/own --split train=annotations/own.json,photos
    """
    splits = parse_splits(source, split)
    if panoptic and (skip or order != "area" or background != "class"):
        raise ValueError("--panoptic takes no --skip, --order or --background: its segments do not overlap")
    if panoptic:
        dataset = read_panoptic(source, splits=splits, ignore=ignore or (), crowd=crowd)
    else:
        options = shape_options(order, background, ignore, skip)
        dataset = read_coco(source, splits=splits, options=options, crowd=crowd)
    _write(dataset, out, copy=copy, dry_run=dry_run, workers=workers)


@convert.command("labelme")
def labelme_command(
    source: SourceArgument,
    out: OutArgument,
    names: Annotated[
        Path | None, typer.Option(help="Text file of class names, one per line, in the order of the train ids.")
    ] = None,
    order: OrderOption = "file",
    background: BackgroundOption = "class",
    ignore: IgnoreOption = None,
    skip: SkipOption = None,
    line_width_px: Annotated[float, typer.Option(min=0, help="Width of lines and line strips.")] = 10,
    point_radius_px: Annotated[float, typer.Option(min=0, help="Radius of points.")] = 5,
    copy: CopyOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = 0,
) -> None:
    """A folder of labelme's JSON files, all shape types; the label __ignore__ is ignored.

    Example: python -m dataset_tools convert labelme annotations data/mine --ignore glare --order area
    """
    listed = None if names is None else [line.strip() for _, line in read_list_lines(names)]
    options = shape_options(order, background, ignore, skip)
    dataset = read_labelme(source, labels=listed, options=options, widths=LineWidths(line_width_px, point_radius_px))
    _write(dataset, out, copy=copy, dry_run=dry_run, workers=workers)


@convert.command("voc")
def voc_command(
    source: SourceArgument,
    out: OutArgument,
    encoding: Annotated[
        EncodingChoice,
        typer.Option(help="What masks hold; auto: colours where there is a labelmap.txt, indices otherwise."),
    ] = "auto",
    ignore: IgnoreOption = None,
    copy: CopyOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = 0,
) -> None:
    """PASCAL VOC's form, also CVAT's export "Segmentation mask" with its labelmap.txt; the border (255) is ignored.

    Example: python -m dataset_tools convert voc downloads/VOCdevkit/VOC2012 data/voc
    """
    dataset = read_voc(source, encoding=encoding, ignore=ignore or ())
    _write(dataset, out, copy=copy, dry_run=dry_run, workers=workers)


@convert.command("yolo")
def yolo_command(
    source: SourceArgument,
    out: OutArgument,
    data: Annotated[Path | None, typer.Option(help="The data file; the one YAML with `names` when not given.")] = None,
    order: OrderOption = "area",
    background: BackgroundOption = "class",
    boxes: Annotated[Boxes, typer.Option(help="Lines that are boxes: an error, painted, or left out.")] = "error",
    unlabelled: Annotated[Unlabelled, typer.Option(help="Images without a label file.")] = "error",
    ignore: IgnoreOption = None,
    skip: SkipOption = None,
    copy: CopyOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = 0,
) -> None:
    """YOLO's polygons (Ultralytics) with their data.yaml.

    Example: python -m dataset_tools convert yolo downloads/coco8-seg data/coco8 --unlabelled background
    """
    options = shape_options(order, background, ignore, skip)
    dataset = read_yolo(source, data=data, options=options, boxes=boxes, unlabelled=unlabelled)
    _write(dataset, out, copy=copy, dry_run=dry_run, workers=workers)


@convert.command("folders")
def folders_command(
    source: SourceArgument,
    out: OutArgument,
    labels: Annotated[Path, typer.Option(help="Label definitions, YAML or CSV: ids or colours and their train ids.")],
    images: Annotated[str, typer.Option(help="Folder of the images, below SOURCE.")] = "images",
    masks: Annotated[str, typer.Option(help="Folder of the masks, below SOURCE.")] = "masks",
    image_suffix: Annotated[str, typer.Option(help="What image names end in, such as _raw.")] = "",
    mask_suffix: Annotated[str, typer.Option(help="What mask names end in, such as _mask.")] = "",
    encoding: Annotated[Encoding, typer.Option(help="Whether masks hold ids or colours.")] = "index",
    unmatched: Annotated[Unmatched, typer.Option(help="Images without a mask and masks without an image.")] = "error",
    copy: CopyOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = 0,
) -> None:
    """Plain folders of images and masks of the same names; folders in both are splits.

    Example: python -m dataset_tools convert folders downloads/mine data/mine --labels labels.yaml --mask-suffix _mask
    """
    names = FolderNames(images, masks, image_suffix, mask_suffix)
    dataset = read_folders(source, labels, names=names, encoding=encoding, unmatched_files=unmatched)
    _write(dataset, out, copy=copy, dry_run=dry_run, workers=workers)


@convert.command("fasterseg")
def fasterseg_command(
    source: SourceArgument,
    out: OutArgument,
    labels: LabelsOption = None,
    masks_from: Annotated[CustomMasksFrom, typer.Option(help="Which files the masks are made of.")] = "polygons",
    lists: Annotated[
        bool | None,
        typer.Option("--lists/--folders", help="Splits from the mapping lists (default where there are any)."),
    ] = None,
    copy: CopyOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = 0,
) -> None:
    """FasterSeg's custom layout: original_images, annotations, a label CSV, mapping lists.

    Polygons are painted in the order of their file; labels with an id below 0 are not painted, those with the train id
    255 are ignored.

    Example: python -m dataset_tools convert fasterseg downloads/route data/route --labels downloads/route/labels.csv
    """
    dataset = read_fasterseg(source, labels=labels, masks_from=masks_from, lists=lists)
    _write(dataset, out, copy=copy, dry_run=dry_run, workers=workers)
