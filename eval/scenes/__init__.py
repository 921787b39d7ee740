"""Generated scenes: coloured shapes on noise, with questions whose answers are known exactly."""

from .drawing import COLORS, SHAPES
from .questions import FAMILIES, Question, question_set, questions
from .scene import Number, Scene, SceneObject, make_scene

__all__ = [
    "COLORS",
    "FAMILIES",
    "SHAPES",
    "Number",
    "Question",
    "Scene",
    "SceneObject",
    "make_scene",
    "question_set",
    "questions",
]
