"""Generated scenes with questions whose answers are known exactly.

Pictures of several sizes with shapes, words, numbers and charts on plain, textured or photographic backgrounds; short
videos are in :mod:`vtc.eval.scenes.video`.
"""

from .drawing import COLORS, SHAPES
from .questions import IMAGE_FAMILIES, Question, scene_questions
from .scene import SIZES, TRAIN_SEEDS, Bar, Scene, SceneObject, Text, make_scene
from .words import WORDS

__all__ = [
    "COLORS",
    "IMAGE_FAMILIES",
    "SHAPES",
    "SIZES",
    "TRAIN_SEEDS",
    "WORDS",
    "Bar",
    "Question",
    "Scene",
    "SceneObject",
    "Text",
    "make_scene",
    "scene_questions",
]
