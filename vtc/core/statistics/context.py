"""What a statistic may ask about the tokens it is measured on."""

from __future__ import annotations

from torch import Tensor

Option = str | float | tuple | None


class Context:
    """Tokens of one run of a layer, in its own (physical) columns; each tower answers what it knows.

    Attributes
    ----------
    skip : int
        Leading tokens of every image that are no patches ([CLS]).
    """

    skip: int = 0

    def queries(self, option: Option) -> tuple[Tensor, Tensor]:
        """Columns of the chosen query rows, LongTensor [B, R], and which of them count, bool [B, R].

        Parameters
        ----------
        option : {"last", "text", "inner", "all"}
            As ``query_rows`` in :data:`vtc.core.statistics.STATISTICS` has it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no prompt whose rows could be chosen.")

    def kinds(self, system: Option) -> tuple[Tensor, Tensor]:
        """Columns that are text and those that are visual, bool [B, K] each; neither: ``system`` prompt and padding."""
        raise NotImplementedError(f"{type(self).__name__} has no text.")

    def counted(self, visual_only: bool) -> Tensor | None:
        """Columns over which the tokens are compared, bool [B, K]: no padding, optionally no text; None: all."""
        raise NotImplementedError(f"{type(self).__name__} does not say which tokens count.")

    def end(self, keys: int) -> int:
        """Key column behind the last token, of ``keys``."""
        return keys
