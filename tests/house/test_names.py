"""Names of transformers are spelled in one room, and rooms import in one direction."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEAMS = ROOT / "vtc/engine/seams.py"
ARGUMENTS = {
    "past_key_values", "attention_mask", "position_ids", "inputs_embeds", "position_embeddings",
    "logits_to_keep", "visual_pos_masks", "deepstack_visual_embeds", "mm_encoder_outputs", "cu_seqlens", "max_seqlen",
    "cu_seq_lens_q",
}  # fmt: skip
INTERFACES = {
    "ALL_ATTENTION_FUNCTIONS", "create_causal_mask", "create_sliding_window_causal_mask", "create_chunked_causal_mask",
    "create_bidirectional_mask", "find_packed_sequence_indices", "DynamicCache", "BlockMask", "create_block_mask",
}  # fmt: skip
ROOMS = ["vtc/engine", "vtc/core", "vtc/methods", "adapters", "kernels"]
# the names of the product's own public argument and of a shim that goes with the next release
ALLOWED = {"vtc/engine/attention_tap.py"}


def product(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


def constants(tree: ast.AST) -> set[str]:
    """Strings that stand in code, not in docstrings."""
    docs = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for line in body if isinstance(body, list) else ():
            if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
                docs.add(id(line.value))
    found = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return {n.value for n in found if id(n) not in docs}


@pytest.mark.parametrize("path", product(*ROOMS), ids=lambda p: str(p.relative_to(ROOT)))
def test_names_of_transformers_are_spelled_in_seams_alone(path):
    if path == SEAMS or str(path.relative_to(ROOT)) in ALLOWED:
        return
    tree = ast.parse(path.read_text())
    assert not constants(tree) & ARGUMENTS
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and _foreign(n) for a in n.names}
    assert not imported & INTERFACES


def _foreign(node: ast.ImportFrom) -> bool:
    return (node.module or "").startswith(("transformers", "torch.nn.attention"))


def test_the_cache_is_named_nowhere_else():
    """The one argument that has changed its name is spelled in no file of the whole product but one."""
    for path in product("vtc", "adapters", "kernels", "eval", "demos"):
        if path != SEAMS:
            assert "past_key_values" not in constants(ast.parse(path.read_text())), path


def test_methods_and_core_never_import_transformers():
    for path in product("vtc/core", "vtc/methods"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split(".")[0] == "transformers" for n in names), path
