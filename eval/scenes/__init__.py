"""Generated scenes with questions whose answers are known exactly.

``make_scene``, ``questions`` and ``question_set`` are about easy boards, which the interim tiny-llava knows; the names
with ``varied`` are about pictures of several sizes with photographs, text and charts. Videos: ``video``.
"""

from .board import FAMILIES, make_scene, question_set, questions
from .drawing import COLORS, SHAPES
from .questions import VARIED_FAMILIES, Question, varied_questions
from .scene import SIZES, TRAIN_SEEDS, Bar, Scene, SceneObject, Text, make_varied
from .words import WORDS

__all__ = [
    "COLORS",
    "FAMILIES",
    "SHAPES",
    "SIZES",
    "TRAIN_SEEDS",
    "VARIED_FAMILIES",
    "WORDS",
    "Bar",
    "Question",
    "Scene",
    "SceneObject",
    "Text",
    "make_scene",
    "make_varied",
    "question_set",
    "questions",
    "varied_questions",
]
