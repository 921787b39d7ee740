"""The robot demo: its environment, its expert, the policy that comes with it, and rollouts with pruning."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("gymnasium")
pytest.importorskip("timm")
from gymnasium.utils.env_checker import check_env  # noqa: E402

import vtc  # noqa: E402
from vtc.demos import vla_rollout  # noqa: E402
from vtc.demos.vla.comparison import pruned  # noqa: E402
from vtc.demos.vla.env import MAX_STEPS, PickPlaceEnv  # noqa: E402
from vtc.demos.vla.experience import SLOT, School  # noqa: E402
from vtc.demos.vla.expert import expert_action  # noqa: E402
from vtc.demos.vla.model import IMAGE_START, Policy, PolicyConfig, load_policy, prepare  # noqa: E402
from vtc.demos.vla.rollout import Slots, play  # noqa: E402
from vtc.demos.vla.table import PLATE, REACH, STEP  # noqa: E402
from vtc.demos.vla.trainee import Trainee  # noqa: E402
from vtc.demos.vla.words import BINS, FIRST_BIN, TEXT_LENGTH, action_of, bins_of, encode  # noqa: E402

SEEDS = range(10_000, 10_006)
SMALL = PolicyConfig(patch=16, vision_width=16, vision_layers=1, vision_heads=2, width=32, layers=8, heads=2, inner=32)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy()


@pytest.fixture
def small() -> Policy:
    torch.manual_seed(0)
    return Policy(SMALL).eval()


def expert_episode(seed: int) -> tuple[bool, int, PickPlaceEnv]:
    env = PickPlaceEnv()
    env.reset(seed=seed)
    over, info = False, {}
    while not over:
        _, _, ended, cut, info = env.step(expert_action(env.table, env.task))
        over = ended or cut
    return info["success"], env.steps, env


def test_gymnasium_accepts_the_environment():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*alternative render modes.*")
        check_env(PickPlaceEnv(render_mode="rgb_array"))


def test_the_seed_decides_everything():
    def record(seed):
        env = PickPlaceEnv()
        first, _ = env.reset(seed=seed)
        rng, seen = np.random.default_rng(0), [first]
        for _ in range(6):
            seen.append(env.step(rng.uniform(-1, 1, 3).astype(np.float32))[0])
        return seen

    one, same, other = record(3), record(3), record(4)
    assert all(
        (a["image"] == b["image"]).all() and a["instruction"] == b["instruction"]
        for a, b in zip(one, same, strict=True)
    )
    assert any((a["image"] != b["image"]).any() for a, b in zip(one, other, strict=True))


def test_the_expert_always_succeeds_in_time():
    results = [expert_episode(seed) for seed in range(60)]
    assert all(success for success, _, _ in results)
    assert max(steps for _, steps, _ in results) < MAX_STEPS // 2
    assert all(env.table.held == -1 for _, _, env in results)


def test_the_gripper_takes_what_it_reaches_and_nothing_else():
    env = PickPlaceEnv()
    env.reset(seed=1)
    table, close = env.table, np.array([0, 0, 1.0])
    table.hand = table.items[0].at + np.array([REACH + 0.005, 0])
    env.step(close)
    assert table.closed and table.held == -1
    env.step(np.array([-0.4, 0, 0]))  # closed already: moving there takes nothing
    assert table.held == -1
    env.step(-close)
    env.step(close)
    assert table.held == 0
    before = table.hand.copy()
    env.step(np.array([0.5, -0.5, 1]))
    assert np.allclose(table.items[0].at, before + np.array([0.5, -0.5]) * STEP)


def test_an_object_in_the_gripper_does_not_lie_on_the_plate():
    _, _, env = expert_episode(2)
    index, plate = env.table.find(env.task)
    assert np.linalg.norm(env.table.items[index].at - plate.at) < PLATE
    env.table.held = index
    assert not env.table.done(env.task)


def test_an_episode_is_cut_short():
    env = PickPlaceEnv()
    env.reset(seed=0)
    steps = [env.step(np.zeros(3, np.float32)) for _ in range(MAX_STEPS)]
    assert [cut for _, _, _, cut, _ in steps] == [False] * (MAX_STEPS - 1) + [True]
    assert not any(ended or reward for _, reward, ended, _, _ in steps)


def test_actions_go_through_tokens_unchanged():
    centres = np.linspace(-1, 1, BINS, dtype=np.float32)
    assert np.allclose(action_of(bins_of(centres) + FIRST_BIN), centres)
    assert action_of(np.array([0])) == -1  # any other token


def test_unknown_words_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="put the red block on the blue plate.*yellow"):
        encode("put the pink block on the blue plate")
    with pytest.raises(ValueError, match="does not understand"):
        encode("put the red block")


def test_lessons_hold_the_expert_s_answers():
    school = School(0, tables=8, grid=6, tasks=4)
    for _ in range(5):
        lessons = school.draw(8)
    slots = lessons.slots.view(8, 4, SLOT)
    env = PickPlaceEnv()
    assert (slots[..., TEXT_LENGTH:] >= FIRST_BIN).all()
    assert lessons.images.shape[1:] == env.observation_space["image"].shape
    marked = lessons.hands > 0
    assert marked.any(1).all() and not lessons.places[..., 2:][marked].isnan().any()


def test_the_training_pass_equals_the_model(small):
    """The tasks of one picture do not see one another: each row of logits is that of a prompt alone."""
    school = School(0, tables=8, grid=SMALL.grid, tasks=3)
    lessons, trainee = school.draw(2), Trainee(small, 3)
    pixels, slots = prepare(lessons.images), lessons.slots.view(2, 3, SLOT)
    with torch.no_grad():
        _, logits, _ = trainee(pixels, lessons.slots)
        for task in range(3):
            alone = small.language_model(inputs_embeds=small.embed(pixels, slots[:, task])).logits[:, -SLOT:]
            torch.testing.assert_close(logits[:, task], alone, atol=2e-5, rtol=1e-4)


def test_slots_play_every_seed_once_and_repeat_as_batches_of_one(small):
    with torch.no_grad():
        small.language_model.lm_head.weight.zero_()
    one, three = play(small, SEEDS, 1), play(small, SEEDS, 4)
    assert [e.seed for e in three.episodes] == list(SEEDS)
    assert one.episodes == three.episodes
    assert len(three.seconds) == 2 * MAX_STEPS


def test_a_slot_without_an_episode_left_does_not_count():
    slots = Slots([1, 2, 3], 2)
    still = np.zeros((2, 3), np.float32)
    for _ in range(MAX_STEPS):
        fresh = slots.step(still)
    assert fresh.tolist() == [True, True]
    assert [e.seed if e else None for e in slots.playing] == [3, None]
    assert [e.seed for e in slots.over] == [1, 2]


def test_a_reset_slot_sees_everything_again_while_the_others_go_on(small):
    """The call after a partial reset: the fresh environment is unpruned, the other one is not."""
    slots = Slots([1, 2, 3], 2)
    with pruned(small, "vla-pruner", 0.25) as handle:
        kept = []
        for step in range(6):
            small.act(*batch_of(slots.observations))
            kept.append([image.after for image in handle.last.images])
            if step == 3:
                handle.reset([False, True])
    whole, cut = small.image_length, small.image_length // 4
    assert kept == [[whole] * 2] * 3 + [[cut] * 2] + [[cut, whole]] * 2


def batch_of(observations):
    text = np.stack([encode(t) for t in observations["instruction"]])
    return torch.from_numpy(observations["image"]), torch.from_numpy(text)


def test_keeping_everything_changes_nothing(small):
    batch = batch_of(Slots([1, 2], 2).observations)
    plain = small.act(*batch)
    with pruned(small, "vla-pruner", 1.0):
        assert all(torch.equal(small.act(*batch), plain) for _ in range(5))
    assert torch.equal(small.act(*batch), plain)


def test_the_shipped_policy_succeeds(policy):
    outcome = play(policy, SEEDS[:4], 4)
    assert sum(e.success for e in outcome.episodes) >= 3


def test_the_shipped_policy_succeeds_on_half_of_its_tokens(policy):
    with pruned(policy, "vla-pruner", 0.5) as handle:
        outcome = play(policy, SEEDS[:3], 3, handle)
    assert sum(e.success for e in outcome.episodes) >= 2
    assert min(call["tokens"] for call in outcome.calls) == policy.image_length / 2
    assert outcome.mean("flops") < outcome.calls[0]["flops"]


def test_the_shipped_policy_is_small_and_of_openvla_s_shape(policy):
    from vtc.demos.vla.model import ASSETS

    assert (ASSETS / "model.safetensors").stat().st_size < 8_000_000
    assert policy.image_length >= 144 and policy.config.layers >= 6
    assert json.loads((ASSETS / "training.json").read_text())["log"][-1]["exact"] > 0.7
    assert type(policy.language_model).__name__ == "LlamaForCausalLM" and IMAGE_START == 1


def test_a_policy_survives_saving(small, tmp_path):
    small.to(torch.bfloat16).float().save(tmp_path)
    again = load_policy(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), again.parameters(), strict=True))
    with pytest.raises(FileNotFoundError, match="vtc.demos.vla.train"):
        load_policy(tmp_path / "none")


def test_the_command_prints_json_and_writes_a_film(tmp_path, capsys):
    film = tmp_path / "film.gif"
    arguments = ["--episodes", "2", "--batch", "2", "--methods", "vla-pruner", "--keeps", "0.25", "--gif", str(film)]
    assert vla_rollout.main([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["keep"]) for row in data["rows"]] == [("none", 1.0), ("vla-pruner", 0.25)]
    whole, cut = data["rows"]
    assert whole["tokens"] == data["image_tokens"] == 144 and 36 <= cut["tokens"] < 144
    assert cut["mflops"] < whole["mflops"] and min(whole["milliseconds"], cut["milliseconds"]) > 0
    assert {"success", "low", "high", "steps", "mean_tokens"} <= cut.keys()
    with Image.open(film) as gif:
        assert gif.n_frames > 5 and gif.width > gif.height


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episodes", "0"], "at least 1"),
        (["--methods", "vla-prunner"], "Did you mean 'vla-pruner'"),
        (["--keeps", "2"], "keep"),
        (["--policy", "nowhere"], "train one with"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    assert vla_rollout.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_handle_is_gone_after_the_comparison(small):
    with pruned(small, "fastv", 0.5):
        assert vtc.engine.installed.ATTRIBUTE in small.language_model.__dict__
    assert vtc.engine.installed.ATTRIBUTE not in small.language_model.__dict__
