import json
import os
import subprocess
import sys

import pytest

from vtc.kernels.tools import aot


def run(*arguments):
    # the interpreter replaces the functions the compiler needs
    environment = {k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", "VTC_KERNELS")}
    command = [sys.executable, "-m", "vtc.kernels.aot", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


def check(rows):
    assert rows
    assert not [row for row in rows if row["spills"] or row["scratch"]]
    assert all(0 < row["registers"] <= 512 and 0 <= row["shared"] <= 164 * 1024 for row in rows)
    # AMD's compute units share 64 KiB
    assert all(row["shared"] <= 64 * 1024 for row in rows if row["target"] == "gfx942")


@pytest.mark.parametrize("target", list(aot.TARGETS))
def test_one_size_of_every_kernel_compiles_without_spills(target):
    done = run("--json", "--target", target, "--only", "bf16( d=72)?$")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    check(rows)
    assert {row["target"] for row in rows} == {target}
    names = {row["kernel"].split()[0] for row in rows}
    assert len(names) == 13


@pytest.mark.slow
def test_every_launch_compiles_without_spills():
    done = run("--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    check(rows)
    assert {row["target"] for row in rows} == set(aot.TARGETS)


def test_table_and_exit_status(monkeypatch, capsys):
    row = dict(kernel="k", target="sm_90", registers=9, spills=8, scratch=8, shared=0)
    monkeypatch.setattr(aot, "table", lambda *a: [row])
    monkeypatch.setattr(aot, "interpreting", lambda: False)
    assert aot.main([]) == 1
    assert "| k | sm_90 | 9 | 8 | 8 | 0 |" in capsys.readouterr().out
    row.update(spills=0)
    assert aot.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [row]


def test_refuses_in_the_interpreter(capsys):
    assert aot.main([]) == 2
    assert "TRITON_INTERPRET" in capsys.readouterr().err


def test_reports_are_parsed():
    assembly = ".vgpr_count: 12\n.vgpr_spill_count: 3\n.sgpr_spill_count: 4\n.private_segment_fixed_size: 16"
    assert aot.amd_resources(assembly) == dict(registers=12, spills=7, scratch=16)
    with pytest.raises(ValueError, match="format changed"):
        aot.amd_resources("")
