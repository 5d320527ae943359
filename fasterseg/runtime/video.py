"""Prediction of a video: an mp4 with the classes laid over it, and the frames' index pictures on demand."""

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fasterseg.base.console import epoch_progress
from fasterseg.base.images import write_png
from fasterseg.runtime.choices import PictureKind
from fasterseg.runtime.predict import PredictionReport, picture
from fasterseg.runtime.predictor import Predictor

_CODEC = "mp4v"


def predict_video(
    predictor: Predictor,
    path: Path,
    out: Path,
    *,
    index_frames: bool = False,
    opacity: float = 0.5,
    overwrite: bool = False,
) -> PredictionReport:
    """Predicts every frame of a video.

    Args:
        predictor: The trained network.
        path: The video.
        out: The folder to write to: `overlay/<name>.mp4` and, on demand, `index/<name>/000000.png` and so on.
        index_frames: Whether to write each frame's train ids, too.
        opacity: How strongly the colours cover the frames, 0..1.
        overwrite: Whether existing files may be replaced.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read as a video, or a file exists already.
    """
    target, frames_folder = out / "overlay" / f"{path.stem}.mp4", out / "index" / path.stem
    for existing in (target, *([frames_folder] if index_frames else [])):
        if existing.exists() and not overwrite:
            raise ValueError(f"{existing} exists already; choose another --out, or pass --overwrite to replace it")
    started_s, count = time.monotonic(), 0
    with _opened(path) as capture, tempfile.TemporaryDirectory(dir=_created(target.parent)) as folder:
        total = max(1, round(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        writer: VideoFile | None = None
        with epoch_progress(f"predict {path.name}", total) as progress:
            for frame in _frames(capture):
                ids = predictor.predict(frame)
                drawn = np.asarray(
                    picture(PictureKind.OVERLAY, frame, ids, predictor.dataset, opacity=opacity), np.uint8
                )
                writer = writer or VideoFile(Path(folder) / target.name, _rate(capture, path), drawn.shape)
                writer.add(drawn)
                if index_frames:
                    write_png(frames_folder / f"{count:06d}.png", ids)
                count += 1
                progress.advance()
        if writer is None:
            raise ValueError(f"no frame of {path} can be decoded; the video is damaged or of an unknown codec")
        writer.close().replace(target)
    return PredictionReport(count, (target, *([frames_folder] if index_frames else [])), time.monotonic() - started_s)


class VideoFile:
    """Writes an mp4; encoders need even sides, so an odd side is padded by repeating its last row or column.

    Args:
        path: The file.
        frames_per_second: Its frame rate.
        shape: (H, W, 3) of the frames.

    Raises:
        ValueError: OpenCV cannot encode mp4.
    """

    def __init__(self, path: Path, frames_per_second: float, shape: tuple[int, ...]) -> None:
        self._path = path
        height, width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
        codec = cv2.VideoWriter.fourcc(*_CODEC)
        self._writer = cv2.VideoWriter(str(path), codec, frames_per_second, (width, height))
        if not self._writer.isOpened():
            raise ValueError(f"OpenCV cannot write {path.name}: this build has no '{_CODEC}' encoder")

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Appends an RGB frame (H, W, 3)."""
        bottom, right = frame.shape[0] % 2, frame.shape[1] % 2
        even = cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))

    def close(self) -> Path:
        """Completes the file and returns its path."""
        self._writer.release()
        return self._path


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    if not path.is_file():
        raise FileNotFoundError(f"no video at {path}")
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise ValueError(f"{path} cannot be read as a video; it is damaged, or of a format OpenCV does not know")
        yield capture
    finally:
        capture.release()


def _frames(capture: cv2.VideoCapture) -> Iterator[NDArray[np.uint8]]:
    """The frames as RGB (H, W, 3)."""
    while True:
        read, frame = capture.read()
        if not read:
            return
        yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)


def _rate(capture: cv2.VideoCapture, path: Path) -> float:
    frames_per_second = float(capture.get(cv2.CAP_PROP_FPS))
    if not (math.isfinite(frames_per_second) and frames_per_second > 0):
        raise ValueError(f"{path} states no frame rate; write it again with one, such as `ffmpeg -r 25 -i IN OUT`")
    return frames_per_second


def _created(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
