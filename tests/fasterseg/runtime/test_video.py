from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fasterseg.engine.checkpoint import NetworkCheckpoint
from fasterseg.runtime.predictor import Predictor
from fasterseg.runtime.video import VideoFile, predict_video

FRAMES = 5


@pytest.fixture(scope="module")
def predictor(checkpoint: NetworkCheckpoint) -> Predictor:
    return Predictor.from_network(checkpoint.build(), checkpoint.dataset)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Five frames of a size that 32 does not divide."""
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (46, 34))
    assert writer.isOpened()
    for value in range(FRAMES):
        frame = np.full((34, 46, 3), value * 50, np.uint8)
        frame[:16] = 255 - value * 50
        writer.write(frame)
    writer.release()
    return path


def frames(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        read, frame = capture.read()
        if not read:
            return found
        found.append(np.asarray(frame[:, :, ::-1]))


def test_overlay_video_and_index_frames(predictor: Predictor, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = predict_video(predictor, video, out, index_frames=True)
    target = out / "overlay" / "drive.mp4"
    assert report.count == FRAMES
    assert report.written == (target, out / "index" / "drive")
    assert cv2.VideoCapture(str(target)).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    assert list(target.parent.iterdir()) == [target]
    written, source = frames(target), frames(video)
    assert len(written) == len(source) == FRAMES
    assert written[0].shape == source[0].shape == (34, 46, 3)
    index = sorted((out / "index" / "drive").iterdir())
    assert [path.name for path in index] == [f"00000{number}.png" for number in range(FRAMES)]
    colors = np.asarray(predictor.dataset.colors)
    for frame, picture, path in zip(source, written, index, strict=True):
        with Image.open(path) as stored:
            ids = np.asarray(stored)
        assert (ids == predictor.predict(np.ascontiguousarray(frame))).all()
        expected = frame / 2 + colors[ids] / 2
        assert np.abs(picture - expected).mean() < 15  # the encoder loses some


def test_odd_frames_repeat_their_last_row_and_column(tmp_path: Path) -> None:
    """Encoders need even sides and would cut an odd one."""
    frame = np.zeros((33, 45, 3), np.uint8)
    frame[32:], frame[:, 44:] = 200, 200
    file = VideoFile(tmp_path / "odd.mp4", 10.0, frame.shape)
    file.add(frame)
    (written,) = frames(file.close())
    assert written.shape == (34, 46, 3)
    assert written[33].mean() > 150 > 50 > written[:30, :40].mean()


def test_without_index_frames(predictor: Predictor, video: Path, tmp_path: Path) -> None:
    predict_video(predictor, video, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["overlay"]


def test_nothing_is_overwritten_unless_told(predictor: Predictor, video: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "overlay" / "drive.mp4"
    target.parent.mkdir(parents=True)
    target.write_text("precious")
    with pytest.raises(ValueError, match=r"drive\.mp4 exists already.*--overwrite"):
        predict_video(predictor, video, tmp_path / "out")
    assert target.read_text() == "precious"
    predict_video(predictor, video, tmp_path / "out", overwrite=True)
    assert len(frames(target)) == FRAMES


def test_unreadable_videos_are_named(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"broken\.mp4 cannot be read as a video"):
        predict_video(predictor, tmp_path / "broken.mp4", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no video at .*absent\.mp4"):
        predict_video(predictor, tmp_path / "absent.mp4", tmp_path / "out")
    assert not (tmp_path / "out").exists()
