from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from vtc.eval.scenes import COLORS, IMAGE_FAMILIES, SHAPES, SIZES, WORDS, make_scene, scene_questions
from vtc.eval.scenes.backgrounds import PHOTOS
from vtc.eval.scenes.questions import PLURALS
from vtc.eval.scenes.video import FRAMES, VIDEO_SIZE, make_video
from vtc.eval.scenes.video_questions import VIDEO_FAMILIES, VIDEO_MAKERS, video_questions


def same(a, b) -> bool:
    return (a.objects, a.texts, a.bars) == (b.objects, b.texts, b.bars) and np.array_equal(
        np.asarray(a.image), np.asarray(b.image)
    )


def test_a_scene_is_a_pure_function_of_its_seed():
    assert same(make_scene(7), make_scene(7))
    assert not same(make_scene(7), make_scene(8))


def test_objects_lie_on_the_picture_near_their_colour():
    checked = 0
    for seed in range(40):
        scene = make_scene(seed)
        assert scene.image.size in SIZES and scene.image.mode == "RGB"
        for item in scene.objects:
            assert item.shape in SHAPES and 14 <= item.radius <= 19
            assert item.radius <= item.x <= scene.image.width - item.radius
            if item.shape not in ("ring", "triangle"):  # these have a hollow or moved centre
                seen = np.array(scene.image.getpixel((item.x, item.y)))
                assert np.abs(seen - COLORS[item.color]).max() <= 18
                checked += 1
    assert checked > 50


def test_bars_are_as_high_as_their_values():
    bars = [(make_scene(seed), bar) for seed in range(80) for bar in make_scene(seed).bars]
    assert len(bars) > 30 and {bar.value for _, bar in bars} == set(range(1, 10))
    for scene, bar in bars:
        left, top, right, bottom = bar.box
        middle = (int(left + right) // 2, int(top) + 3)
        assert np.abs(np.array(scene.image.getpixel(middle)) - COLORS[bar.color]).max() <= 18
        above = (middle[0], int(top) - 4)
        assert np.abs(np.array(scene.image.getpixel(above)) - COLORS[bar.color]).max() > 18
        unit = (bottom - top) / bar.value
        assert unit == pytest.approx(max((b.box[3] - b.box[1]) / b.value for b in scene.bars))


def test_crowded_scenes_show_more_text_and_no_charts():
    plain, crowded = ([make_scene(seed, c) for seed in range(30)] for c in (False, True))
    assert sum(len(s.texts) for s in crowded) > 3 * sum(len(s.texts) for s in plain)
    assert all(s.kind == "objects" for s in crowded) and any(s.kind == "chart" for s in plain)


def truth(scene, q) -> str:
    """The answer, worked out from the words of the question alone."""
    words = q.text.split()
    if q.family == "attribute" and words[1] == "color":
        (answer,) = [o.color for o in scene.objects if o.shape == words[4]]
    elif q.family == "attribute":
        (answer,) = [o.shape for o in scene.objects if o.color == words[4]]
    elif q.family == "existence":
        answer = "yes" if (words[4], words[3]) in {(o.shape, o.color) for o in scene.objects} else "no"
    elif q.family == "counting":
        names = [*(o.color for o in scene.objects), *(PLURALS[o.shape] for o in scene.objects)]
        answer = str(len(scene.objects) if words[2] == "objects" else names.count(words[2]))
    elif q.family == "spatial":
        place = {(o.color, o.shape): o for o in scene.objects}
        a, b = place[words[2], words[3]], place[words[-3], words[-2]]
        answer = ("left" if a.x < b.x else "right") if words[4] == "left" else "above" if a.y < b.y else "below"
    elif q.family == "reading":
        assert q.answer in [t.text for t in scene.texts] and q.answer.isdigit() == (words[2] == "number")
        answer = q.answer
    elif words[0] == "what":
        (answer,) = [str(b.value) for b in scene.bars if b.color == words[6]]
    else:
        wanted = (max if words[-2] == "highest" else min)(b.value for b in scene.bars)
        (answer,) = [b.color for b in scene.bars if b.value == wanted]
    return answer


def test_answers_are_true():
    seen = Counter()
    for seed in range(150):
        scene = make_scene(seed)
        for q in scene_questions(scene, seed=3):
            assert truth(scene, q) == q.answer
            seen[q.family] += 1
            seen[q.answer] += 1
    assert min(seen[family] for family in IMAGE_FAMILIES) > 20
    assert 0.35 < seen["yes"] / (seen["yes"] + seen["no"]) < 0.65
    assert min(seen[word] for word in ("left", "right", "above", "below")) > 10


def test_words_are_short_and_occur_in_no_question():
    scenes = [make_scene(seed) for seed in range(60)]
    asked = {word for scene in scenes for q in scene_questions(scene, 0) for word in q.text.split()}
    assert len(set(WORDS)) == 40 and not asked & set(WORDS)
    assert all(3 <= len(word) <= 4 for word in WORDS)


def test_every_photograph_is_named_with_its_licence():
    notes = (PHOTOS / "README.md").read_text()
    for path in PHOTOS.glob("*.jpg"):
        assert f"`{path.name}`" in notes
        assert max(Image.open(path).size) <= 512
    assert notes.count("CC0 |") + notes.count("public domain |") == len(list(PHOTOS.glob("*.jpg"))) > 4


def test_videos_do_what_their_tracks_say():
    for seed in range(12):
        video = make_video(seed)
        assert len(video.frames) == FRAMES and {f.size for f in video.frames} == {VIDEO_SIZE}
        for track in video.tracks:
            visible = [track.at(i) is not None for i in range(FRAMES)]
            if track.role == "appear":
                assert visible == [i + 1 >= track.frame for i in range(FRAMES)]
            elif track.role == "vanish":
                assert visible == [i + 1 < track.frame for i in range(FRAMES)]
            else:
                assert all(visible)
            first, last = np.array([[o.x, o.y] for o in (track.start, track.at(FRAMES - 1) or track.start)])
            assert (np.abs(last - first).max() >= 28) == (track.role == "move")
    still = [t for t in make_video(0).tracks if t.role != "move"]
    assert still and make_video(0) == make_video(0)


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_video_answers_are_true(family):
    asked = video_questions(family)
    for _ in range(25):
        video, q = next(asked)
        by_name = {t.name: t for t in video.tracks}
        if family == "video-event":
            assert q.text.split()[1].startswith(by_name[q.answer].role)
        elif family == "video-order":
            frames = {t.name: t.frame for t in video.tracks if t.role == "appear"}
            assert frames[q.answer] == min(frames.values()) and len(frames) == 2
            assert all(name in q.text for name in frames)
        else:
            (track,) = [t for name, t in by_name.items() if f"the {name} " in q.text]
            assert q.answer == (track.way if family == "video-motion" else str(track.frame))


def test_every_video_family_is_asked_often():
    found = Counter()
    for seed in range(60):
        video = make_video(seed)
        import random

        found.update(name for name, make in VIDEO_MAKERS.items() if make(video, random.Random(0)))
    assert min(found[name] for name in VIDEO_FAMILIES) > 8, found
