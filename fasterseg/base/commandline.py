"""Command lines: the options that commands share, and the conversion of errors to a message and an exit code.

Every program of the toolkit is a `Program` that ends in `run_app`. It gets user errors as `ValueError`, `TypeError` or
`FileNotFoundError`, which the toolkit raises with a message for the user.
"""

import os
import platform
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

import fasterseg
from fasterseg.base.console import CONSOLE
from fasterseg.base.devices import Device
from fasterseg.base.mistakes import message_for_user
from fasterseg.base.stopping import Stopped, listening
from fasterseg.base.text import printable_lines

INTERNAL_ERROR_EXIT_CODE = 1
USER_ERROR_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130
DEBUG_FLAG = "--debug"
_LARGEST_SIDE_PX = 2**16
_DIGITS = 6
CommandT = TypeVar("CommandT", bound=Callable[..., Any])


class ImageSize(NamedTuple):
    """A size in pixels, as the command line writes it: `512x1024`."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


def parse_size(text: str | ImageSize) -> ImageSize:
    """Reads HEIGHTxWIDTH.

    Raises:
        typer.BadParameter: The text has another form, or a side is too small or too large for an image.
    """
    if isinstance(text, ImageSize):
        return text
    height, _, width = text.lower().replace("×", "x").partition("x")
    if not (height.isdecimal() and width.isdecimal() and height.isascii() and width.isascii()):
        raise typer.BadParameter(f"got {text!r}, expected HEIGHTxWIDTH in pixels, such as 512x1024")
    size = ImageSize(int(height[:_DIGITS]), int(width[:_DIGITS]))
    if min(size) < 1 or max(size) > _LARGEST_SIDE_PX:
        raise typer.BadParameter(f"got {text}, expected sides from 1 to {_LARGEST_SIDE_PX} pixels")
    return size


def size_option(name: str, text: str, *, default: ImageSize | None = None) -> Any:
    """An option of type `ImageSize`; its help shows the default."""
    shown = True if default is None else str(default)
    return typer.Option(name, parser=parse_size, metavar="HEIGHTxWIDTH", help=text, show_default=shown)


# The options that several commands share: each has one name, one help text and one default.
REPEATED = "may be repeated"
RUNNER_FORM = "NAME or NAME:MODE, such as openvino or pytorch:channels_last"
ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A best.pt, or a .onnx file that `fasterseg export` wrote.")
]
ConfigOption = Annotated[Path, typer.Option("--config", help="The experiment file.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help=f"section.field=value; {REPEATED}.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder; runs/NAME/STAGE when not given.")]
InputSizeOption = Annotated[
    ImageSize | None, size_option("--input-size", "Input size of the network; the text above gives the default.")
]
DeviceOption = Annotated[
    Device, typer.Option("--device", help="Device of a checkpoint; auto: CUDA if there is a CUDA device.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; one for each available core when not given.")
]
RunnersOption = Annotated[
    list[str] | None,
    typer.Option("--runner", help=f"Runner to time on: {RUNNER_FORM}; {REPEATED}; the target's when not given."),
]
TableOption = Annotated[
    Path | None, typer.Option("--table", help="The latency table; the experiment's when not given.")
]
NumClassesOption = Annotated[
    int | None, typer.Option("--num-classes", min=1, help="Channels of the logits; the dataset's when not given.")
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="Split, or several joined by +; the validation split when not given.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


class Program(typer.Typer):
    """A program or a group of its commands; the help shows no type for flags.

    Args:
        help_text: Description in the help; None for a program of one command, whose docstring is shown.
    """

    def __init__(self, help_text: str | None = None) -> None:
        super().__init__(
            cls=_Group,
            help=help_text,
            epilog=f"{DEBUG_FLAG}, before or after the command, shows the traceback of an error.",
            no_args_is_help=True,
            add_completion=False,
            pretty_exceptions_enable=False,
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[CommandT], CommandT]:
        """See `typer.Typer.command`."""
        return super().command(name, cls=_Command, **settings)


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_flag_types(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_flag_types(super().get_params(ctx))


def _without_flag_types(parameters: list[Any]) -> list[Any]:
    """The parameters; the help would otherwise show `<bool>` after every flag."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


def say(*lines: str) -> None:
    """Prints lines without wrapping them, so that commands and paths can be copied."""
    for line in lines:
        CONSOLE.print(line)


def run_app(app: typer.Typer) -> None:
    """Runs a command line and exits.

    The exit code is 0 after success. It is 2 after a user error, of which only the message is printed. It is 1 after a
    bug in the toolkit, which is printed with its traceback and what to report. After Ctrl-C, SIGTERM and SIGHUP it is
    130, 143 and 129, and the message says how to resume.

    Raises:
        SystemExit: Always, with the exit code.
    """
    arguments, debug = _without_debug(sys.argv[1:])
    try:
        with listening():
            app(args=arguments)
    except Stopped as stopped:
        _print_error(stopped.message)
        raise SystemExit(stopped.exit_code) from None
    except SystemExit as end:
        if end.code == INTERRUPTED_EXIT_CODE:
            _print_error("interrupted; the same command goes on where a stage was cut off")
        raise
    except Exception as error:
        raise SystemExit(_report(error, debug=debug)) from error


def _report(error: Exception, *, debug: bool) -> int:
    """Prints an error to the error stream; returns the exit code."""
    message = message_for_user(error)
    if message is None or debug:
        traceback.print_exception(error)
    if message is not None:
        _print_error(f"error: {message}")
        return USER_ERROR_EXIT_CODE
    _print_error(
        "error: this is a mistake of the toolkit, not of yours; please report the lines above and these: "
        f"fasterseg {fasterseg.__version__}, Python {platform.python_version()}, {platform.platform()}; "
        f"{shlex.join(sys.argv)}"
    )
    return INTERNAL_ERROR_EXIT_CODE


def _print_error(message: str) -> None:
    # torchrun sets RANK in each process, and Fabric sets LOCAL_RANK in those that it starts
    number = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
    sys.stderr.write(("" if number == "0" else f"process {number}: ") + f"{printable_lines(message)}\n")


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, which may stand anywhere before `--`, and whether it was given."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [text for text in arguments[:end] if text != DEBUG_FLAG]
    return kept + arguments[end:], len(kept) < end
