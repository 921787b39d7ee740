"""The closed list of words that scenes show; none of them occurs in a question."""

WORDS: tuple[str, ...] = tuple(
    """ant bag bell bird boat box bus cake car cat coin cup dog drum duck egg fish fork hat ice
    jam key kite lamp leaf map milk moon nest owl pen pig rain rose salt ship sun tree van zoo""".split()
)
"""Forty words of three or four letters."""
