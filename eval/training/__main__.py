"""Train an embedded model: ``python -m vtc.eval.training --model tiny-llava``.

One process renders scenes into a pool, another trains on it; both resume where they stopped. On one core of a CPU with
bfloat16 matrix units an hour sees about a hundred thousand scenes with eight questions each.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..quality.questions import PER_FAMILY
from .loop import Trainer
from .pool import HELD_OUT, fill, write_shard
from .reader import Batch, Pool, Shard, make_batch
from .recipe import Recipe
from .specs import SPECS, Spec


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    options = argparse.ArgumentParser(prog="python -m vtc.eval.training", description=__doc__)
    options.add_argument("--model", choices=sorted(SPECS), required=True)
    options.add_argument("--work", type=Path, default=Path("training"), help="pool, checkpoint and log go here")
    options.add_argument("--export", type=Path, help="folder for the finished model; default: WORK/MODEL/model")
    options.add_argument("--start", type=Path, help="folder of an older tiny-llava whose weights to start from")
    options.add_argument("--minutes", type=float, default=Recipe.minutes, help="length of the training")
    options.add_argument("--looking", type=float, default=Recipe.looking, help="share without questions")
    options.add_argument("--rate", type=float, default=Recipe.rate, help="highest learning rate")
    options.add_argument("--batch", type=int, default=16, help="scenes per step")
    options.add_argument("--slots", type=int, default=8, help="questions per scene and step")
    options.add_argument("--shards", type=int, default=80, help="shards of 500 scenes to render")
    options.add_argument("--crowded", type=int, default=14, help="of them, crowded ones for the first part")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=1, help="CPU threads of the training process")
    options.add_argument("--cpu", action="store_true", help="do not use a GPU")
    options.add_argument("--final", type=int, default=PER_FAMILY, help="test questions per family at the end")
    options.add_argument("--no-compile", action="store_true", help="start at once, run at half the speed")
    return options


def render(name: str, work: Path, shards: int, crowded: int) -> None:
    """Render the pool, a crowded shard after every few plain ones; runs in a process of its own."""
    os.nice(5)
    spec = SPECS[name]
    done = 0
    for number in range(shards - crowded):
        fill(work / "plain", spec.sample, number, 1, 500)
        while done < crowded and done * (shards - crowded) <= number * crowded:
            fill(work / "crowded", functools.partial(spec.sample, crowded=True), 1_000_000 + done, 1, 500)
            done += 1


def held_out(spec: Spec, work: Path, batch: int, slots: int, scenes: int = 192) -> list[Batch]:
    """Batches of scenes that are neither trained on nor in a test set."""
    folder = work / "held-out"
    if not folder.exists():
        write_shard(work, "held-out", [spec.sample(HELD_OUT + i) for i in range(scenes)], {"start": HELD_OUT})
    shard = Shard(folder)
    columns = np.tile(np.arange(slots), (batch, 1))
    return [make_batch(shard, np.arange(i, i + batch), columns) for i in range(0, scenes - batch + 1, batch)]


def start_from(model: Any, spec: Spec, folder: Path) -> None:
    """Start from an older tiny-llava as far as its weights fit."""
    from transformers import AutoTokenizer, LlavaForConditionalGeneration

    from vtc.pretrained import from_pretrained

    from .llava import GRID
    from .warm import warm_decoder, warm_llava

    old = LlavaForConditionalGeneration.from_pretrained(folder, dtype="float32")  # no Auto class: runs no foreign code
    old_ids = from_pretrained(AutoTokenizer, folder).get_vocab()
    if model.config.model_type == "llava":
        warm_llava(model, old, spec.vocabulary.tokens, old_ids, GRID)
    else:
        warm_decoder(model, old, spec.vocabulary.tokens, old_ids)


def build_trainer(args: argparse.Namespace, device: Any) -> Trainer:
    """Build the trainer of the parsed options, resumed if there is a checkpoint."""
    spec, work = SPECS[args.model], args.work / args.model
    model = spec.model()
    if args.start is not None:
        start_from(model, spec, args.start)
    recipe = Recipe(minutes=args.minutes, looking=args.looking, rate=args.rate, seed=args.seed)
    trainer = Trainer(
        spec.trainee(model.train(), args.slots).to(device),
        Pool([work / "plain"], args.batch, args.slots),
        spec.prepare,
        held_out(spec, work, args.batch, args.slots),
        spec.families,
        work,
        recipe,
        compiled=not args.no_compile,
        first_pool=Pool([work / "crowded", work / "plain"], args.batch, args.slots),
    )
    trainer.resume()
    return trainer


def main(argv: list[str] | None = None) -> None:
    """Render, train, export."""
    args = parser().parse_args(argv)
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed
    from tqdm import tqdm

    from .export import export
    from .final import describe_device, finish

    torch.set_num_threads(args.threads)
    set_seed(args.seed)
    accelerator = Accelerator(cpu=args.cpu)
    work = args.work / args.model
    renderer = multiprocessing.get_context("spawn").Process(
        target=render, args=(args.model, work, args.shards, args.crowded), daemon=True
    )
    renderer.start()
    while not any((work / "plain").glob("shard-*")) or not any((work / "crowded").glob("shard-*")):
        if not renderer.is_alive():
            raise RuntimeError("The process that renders scenes has ended without any; its error is printed above.")
        time.sleep(1)
    trainer = build_trainer(args, accelerator.device)
    with tqdm(total=60 * args.minutes, initial=trainer.elapsed, unit="s", unit_scale=True) as bar:
        trainer.run(lambda text: tqdm.write(text), lambda seconds: bar.update(seconds))
    renderer.terminate()
    folder = args.export or work / "model"
    facts = {
        **export(args.model, work / "checkpoint.pt", folder),
        "device": describe_device(accelerator.device, args.threads),
        "start": "" if args.start is None else f"an older {args.start.name}",
    }
    accuracy = finish(args.model, folder, work / "log.jsonl", facts, args.final)
    accelerator.print(f"exported {args.model} after {facts}: {accuracy}")


if __name__ == "__main__":
    main()
