import csv

import torch

from vtc.kernels.tools import bench, bench_cases


def test_says_what_it_needs_without_a_gpu(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench.main(["--out", str(tmp_path / "k.csv")]) == 0
    assert "needs a CUDA or ROCm GPU" in capsys.readouterr().out
    assert not (tmp_path / "k.csv").exists()


def test_rows_are_appended(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "copy_bandwidth", lambda device: 1e9)
    x = torch.randn(1, 40, 8)
    few = list(bench_cases.token_cases(x, x, 4)) + list(bench_cases.attention_cases(torch.randn(2, 1, 2, 9, 8)))
    monkeypatch.setattr(bench, "cases", lambda *a: iter(few))
    path = tmp_path / "new" / "k.csv"
    for _ in range(2):
        assert bench.main(["--cpu", "--out", str(path)]) == 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(few) == 16
    assert {row["kernel"].split()[0] for row in rows} >= {"topk_select", "pack_rows", "merge_tokens", "greedy_diverse"}
    assert all(row["device"] == "cpu" and row["torch"] == torch.__version__ and float(row["ms"]) > 0 for row in rows)


def test_published_forms_compute_the_same():
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 40, 8)
    for case in [*bench_cases.token_cases(x, y, 5), *bench_cases.attention_cases(torch.randn(2, 1, 2, 9, 8))]:
        if case.naive is None:
            continue
        ours, naive = case.run(), case.naive()
        if case.name == "topk_select":
            assert torch.equal(ours.index, naive)
        elif case.name == "pack_rows":
            assert all(torch.equal(a, b) for a, b in zip(ours, naive, strict=True))
        elif case.name == "greedy_diverse":
            assert ours.order[0].tolist() == naive.tolist()
        elif case.name != "attention_stats rows":
            values = {"merge_tokens": "values", "attention_stats received": "received"}.get(case.name)
            ours = getattr(ours, values) if values else ours
            torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-5)
