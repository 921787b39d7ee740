"""Files of users: every kind that is read, and every kind that is refused, within bounds of memory and time."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from vtc.media import Film, Limits, Spread, read_film, read_media, read_picture

from support import bombs, moving

READERS = {"picture": read_picture, "film": read_film, "any": read_media}


def noise(size=(60, 40)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.tiff", "a.ppm"])
def test_pictures_are_told_by_content(tmp_path, name):
    picture = noise((6, 4)).resize((60, 40))
    picture.save(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "a.xyz")
    found = read_picture(tmp_path / "a.xyz")
    assert (found.size, found.mode) == ((60, 40), "RGB")
    assert np.abs(np.asarray(found).astype(int) - np.asarray(picture).astype(int)).mean() < 12
    assert read_media(tmp_path / "a.xyz", side=30).size == (30, 20)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_animated_pictures_are_films(tmp_path, name):
    frames = [Image.new("RGB", (80, 40), (30 * i, 0, 0)) for i in range(8)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    film = read_media(tmp_path / name, Spread(4), side=40)
    assert (film.indices, film.total, film.fps) == ([0, 2, 4, 7], 8, pytest.approx(20))
    assert [frame.getpixel((5, 5))[0] for frame in film.frames] == [0, 60, 120, 210]
    assert {frame.size for frame in film.frames} == {(40, 20)}
    assert read_picture(tmp_path / name).getpixel((5, 5)) == (0, 0, 0)


def test_frames_without_a_delay_last_a_tenth_of_a_second(tmp_path):
    (tmp_path / "a.gif").write_bytes(bombs.gif(20, 5, delay=0))
    assert read_film(tmp_path / "a.gif", Spread(2)).fps == 10


def test_a_still_behind_an_animated_png_is_not_part_of_it(tmp_path):
    frames = [Image.new("RGB", (8, 8), (100 * i, 0, 0)) for i in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], default_image=True)
    film = read_film(tmp_path / "a.png", Spread(2))
    assert film.total == 2 and [f.getpixel((0, 0))[0] for f in film.frames] == [100, 200]


def test_which_frames(tmp_path):
    path = moving.write(tmp_path / "a.mp4", 10)
    assert read_film(path, Spread(20, repeat=False)).indices == list(range(10))
    assert read_film(path, Spread(5, ends=False)).indices == [0, 2, 4, 6, 8]
    film = read_film(path, Spread(12), side=48)
    assert len(film.frames) == 12 and film.frames[0] is film.frames[1] and film.frames[0].size == (48, 32)
    assert isinstance(read_media(path, Spread(2)), Film)


@pytest.mark.parametrize(("degrees", "size", "corner"), [(90, (64, 96), (2, 80)), (180, (96, 64), (80, 40))])
def test_films_on_their_side_are_turned(tmp_path, degrees, size, corner):
    path = moving.write(tmp_path / "a.mp4", 4)
    before = np.asarray(read_film(path, Spread(1)).frames[0])
    data = bytearray(path.read_bytes())
    matrix = data.find(b"tkhd") + 4 + 4 + 20 + 16  # version, times and numbers, layer and volume lie before it
    one = 1 << 16
    turn = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one)}[degrees]  # clockwise, as players show it
    data[matrix : matrix + 36] = struct.pack(">9i", turn[0], turn[1], 0, turn[2], turn[3], 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    frame = read_film(path, Spread(1)).frames[0]
    assert frame.size == size
    assert np.array_equal(np.asarray(frame), np.rot90(before, -degrees // 90))


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.gif").write_bytes(b"")
    read = READERS[reader]
    for path, message in (
        (tmp_path / "pipe.png", "is a pipe, socket or device"),
        ("/dev/zero", "is a pipe, socket or device"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "empty.gif", "the file is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            read(path)
    for path in (tmp_path / "nowhere.png", "a\0b", "x" * 5000):
        with pytest.raises(FileNotFoundError, match="There is no"):
            read(path)
    for path in (None, 3, b"a.png"):
        with pytest.raises(TypeError, match="path of a file"):
            read(path)


@pytest.mark.parametrize("reader", READERS)
def test_text_noise_and_other_formats_are_refused(tmp_path, reader):
    noise().save(tmp_path / "icon.ico")
    noise().save(tmp_path / "page.pdf")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n/etc/hostname\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    (tmp_path / "notes.png").write_text("a text\n" * 30)
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=f"'{path.name}' cannot be read as a (picture|video)") as caught:
            READERS[reader](path)
        assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="a stand-in for gs is a shell script")
def test_no_picture_starts_a_program(tmp_path, monkeypatch):
    log, stub = tmp_path / "called", tmp_path / "gs"
    stub.write_text(f'#!/bin/sh\necho "$*" >> {log}\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "a.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    for read in READERS.values():
        with pytest.raises(ValueError, match="none of the known formats"):
            read(path)
    assert not log.exists()


def test_truncated_files_are_refused_whatever_pillow_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)  # lmms-eval does so for its process
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        whole = io.BytesIO()
        noise((200, 200)).save(whole, kind)
        (tmp_path / "half").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        for read in (read_picture, read_media):
            with pytest.raises(ValueError, match="'half' cannot be read as a picture"):
                read(tmp_path / "half")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("canvas.gif", bombs.gif(12000, 9), "12000 x 12000 pixels"),
        ("growing.gif", bombs.gif(10, 3, extent=(60000, 60000)), "60000 x 60000 pixels"),
        ("frames.gif", bombs.gif(5900, 300), "300 frames of 5900 x 5900"),
        ("large.png", bombs.png(50000, 50000), "50000 x 50000 pixels"),
        ("frames.png", bombs.png(64, 64, 3, claimed=2**31 - 1), "2147483647 frames"),
        ("claims.png", bombs.png(64, 64, 3, claimed=4000), "cannot be read"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_bombs_cost_little(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    code = (
        "import resource, sys\nfrom vtc.media import read_media\n"
        "try:\n    read_media(sys.argv[1])\nexcept ValueError as error:\n    print(error)\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60)
    told, *kib = done.stdout.strip().splitlines()
    assert message in told and max(map(int, kib)) < 200 * 1024, done.stdout


def test_large_and_long_files_within_the_limits_are_read(tmp_path):
    (tmp_path / "a.gif").write_bytes(bombs.gif(4000, 9))
    film = read_film(tmp_path / "a.gif", Spread(8), side=64)
    assert film.total == 9 and film.frames[0].size == (64, 64)
    (tmp_path / "b.gif").write_bytes(bombs.gif(10, 20000))
    assert read_film(tmp_path / "b.gif", Spread(3)).total == 20000
    path = moving.write(tmp_path / "c.mp4", 3600, fps=1, size=(32, 32))
    hour = read_film(path, Spread(base=2, extra=1))
    assert (hour.total, hour.indices) == (3600, [0, 1799, 3599])


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(pixels=5000), "96 x 64 pixels; at most 5,000"),
        (Limits(length=1.0), "lasts 2 s; at most 1 s"),
        (Limits(returned=50_000), "4 frames of 96 x 64 pixels take"),
        (Limits(file_bytes=100), "MiB; at most"),
    ],
)
def test_limits_of_films(tmp_path, limits, message):
    path = moving.write(tmp_path / "a.mp4", 20)
    frames = [Image.fromarray(moving.picture(i, 20)) for i in range(20)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    for file in (path, tmp_path / "a.gif"):
        with pytest.raises(ValueError, match=message):
            read_film(file, Spread(4), limits=limits)


def test_numbers_out_of_range(tmp_path):
    path = moving.write(tmp_path / "a.mp4", 4)
    for call, error, message in (
        (lambda: read_film(path, Spread(0)), ValueError, "count=0"),
        (lambda: read_film(path, Spread(True)), TypeError, "count=True"),
        (lambda: read_film(path, Spread(10**9)), ValueError, "too many"),
        (lambda: read_film(path, Spread(base=0)), ValueError, "base=0"),
        (lambda: read_film(path, side=0), ValueError, "side=0"),
        (lambda: read_picture(path, side=1.5), TypeError, "side=1.5"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_threads_and_scripts_without_a_guard(tmp_path):
    noise().save(tmp_path / "a.png")
    moving.write(tmp_path / "a.mp4", 4)
    found: list = []
    threads = [threading.Thread(target=lambda: found.append(read_picture(tmp_path / "a.png").size)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(60, 40)] * 4
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nprint('once')\nfrom vtc.media import read_film, Spread\n"
        f"print(len(read_film({str(tmp_path / 'a.mp4')!r}, Spread(3)).frames), 'torch' in sys.modules)\n"
    )
    for words in ([script], ["-c", script.read_text()]):
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.stdout.split() == ["once", "3", "False"], done.stderr
