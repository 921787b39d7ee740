"""The demo without a browser: reading uploads, settings, code, errors, streaming."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install gradio")

from vtc.demos.app import limits  # noqa: E402
from vtc.demos.app.answers import stream_answer  # noqa: E402
from vtc.demos.app.code import command_code, config_code, python_code  # noqa: E402
from vtc.demos.app.errors import clean, readable  # noqa: E402
from vtc.demos.app.examples import examples  # noqa: E402
from vtc.demos.app.media import Media, media_inputs, read_upload  # noqa: E402
from vtc.demos.app.models import Shelf  # noqa: E402
from vtc.demos.app.numbers import curve, numbers_table, read_quality  # noqa: E402
from vtc.demos.app.runs import answer, answer_both, first_token_ms, look  # noqa: E402
from vtc.demos.app.settings import method_options, settings  # noqa: E402
from vtc.demos.app.tab_tokens import explain  # noqa: E402
from vtc.methods import list_methods, make_method, method_class  # noqa: E402

PHOTO, VIDEO = 6, 7  # places among the examples


@pytest.fixture(scope="module")
def shelf():
    return Shelf()


def film(path, frames=24, fps=12):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            picture = np.full((48, 64, 3), 255 * i // max(frames - 1, 1), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_pictures_are_read_upright_and_scaled_down(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("L", (4200, 100)).save(tmp_path / "a.jpg", exif=exif)
    media = read_upload(tmp_path / "a.jpg")
    assert media.kind == "image" and media.name == "a.jpg" and media.frames[0].mode == "RGB"
    assert media.frames[0].size == (49, limits.MAX_SIDE)
    Image.new("P", (30, 20)).save(tmp_path / "b.png")
    assert read_upload(tmp_path / "b.png").frames[0].mode == "RGB"


def test_videos_become_frames_at_even_distances(tmp_path):
    media = read_upload(film(tmp_path / "a.mp4"))
    light = [np.asarray(frame).mean() for frame in media.frames]
    assert media.kind == "video" and len(light) == limits.FRAMES
    assert light[0] < 10 and np.abs(np.diff(light) - 255 / 8).max() < 12


def test_unfit_uploads_are_refused_with_a_reason(tmp_path, monkeypatch):
    for name in ("a.png", "a.mp4", "a.txt"):
        (tmp_path / name).write_bytes(b"nothing of that kind")
        with pytest.raises(ValueError, match=f"'{name}' cannot be read as a (picture|video)") as caught:
            read_upload(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", False)  # lmms-eval switches it on for its process
    half = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(half, "PNG")
    (tmp_path / "half.png").write_bytes(half.getvalue()[:3000])
    with pytest.raises(ValueError, match="broken"):
        read_upload(tmp_path / "half.png")
    monkeypatch.setattr("vtc.demos.app.media.MAX_PIXELS", 100)
    Image.new("L", (20, 20)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match="20 x 20 pixels"):
        read_upload(tmp_path / "large.png")
    monkeypatch.setattr("vtc.demos.app.media.MAX_SECONDS", 1)
    with pytest.raises(ValueError, match="lasts 2 s"):
        read_upload(film(tmp_path / "long.mp4"))


@pytest.mark.parametrize("method", list_methods())
def test_every_method_has_a_form_that_gives_its_defaults_back(method):
    options = method_options(method)
    assert [o.name for o in options] == [name for name in method_class(method).options() if name != "keep"]
    made = make_method(method, keep=0.5)
    for option in options:
        shown = "" if option.default is None else option.default
        assert option.parse(shown) == option.default == getattr(made, option.name), option


def test_values_of_the_form_become_hyperparameters():
    by_name = {option.name: option for option in method_options("todre")}
    assert by_name["seed"].parse(3.0) == 3 and by_name["pivot"].parse("center") == "center"
    assert by_name["pivot"].help.startswith("First pick")
    with pytest.raises(ValueError, match="'seed' needs a value"):
        by_name["seed"].parse(None)
    chosen = settings("tiny-qwen2_5-vl", "todre", 0.3, {"todre": {"seed": 3, "pivot": "auto"}, "pool": {"x": 1}})
    assert chosen.options == {"seed": 3} and chosen.label == "todre, keep=0.3, seed=3"
    assert settings("tiny-llava", "todre", 1, {}).keep == 1.0
    assert settings("tiny-llava", "todre", 1, {}).options == {}


def test_answers_come_token_by_token_with_times_in_order(shelf, monkeypatch):
    example = examples()[PHOTO]
    with shelf.use("tiny-qwen2_5-vl") as loaded:
        monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", None)  # or it stops after a word
        inputs = media_inputs(loaded.processor, example.media, example.question)
        partials = list(stream_answer(loaded.model, loaded.processor, inputs, 12))
    assert partials[-1].done and not any(p.done for p in partials[:-1]) and partials[-1].tokens == 12
    assert 0 < partials[-1].first < partials[-1].total and partials[-1].rate > 0
    assert all(a.tokens <= b.tokens for a, b in zip(partials, partials[1:], strict=False))


def test_closing_a_stream_stops_the_model(shelf, monkeypatch):
    example = examples()[PHOTO]
    with shelf.use("tiny-qwen2_5-vl") as loaded:
        inputs = media_inputs(loaded.processor, example.media, example.question)
        steps = []
        monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", None)  # or it stops by itself
        hook = loaded.model.get_decoder().register_forward_hook(lambda *_: steps.append(1))
        stream = stream_answer(loaded.model, loaded.processor, inputs, 60, warm_up=False)
        next(stream)
        stream.close()
        hook.remove()
        assert len(steps) < 60


def test_errors_of_the_model_reach_the_reader():
    class Broken:
        def generate(self, **_):
            raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        list(stream_answer(Broken(), None, {"input_ids": None}, 2, warm_up=False))


def test_both_answers_and_what_was_kept(shelf):
    example = examples()[0]
    with shelf.use("tiny-llava") as loaded:
        chosen = settings("tiny-llava", "vtc-cls", 0.25, {})
        *_, (plain, cut, found) = answer_both(loaded, chosen, example.media, example.question)
        alone, none = answer(loaded, None, example.media, example.question)
        assert plain.text == alone.text == example.answer and none is None
        assert cut.done and found.record.after == 36
        assert not hasattr(loaded.model, "_vtc_handle")
        assert first_token_ms(loaded, chosen, example.media, example.question, 1) > 0


def test_a_look_at_a_video_has_a_picture_for_every_temporal_patch(shelf):
    example = examples()[VIDEO]
    with shelf.use("tiny-qwen2_5-vl") as loaded:
        chosen = settings("tiny-qwen2_5-vl", "random", 0.5, {})
        found = look(loaded, chosen, example.media, "?")
    assert len(found.pictures) == 4 and found.record.modality == "video"
    assert found.pictures[1] is example.media.frames[2]
    sheet, size = found.picture(), found.pictures[0].size
    per_frame = found.record.before // 4
    caption = (sheet.height - 2 * size[1]) // 4  # no more than a guess at the middle of the first row
    assert found.token_at(2, caption + size[1] // 3) < per_frame
    assert found.token_at(sheet.width - 3, sheet.height // 2 + size[1] // 2) >= 3 * per_frame
    with shelf.use("tiny-llava") as loaded, pytest.raises(ValueError, match="takes pictures only"):
        look(loaded, settings("tiny-llava", "random", 0.5, {}), example.media, "?")


def test_every_method_shows_something_or_says_why_not(shelf):
    example = examples()[0]
    with shelf.use("tiny-llava") as loaded:
        for name in list_methods():
            try:
                found = look(loaded, settings("tiny-llava", name, 0.25, {}), example.media, example.question)
            except ValueError as why:
                assert "Use a method for both, such as" in str(why)
                continue
            assert found.picture().width >= 336
            assert explain(found.record, 5).startswith("**Token 5** (row 1, column 6): ")


@pytest.mark.parametrize(("model", "example"), [("tiny-llava", 0), ("tiny-qwen2_5-vl", VIDEO)])
def test_the_code_runs_as_it_stands(tmp_path, model, example):
    chosen = settings(model, "todre", 0.25, {"todre": {"seed": 3}})
    media, question = examples()[example].media, "what color is the 'star' ?"
    Image.new("RGB", (90, 60), "red").save(tmp_path / "picture.png")
    if media.kind == "video":
        film(tmp_path / "video.mp4", frames=8)
    code = python_code(chosen, media, question)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "visual tokens" in done.stdout and (tmp_path / "kept.png").is_file()


def test_other_models_command_line_and_configuration(tmp_path):
    chosen = settings("org/model", "todre", 0.25, {"todre": {"seed": 3}})
    picture = Media("image", (Image.new("RGB", (8, 8)),))
    code = python_code(chosen, picture, "Why?")
    compile(code, "snippet", "exec")
    assert "from_pretrained('org/model'" in code and "seed=3" in code
    command = command_code(chosen, "What's this?")
    assert "--option seed=3" in command and "'What'\"'\"'s this?'" in command
    (tmp_path / "vtc.json").write_text(config_code(chosen))
    import vtc

    assert vtc.load(tmp_path).build()[0] == make_method("todre", keep=0.25, seed=3)


def test_errors_are_messages_without_paths():
    assert clean("Cannot open '/home/me/secret/cat.png' in /tmp/x/y:\n bad") == "Cannot open 'cat.png' in y: bad"
    assert clean("see https://example.org/a/b") == "see https://example.org/a/b"
    assert len(clean("x" * 999)) == 400

    @readable
    def fails(kind):
        raise kind("look at /usr/lib/x.py")

    @readable
    def streams():
        yield 1
        raise ValueError("no")

    with pytest.raises(gr.Error, match=r"look at x\.py"):
        fails(ValueError)
    with pytest.raises(gr.Error, match="An unexpected KeyError") as caught:
        fails(KeyError)
    assert "x.py" not in caught.value.message
    with pytest.raises(gr.Error, match="not enough memory"):
        readable(lambda: (_ for _ in ()).throw(RuntimeError("CUDA out of memory")))()
    stream = streams()
    assert next(stream) == 1
    with pytest.raises(gr.Error, match="no"):
        next(stream)


def test_the_benchmark_is_read_and_sorted_into_curves(tmp_path):
    path = tmp_path / "quality.json"
    assert read_quality(path) == []
    base = {"model": "tiny-llava", "family": "all", "n": 10, "options": {}}
    rows = [
        {**base, "method": "none", "keep": None, "accuracy": 0.9, "retained": 1.0},
        {**base, "method": "pool", "keep": 16, "accuracy": 0.5, "retained": 0.25},
        {**base, "method": "pool", "keep": 8, "accuracy": 0.4, "retained": 0.125},
        {**base, "method": "pool", "keep": 8, "accuracy": 0.1, "retained": 0.125, "family": "reading"},
    ]
    path.write_text(json.dumps(rows))
    data = curve(read_quality(path), "tiny-llava", "all")
    # none is drawn as a level line
    assert data["tokens kept (%)"].tolist() == [12.5, 100.0, 12.5, 25.0]
    assert data["accuracy (%)"].tolist() == [90, 90, 40, 50]
    path.write_text(json.dumps([{"model": "x"}]))
    with pytest.raises(ValueError, match="lack accuracy"):
        read_quality(path)


def test_numbers_of_an_answer():
    plain = SimpleNamespace(first=0.1, rate=50.0, tokens=3)
    cut = SimpleNamespace(first=0.05, rate=None, tokens=1)
    table = numbers_table(cut, 16, 2048, plain)
    assert "50.0 ms (-50 %)" in table and "2.0 KiB" in table and ">16<" in table
    assert numbers_table(None, None, None).count("\u2013") == 5


def test_the_shelf_hides_folders_and_refuses_strangers(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    shelf = Shelf([str(folder), "org/name"])
    assert shelf.names == ["my-model", "org/name", "tiny-llava", "tiny-qwen2_5-vl"]
    assert shelf.quick("tiny-llava") and not shelf.quick("org/name")
    again = Shelf([str(folder), str(tmp_path / "my-model" / "."), "tiny-llava"])
    assert again.names[:3] == ["my-model", "my-model (2)", "tiny-llava (2)"] and not again.quick("tiny-llava (2)")
    with pytest.raises(ValueError, match="no model '/etc'"), shelf.use("/etc"):
        pass


def test_the_page_listens_here_only_and_offers_no_api():
    import os

    from vtc.demos.app.page import build_page

    page = build_page(Shelf())
    public = [f.api_name for f in page.fns.values() if f.api_visibility == "public" and not f.renderable]
    assert not public, public
    lanes = {f.concurrency_id for f in page.fns.values() if f.concurrency_limit == 1}
    assert lanes == {"model"}
    import inspect

    from vtc.demos.app import serve

    defaults = {name: p.default for name, p in inspect.signature(serve).parameters.items()}
    assert defaults["host"] == "127.0.0.1" and defaults["share"] is False
    assert "GRADIO_SHARE" not in os.environ


def test_pictures_are_stored_once_and_forgotten_when_old(tmp_path, monkeypatch):
    import os
    import time

    from vtc.demos.app.files import stored

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    red, blue = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    path = stored(red)
    written = os.stat(path).st_mtime_ns
    assert stored(red.copy()) == path and os.stat(path).st_mtime_ns == written
    assert Image.open(path).getpixel((4, 4)) == (255, 0, 0)
    old = time.time() - limits.KEEP_SECONDS - 5
    os.utime(path, (old, old))
    other = stored(blue)
    assert not os.path.exists(path) and os.listdir(tmp_path / "drawn") == [os.path.basename(other)]
