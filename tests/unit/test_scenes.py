from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from vtc.eval.quality import is_exact, normalise
from vtc.eval.scenes import COLORS, FAMILIES, SHAPES, Question, make_scene, question_set, questions


def same(a, b) -> bool:
    return (a.objects, a.number) == (b.objects, b.number) and np.array_equal(np.asarray(a.image), np.asarray(b.image))


def test_a_scene_is_a_pure_function_of_its_seed():
    assert same(make_scene(7), make_scene(7))
    assert not same(make_scene(7), make_scene(8))


def test_objects_lie_on_the_picture_in_their_colour():
    checked = 0
    for seed in range(40):
        scene = make_scene(seed)
        assert scene.image.size == (112, 112) and scene.image.mode == "RGB"
        assert 2 <= len(scene.objects) <= 5
        for item in scene.objects:
            assert item.shape in SHAPES and 9 <= item.radius <= 14
            if item.shape in (
                "circle",
                "square",
                "cross",
                "star",
            ):  # the others have a hollow or moved centre
                assert scene.image.getpixel((item.x, item.y)) == COLORS[item.color]
                checked += 1
    assert checked > 50


def test_half_of_the_scenes_have_a_number_of_two_digits():
    numbers = [make_scene(seed).number for seed in range(200)]
    found = [n for n in numbers if n is not None]
    assert 70 <= len(found) <= 130
    assert all(len(n.text) == 2 and n.text.isdigit() for n in found)


def test_answers_are_true():
    seen = Counter()
    for seed in range(120):
        scene = make_scene(seed)
        for q in questions(scene, seed=3):
            words = q.text.split()
            if q.family == "attribute":
                assert [o.color for o in scene.objects if o.shape == words[4]] == [q.answer]
            elif q.family == "existence":
                assert q.answer == (
                    "yes" if (words[4], words[3]) in {(o.shape, o.color) for o in scene.objects} else "no"
                )
                seen[q.answer] += 1
            elif q.family == "counting":
                assert int(q.answer) == sum(o.color == words[2] for o in scene.objects)
            else:
                assert q.answer == scene.number.text
            seen[q.family] += 1
    assert seen["existence"] == seen["counting"] == 120 and seen["attribute"] > 90 and seen["reading"] > 40
    assert min(seen["yes"], seen["no"]) > 40


def test_question_sets_are_balanced_repeatable_and_disjoint():
    first, again, other = question_set(41), question_set(41), question_set(41, seed=1)
    assert [q for _, q in first] == [q for _, q in again]
    assert [q.family for _, q in first] == [FAMILIES[i % 4] for i in range(41)]
    assert not {s.seed for s, _ in first} & {s.seed for s, _ in other}
    assert len({s.seed for s, _ in first}) == 41


@pytest.mark.parametrize(("text", "normal"), [("4 2", "42"), (" Red. ", "red"), ("1 0 3", "103"), ("a 4 2", "a 42")])
def test_answers_are_compared_without_blanks_between_digits(text, normal):
    assert normalise(text) == normal


def test_a_longer_answer_is_not_exact():
    question = Question("reading", "read the number ?", "42")
    assert is_exact("4 2", question) and not is_exact("4 2 1", question) and not is_exact("4", question)
