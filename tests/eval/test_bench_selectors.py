import pytest

from vtc.eval.selectors import SELECTORS, run


def test_every_selector_is_measured():
    rows = run(sizes=(24,), dims=(8,), keeps=(0.25,), repeats=2)
    assert [r["selector"] for r in rows] == list(SELECTORS)
    for row in rows:
        assert row["n"] == 24 and row["d"] == 8 and 0 < row["kept"] <= 24
        assert 0 < row["ms_min"] <= row["ms"]
        assert row["extra_mib"] is None or row["extra_mib"] >= 0


def test_unknown_selector_is_refused():
    with pytest.raises(ValueError, match="todre k_center"):
        run(selectors=["nothing"])


def test_a_video_is_frames_of_equal_size():
    (row,) = run(sizes=(24,), dims=(8,), keeps=(0.25,), repeats=1, selectors=["pool"], frames=6)
    assert row["kept"] == 6  # one of the four tokens of every frame
    with pytest.raises(ValueError, match="24 tokens cannot be 5 frames"):
        run(sizes=(24,), dims=(8,), selectors=["pool"], frames=5)


ATTENTION_FREE = ["random", "pool", "todre", "todre k_center", "divprune", "vidcom2"]


@pytest.mark.parametrize("label", ATTENTION_FREE)
def test_a_long_video_needs_little_memory(label):
    """16,384 tokens of one video: an N x N matrix alone would be 1 GiB."""
    (row,) = run((16384,), (64,), (0.1,), repeats=1, selectors=[label], frames=64)
    assert row["kept"] <= 1638 and row["extra_mib"] is not None
    assert row["extra_mib"] < 640


@pytest.mark.slow
@pytest.mark.parametrize("label", ATTENTION_FREE)
def test_a_long_video_at_full_width(label):
    """The same at the width of a language model of 7 billion parameters (float32)."""
    (row,) = run((16384,), (3584,), (0.1,), repeats=1, selectors=[label], frames=64)
    assert row["extra_mib"] < 1024


def test_quota_needs_little_memory(monkeypatch):
    monkeypatch.setitem(SELECTORS, "quota", {"method": "quota", "frame_scores": [float(i % 7) for i in range(64)]})
    (row,) = run((16384,), (64,), (0.1,), repeats=1, selectors=["quota"], frames=64)
    assert 1000 < row["kept"] <= 1638 and row["extra_mib"] < 640
