"""Sampling of frames, and real files: written by the test, read back."""

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vtc
from vtc.media import FILM, Spread, films
from vtc.video import Clip, frame_count, frame_times, read_video, sample_indices, time_sentence, time_stamps

from support import moving


def test_frames_grow_with_the_duration_up_to_an_hour():
    assert [frame_count(d) for d in (0.0, 56.2, 56.3, 1800, 3600, 7200)] == [96, 96, 97, 128, 160, 160]
    assert frame_count(7200, cap=False) == 224
    assert frame_count(7200, base=8, extra=0) == 8


@given(st.integers(1, 5000), st.integers(1, 300))
def test_indices_are_increasing_and_reach_both_ends(total, count):
    indices = sample_indices(total, count)
    assert len(indices) == count and indices == sorted(indices)
    assert indices[0] == 0 and (count == 1 or indices[-1] == total - 1)
    assert count > total or len(set(indices)) == count


def test_times_are_written_with_two_decimals():
    times = frame_times([0, 7, 15], 30.0)
    assert time_stamps(times) == "0.00s,0.23s,0.50s"
    assert "3 frames" in time_sentence(0.5, times) and "0.50 seconds" in time_sentence(0.5, times)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: frame_count(-1), "seconds"),
        (lambda: frame_count(float("nan")), "seconds"),
        (lambda: frame_count(1, base=0), "base"),
        (lambda: sample_indices(0, 3), "total=0"),
        (lambda: frame_times([0], 0.0), "fps"),
    ],
)
def test_numbers_out_of_range(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return moving.write(tmp_path_factory.mktemp("films") / "film.mp4", 40)


def test_a_file_comes_back_frame_by_frame(film):
    clip = read_video(film, count=40)
    assert (clip.total, clip.fps, clip.duration) == (40, 10.0, 4.0)
    assert clip.indices == list(range(40)) and clip.times[-1] == 3.9
    arrays = clip.arrays()
    assert arrays.shape == (40, 64, 96, 3) and arrays.dtype == np.uint8
    wanted = np.stack([moving.picture(i, 40) for i in range(40)])
    assert np.abs(arrays.astype(int) - wanted).mean() < 6
    # every frame is most like its own original, so none is shifted by one
    distance = ((arrays[:, None].astype(np.float32) - wanted[None]) ** 2).mean((2, 3, 4))
    assert distance.argmin(1).tolist() == list(range(40))


def test_a_short_file_repeats_frames_and_a_count_thins_them(film):
    clip = read_video(film)
    assert len(clip.frames) == len(clip.times) == 96 and clip.indices == sample_indices(40, 96)
    assert clip.frames[0].size == (96, 64) and clip.frames[0] is clip.frames[1]
    assert "96 frames" in clip.sentence
    few = read_video(film, count=4)
    assert few.indices == [0, 13, 26, 39]
    assert np.array_equal(np.asarray(few.frames[3]), read_video(film, count=40).arrays()[39])
    assert vtc.video.Clip is Clip


def test_containers_that_do_not_count_their_frames(tmp_path):
    film = moving.write(tmp_path / "film.mkv", 12)
    with av.open(str(film)) as container:
        assert not container.streams.video[0].frames
    assert read_video(film, count=12).indices == list(range(12))


def test_files_that_cannot_be_read(tmp_path, film):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_video(tmp_path / "nowhere.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    for name in ("empty.mp4", "noise.mp4"):
        with pytest.raises(ValueError, match="damaged, or no video"):
            read_video(tmp_path / name)
    with pytest.raises(ValueError, match="only one frame"):
        read_video(moving.write(tmp_path / "one.mp4", 1))
    whole = film.read_bytes()
    middle = whole.find(b"mdat") + 200
    (tmp_path / "torn.mp4").write_bytes(whole[:middle] + bytes(len(whole) // 2) + whole[middle + len(whole) // 2 :])
    with pytest.raises(ValueError, match="damaged"):
        read_video(tmp_path / "torn.mp4", count=40)


def test_a_track_without_frames(tmp_path):
    path = tmp_path / "bare.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 64
        container.start_encoding()
    with pytest.raises(ValueError, match="no frame|damaged"):
        read_video(path)


def test_a_file_that_claims_too_many_frames_is_sampled_anew(film, monkeypatch):
    monkeypatch.setattr(films, "_facts", lambda path, limits: films.Facts(50, 10.0, 5.0))
    frames, indices, fps, total = films.load_frames(film, Spread(5), None, FILM)
    assert (fps, total) == (10.0, 40) and indices == list(frames) == [0, 9, 19, 29, 39]


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(ValueError, match="no picture track"):
        read_video(path)
