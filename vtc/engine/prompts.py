"""Read a prompt: where it ends, where its placeholders stand, what was encoded for it."""

from __future__ import annotations

import torch
from torch import Tensor

from vtc.adapters import EncodeRecord

from ..core.prompt import Prompt
from ..core.stage import Stage
from .context import settings_of
from .decide import stage_name
from .forward import Forward
from .loose import Loose
from .masks import seen_from
from .seams import Arguments, Mask
from .site import Site

RECORD = "vtc_record"
IGNORED = -100  # label of tokens without a loss, in all of transformers


def records_in(given: Arguments, loose: Loose) -> list[EncodeRecord]:
    """Records that came along with encoded features; hooks of accelerate hand on copies, which are recognised.

    Raises
    ------
    ValueError
        Features without one.
    """
    records = []
    for modality, output in (given["encoded"] or {}).items():
        if output is None:
            continue
        record = getattr(output, RECORD, None) or loose.record_of(output)
        if record is None:
            raise ValueError(
                f"The encoded {modality} features carry no vtc record: they were encoded before vtc.patch, or cut "
                "by chunked prefill. Encode them after patching and leave prefill_chunk_size unset."
            )
        records.append(record)
    return records


def placeholders_of(site: Site, prompt: Prompt) -> dict[str, Tensor]:
    """Columns of every modality's placeholder: bool [B, L], from ids or by comparing embeddings."""
    found = {}
    for modality, token in site.token_ids.items():
        if prompt.ids is not None:
            found[modality] = prompt.ids == token
        elif prompt.embeds is not None and prompt.embeds.shape[1] > 1:
            probe = torch.full((), token, dtype=torch.long, device=prompt.embeds.device)
            found[modality] = (prompt.embeds == site.base.get_input_embeddings()(probe)).all(-1)
    return found


def note_request(forward: Forward, given: Arguments) -> None:
    """Keep what the caller asks logits and losses for: it tells where a prompt ends and its answer begins."""
    if forward.request is None:
        forward.request = given["logits"]
    if forward.supervised is None and isinstance(given["labels"], Tensor) and given["labels"].ndim == 2:
        forward.supervised = given["labels"]


def end_of_prompt(forward: Forward, placeholders: int) -> Tensor:
    """Logical column of the last prompt token of every row: LongTensor [B], -1 for a row without any.

    A prompt ends where its answer begins: before the first column that has a label, else where ``generate`` began,
    else at the first column whose logits are asked for (draft tokens of assisted decoding, completions that a
    trainer scores), where these lie behind the images; else at the last real token. So a row keeps the same tokens
    alone, in a batch, and in ``generate``. ``placeholders`` of actions at its end do not count.
    """
    layout = forward.tokens
    place = torch.arange(layout.length, device=layout.real.device).expand_as(layout.real)
    last = torch.where(layout.real, place, -1).amax(1)
    if placeholders:
        return (last - placeholders).clamp_min(-1)
    images = torch.where(layout.visual, place, -1).amax(1)
    began = settings_of(forward.handle).prompt if forward.past.cache is None or not forward.past.held else None
    asked_for = _asked(forward.request, layout.length), None if began is None else began - 1
    for asked in (*asked_for, _supervised(forward.supervised, layout.length)):
        if asked is None:
            continue
        column = torch.as_tensor(asked, device=last.device).expand_as(last)
        inside = column.clamp(0, layout.length - 1)
        fits = (column == inside) & (column >= images) & (column < last)
        fits = fits & layout.real.gather(1, inside[:, None])[:, 0]
        last = torch.where(fits, column, last)
    return last


def columns_of(*rows: object) -> int | None:
    """Length of the first of these that is a batch of rows: ids [B, L] or embeddings [B, L, D]."""
    return next((x.shape[1] for x in rows if isinstance(x, Tensor) and x.ndim > 1), None)


def check_packing(forward: Forward, mask: Mask, past: int) -> None:
    """Refuse packed rows where a method decides by the whole row: by its end, by its text, or over all its images.

    Parameters
    ----------
    mask : object
        Mask the decoder was given.
    past : int
        Logical columns before those of this forward.

    Raises
    ------
    ValueError
        The end of a row does not see all of its images.
    """
    wide = [s for s in forward.plan.stages if s.scope in ("row", "clip") or s.needs_text or _reads_decoder(s)]
    layout, end = forward.tokens, forward.end
    if not wide or end is None:
        return
    if layout.samples is not None:
        seen: Tensor | None = layout.samples == layout.samples.gather(1, end.clamp_min(0)[:, None])
    else:
        seen = seen_from(mask, end.clamp_min(0), past, layout.length) if forward.finished else None
    if seen is None:
        return
    for place in forward.images.places:
        if end[place.row] >= 0 and not bool(seen[place.row, place.columns.to(seen.device)].any()):
            raise ValueError(
                f"Row {place.row} holds several samples that do not see each other, and a stage {stage_name(wide[0])} "
                "decides by the end of the row or over all of its images. Give every sample a row of its own, or use a "
                "method that decides on each image before the language model, such as 'divprune' or 'vtc-cls'."
            )


def _reads_decoder(stage: Stage) -> bool:
    return any(need.tower == "decoder" for need in stage.needs)


def _asked(request: int | Tensor | None, length: int) -> int | Tensor | None:
    """First column whose logits are asked for; None: nothing is said."""
    if isinstance(request, Tensor) and request.ndim == 1 and request.numel():
        return torch.where(request < 0, request + length, request).min()
    if isinstance(request, int) and not isinstance(request, bool) and request > 0:
        return length - request
    return None


def _supervised(labels: Tensor | None, length: int) -> Tensor | None:
    """Column before the first label of every row; None without labels."""
    if labels is None or labels.shape[1] != length:
        return None
    learned = labels != IGNORED
    first = learned.long().argmax(1)
    return torch.where(learned.any(1), first - 1, length)
