"""What stands before the base class: patch the model, watch it answer, hand the numbers on."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import vtc
from vtc.adapters import find_adapter
from vtc.engine.handle import Handle
from vtc.files import file_to_write

from .arguments import Settings
from .failure import EvaluationError, exit_under_cli
from .ranks import gathered, is_first
from .samples import Key, Sample, by_task, summary
from .watch import Documents, Watch

if TYPE_CHECKING:
    from lmms_eval.api.model import lmms as _Base
else:
    _Base = object


def attach(model: Any, settings: Settings, processor: Any) -> Handle:
    """Patch a model as the settings say; ``"none"`` only counts."""
    choice = settings.choice()
    if choice is None:
        handle = Handle(model, [], find_adapter(model))
        handle.install()
        return handle
    if choice == "auto":
        return vtc.patch(model, "auto", keep=settings.keep, processor=processor)
    return vtc.patch(model, choice, processor=processor)


class Patched(_Base):
    """Mixin before a class of lmms-eval whose ``model`` is a transformers model.

    Attributes
    ----------
    settings : Settings
    base_name : str
        Name of the class below.
    handle : Handle
    samples : list of Sample
        Of all ranks, of everything answered since the last :meth:`use`.
    keep_model : bool
        Keep the weights when lmms-eval cleans up after a run, so that another run can follow.
    """

    settings: Settings
    base_name: str
    task_dict: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keep_model = False
        self.use(self.settings)

    def use(self, settings: Settings) -> None:
        """Patch the model anew."""
        before = vars(self).get("handle")
        if before is not None:
            before.remove()
        self.settings, self.samples = settings, list[Sample]()
        self.handle = attach(self.model, settings, _processor(self))

    def clean(self) -> None:
        """Free the model, as lmms-eval asks after the last answer, unless another run is to follow."""
        if not self.keep_model:
            self.handle.remove()
            del self.handle
            super().clean()

    def generate_until(self, requests: list[Any]) -> list[Any]:
        """Answer with the base class.

        Raises
        ------
        EvaluationError
            ``generate`` failed at least once, on whatever rank: a failure is no wrong answer.
        """
        with exit_under_cli():
            return self._generate_until(requests)

    def _generate_until(self, requests: list[Any]) -> list[Any]:
        watch = Watch(self.handle, getattr(getattr(self, "tokenizer", None), "pad_token_id", None))
        documents = self.task_dict
        answers: list[Any] = []
        fault: Exception | None = None
        self.task_dict = Documents(documents, watch)
        try:
            with watch.on(self.model):
                answers = super().generate_until(requests)
        except Exception as error:  # raised below, when all ranks know
            fault = error
            if not watch.errors:
                watch.errors.append(traceback.format_exc())
        finally:
            self.task_dict = documents
        _raise_if_any(watch, fault)
        mine, answers = _match(requests, answers, watch.samples)
        self.samples += [sample for part in gathered(mine) for sample in part]
        if is_first():
            self._publish()
        return answers

    def numbers(self) -> dict[str, Any]:
        """Efficiency per run, per task and per sample, JSON-ready."""
        tasks = by_task(self.samples)
        return {
            "settings": {"label": self.settings.label, "base": self.base_name},
            "run": summary(self.samples),
            "tasks": {name: summary(rows) for name, rows in tasks.items()},
            "samples": [sample.to_dict() for rows in tasks.values() for sample in rows],
        }

    def _publish(self) -> None:
        from lmms_eval.models.model_utils.gen_metrics import log_metrics

        numbers = self.numbers()
        flat = {f"vtc_{name}": value for name, value in numbers["run"].items()}
        for task, values in numbers["tasks"].items():
            flat |= {f"vtc_{name}/{task}": value for name, value in values.items()}
        log_metrics(0.0, 0, 0.0, flat)
        if self.settings.stats_path is not None:
            file_to_write(self.settings.stats_path, "numbers").write_text(json.dumps(numbers, indent=2))


def _processor(base: Any) -> Any:
    """The processor, under the names the classes of lmms-eval have for it."""
    found = (getattr(base, name, None) for name in ("processor", "_processor", "_image_processor"))
    return next((p for p in found if p is not None), None)


def _raise_if_any(watch: Watch, fault: Exception | None) -> None:
    failures = [(errors, calls) for errors, calls in gathered((watch.errors, watch.calls))]
    first = next((errors[0] for errors, _ in failures if errors), None)
    if first is None:
        return
    count, calls = sum(len(errors) for errors, _ in failures), sum(calls for _, calls in failures)
    what = first.strip().splitlines()[-1]
    raise EvaluationError(f"{count} of {calls} calls of generate failed: {what}\nThe first one:\n{first}") from fault


def _match(requests: list[Any], answers: list[Any], samples: list[Sample]) -> tuple[list[Sample], list[Any]]:
    """Give every answer its token counts, and drop the samples of requests that only pad a rank's share."""
    from lmms_eval.api.instance import GenerationResult, TokenCounts, unwrap_generation_output

    left: dict[Key, list[Sample]] = {}
    for made in samples:
        left.setdefault(made.key, []).append(made)
    mine: list[Sample] = []
    results: list[Any] = []
    for request, answer in zip(requests, answers, strict=True):
        queue = left.get(_key(request), [])
        sample = queue.pop(0) if queue else None
        if sample is None:
            results.append(answer)
            continue
        if not (request.metadata or {}).get("__padding_only__"):
            mine.append(sample)
        counts = TokenCounts(input_tokens=sample.sequence_after, output_tokens=sample.output_tokens)
        results.append(GenerationResult(unwrap_generation_output(answer)[0], counts))
    return mine, results


def _key(request: Any) -> Key:
    *_, doc_id, task, split = request.args
    return task, split, doc_id
