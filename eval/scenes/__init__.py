"""Generated scenes with questions whose answers are known exactly."""

from .drawing import COLORS, SHAPES
from .questions import FAMILIES, Question, question_set, questions
from .scene import SIZES, TRAIN_SEEDS, Bar, Scene, SceneObject, Text, make_scene
from .words import WORDS

__all__ = [
    "COLORS",
    "FAMILIES",
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
    "question_set",
    "questions",
]
