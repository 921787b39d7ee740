"""Generated scenes with questions whose answers are known exactly."""

from .board import BOARD_FAMILIES, board_questions, make_board
from .drawing import COLORS, SHAPES
from .questions import FAMILIES, Question, question_set, questions
from .scene import SIZES, TRAIN_SEEDS, Bar, Scene, SceneObject, Text, make_scene
from .words import WORDS

__all__ = [
    "BOARD_FAMILIES",
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
    "board_questions",
    "make_board",
    "make_scene",
    "question_set",
    "questions",
]
