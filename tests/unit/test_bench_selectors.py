import pytest
from vtc.eval.bench_selectors import SELECTORS, run


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
