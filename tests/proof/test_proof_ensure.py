"""The first patch on an untested transformers proves itself, keeps the verdict, and leaves the process as it was."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf

import vtc
from vtc import compat
from vtc.engine import cache as engine_cache
from vtc.proof import ensure, ensuring, proving, store
from vtc.proof.ensuring import UnprovenError
from vtc.proof.quiet import undisturbed
from vtc.proof.verdict import Finding, Verdict

FAMILY = "internvl"


WHOLE = proving.prove


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process that has proved nothing, on a transformers newer than the tested ones; proofs are counted, not run."""
    monkeypatch.setenv("VTC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VTC_PROVE", raising=False)
    monkeypatch.setattr(compat, "TESTED", "5.1")
    monkeypatch.setattr(ensuring, "_PROVED", {})
    ensuring._say_once.cache_clear()
    ran = []

    def counted(family):
        ran.append(family)
        return Verdict(family, [Finding("masking", family, "before", "holds", 1e-7, 1e-5)], 0.1)

    monkeypatch.setattr(proving, "prove", counted)
    return ran


@pytest.fixture
def real(monkeypatch, fresh):
    """The same with proofs that run."""

    def counted(family):
        fresh.append(family)
        return WHOLE(family)

    monkeypatch.setattr(proving, "prove", counted)
    return fresh


def break_the_engine(monkeypatch):
    monkeypatch.setattr(engine_cache, "commit", lambda *args: None)


def test_nothing_happens_on_a_tested_version(monkeypatch, fresh, tiny_model):
    for tested in (tf.__version__, "5.999", "6.0"):
        monkeypatch.setattr(compat, "TESTED", tested)
        with vtc.patched(tiny_model(FAMILY), "pool"):
            pass
    assert fresh == [] and not store.cache_folder().exists()


def test_the_first_patch_proves_and_later_ones_do_not(fresh, tiny_model):
    for method in ("pool", "random"):
        with vtc.patched(tiny_model(FAMILY), method):
            pass
    assert fresh == [FAMILY]
    with vtc.patched(tiny_model("vipllava"), "pool"):
        pass
    assert fresh == [FAMILY, "vipllava"]


def test_a_newer_minor_version_is_what_counts(monkeypatch, fresh):
    monkeypatch.setattr(compat, "TESTED", "5.24")
    for found, proofs in [("5.24.9", 0), ("5.9.0", 0), ("5.25.0.dev0", 1), ("5.25.1", 2), ("5.25.1", 2)]:
        monkeypatch.setattr(compat, "check_transformers", lambda found=found: found)
        monkeypatch.setattr(store, "read", lambda family: None)
        ensure(FAMILY)
        assert len(fresh) == proofs


def test_what_does_not_hold_stops_the_patch(monkeypatch, real, tiny_model):
    break_the_engine(monkeypatch)
    model = tiny_model(FAMILY)
    for _ in range(2):
        with pytest.raises(ImportError) as caught:
            vtc.patch(model, "pool")
    assert real == [FAMILY, FAMILY], "a failure is looked at again"
    text = str(caught.value)
    assert "masking differs on internvl" in text and "InternVLForConditionalGeneration (internvl)" in text
    assert f"{compat.FLOOR} to 5.1" in text and "pip install 'transformers==5.1.*'" in text and "VTC_PROVE=0" in text
    assert "\n" not in text and isinstance(caught.value, UnprovenError)
    assert not caught.value.verdict.holds and not list(store.cache_folder().glob("**/*.json"))
    assert str(pickle.loads(pickle.dumps(caught.value))) == text
    assert "_vtc_handle" not in model.__dict__


def test_an_old_patch_survives_a_failed_proof(monkeypatch, real, tiny_model):
    model = tiny_model(FAMILY)
    monkeypatch.setattr(compat, "TESTED", "5.999")
    with vtc.patched(model, "random", keep=0.5) as handle:
        monkeypatch.setattr(compat, "TESTED", "5.1")
        with monkeypatch.context() as broken:
            break_the_engine(broken)
            with pytest.raises(UnprovenError):
                vtc.patch(model, "pool")
        assert model.__dict__["_vtc_handle"] is handle


def test_left_out_on_request_and_said_once(monkeypatch, fresh, tiny_model, caplog):
    break_the_engine(monkeypatch)
    monkeypatch.setenv("VTC_PROVE", "0")
    for _ in range(2):
        with caplog.at_level(logging.WARNING, "vtc"), vtc.patched(tiny_model(FAMILY), "pool"):
            pass
    assert fresh == []
    (record,) = caplog.records
    assert record.name == "vtc" and record.levelname == "WARNING"
    assert "VTC_PROVE=0" in record.getMessage() and tf.__version__ in record.getMessage()


def test_families_without_tiny_models_are_proved_on_another_and_told_so(fresh, caplog):
    with caplog.at_level(logging.WARNING, "vtc"):
        for _ in range(2):
            ensure("generic")
    assert fresh == ["llava"] and len(caplog.records) == 1
    assert "no tiny model of family 'generic'" in caplog.text and "'llava'" in caplog.text


def test_the_verdict_is_kept(monkeypatch, fresh):
    ensure(FAMILY)
    (file,) = store.cache_folder().glob("proofs/*")
    assert json.loads(file.read_text())["verdict"]["holds"] is True
    assert store.read(FAMILY).holds and store.read("vipllava") is None
    monkeypatch.setattr(ensuring, "_PROVED", {})  # another process
    ensure(FAMILY)
    assert fresh == [FAMILY]


@pytest.mark.parametrize("part", ["vtc", "torch", "transformers", "sources"])
def test_a_verdict_is_for_these_versions_and_sources(monkeypatch, fresh, part):
    ensure(FAMILY)
    key = store.key(FAMILY)
    monkeypatch.setattr(store, "key", lambda family: {**key, part: "another"})
    assert store.read(FAMILY) is None
    monkeypatch.setattr(store, "_file", lambda family: next(store.cache_folder().glob("proofs/*")))
    assert store.read(FAMILY) is None, "nor when the name of the file says otherwise"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": 1}', b"\xff\xfe", None])
def test_a_damaged_verdict_is_made_again(monkeypatch, fresh, damage):
    ensure(FAMILY)
    (file,) = store.cache_folder().glob("proofs/*")
    if damage is None:  # a key that fits and a body that does not
        damage = json.dumps({"key": store.key(FAMILY), "verdict": {"findings": [{}]}}).encode()
    file.write_bytes(damage)
    monkeypatch.setattr(ensuring, "_PROVED", {})
    ensure(FAMILY)
    assert fresh == [FAMILY, FAMILY] and store.read(FAMILY).holds


def test_a_kept_failure_does_not_count(monkeypatch, fresh):
    ensure(FAMILY)
    verdict = store.read(FAMILY)
    bad = [Finding(f.obligation, f.setup, f.method, "differs", 1.0) for f in verdict.findings]
    assert store.write(Verdict(FAMILY, bad))
    monkeypatch.setattr(ensuring, "_PROVED", {})
    ensure(FAMILY)
    assert fresh == [FAMILY, FAMILY]


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(monkeypatch, fresh, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("VTC_CACHE", str(blocked))
    ensure(FAMILY)
    assert fresh == [FAMILY] and store.read(FAMILY) is None and blocked.read_text() == "in the way"


def test_no_home_is_no_reason_to_stop(monkeypatch, fresh):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VTC_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    ensure(FAMILY)
    assert fresh == [FAMILY]


def test_writes_are_whole_or_not_at_all(monkeypatch, fresh):
    ensure(FAMILY)
    verdict, (file,) = store.read(FAMILY), store.cache_folder().glob("proofs/*")
    before = file.read_bytes()

    def full(*args, **options):
        args[1].write('{"key"')
        raise OSError("No space left on device")

    monkeypatch.setattr(json, "dump", full)
    assert store.write(verdict) is False
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "HOME/.cache/vtc"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/vtc"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "HOME/Library/Caches/vtc"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/vtc/Cache"),
        ("win32", {}, "HOME/AppData/Local/vtc/Cache"),
        ("linux", {"VTC_CACHE": "/mine", "XDG_CACHE_HOME": "/x"}, "/mine"),
    ],
)
def test_folders_of_the_platforms(monkeypatch, platform, environment, expected):
    for name in ("VTC_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("HOME"))
    assert store.cache_folder() == Path(expected)


def test_edited_sources_change_the_digest(monkeypatch, tmp_path):
    def digest():
        store.sources.cache_clear()
        return store.sources()

    try:
        real = digest()
        assert digest() == real
        monkeypatch.setattr(vtc, "__path__", [str(tmp_path)])
        for folder in ("engine", "adapters", "kernels"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "a.py").write_text("1")
        seen = {real, digest()}
        for folder in ("engine", "adapters", "kernels"):
            (tmp_path / folder / "a.py").write_text("2")
            seen.add(digest())
        assert len(seen) == 5
    finally:
        store.sources.cache_clear()


def everything():
    return (
        torch.random.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        list(warnings.filters),
        logging.getLogger("vtc").filters[:],
        logging.getLogger("transformers").level,
        os.environ.copy(),
    )


@pytest.fixture
def unusual():
    """Global settings that would spoil a proof, put back afterwards."""
    before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    torch.set_default_dtype(torch.bfloat16)
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_default_dtype(before[0])
    torch.set_float32_matmul_precision(before[1])


def test_the_process_is_left_as_it_was(real, unusual):
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = everything()
        ensure(FAMILY)
        assert everything() == before
    assert real == [FAMILY] and store.read(FAMILY).holds


def test_the_process_is_left_as_it_was_by_a_failure(monkeypatch, real, unusual):
    break_the_engine(monkeypatch)
    before = everything()
    with pytest.raises(UnprovenError):
        ensure(FAMILY)
    assert everything() == before


def empty_weights():
    return pytest.importorskip("accelerate").init_empty_weights()


@pytest.mark.parametrize(
    "context",
    [
        torch.inference_mode,
        torch.no_grad,
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        empty_weights,
        lambda: pytest.importorskip("accelerate").init_empty_weights(include_buffers=True),
    ],
    ids=["inference", "no_grad", "meta", "autocast", "empty-weights", "empty-buffers"],
)
def test_it_holds_inside_of_contexts(real, context):
    with context():
        ensure(FAMILY)
    verdict = store.read(FAMILY)
    assert real == [FAMILY] and verdict.holds and not verdict.differing


def test_it_does_not_meddle_with_the_contexts():
    with torch.device("meta"):
        with undisturbed():
            assert torch.empty(1).device.type == "cpu"
        assert torch.empty(1).is_meta
    with torch.inference_mode():
        with undisturbed():
            assert not torch.empty(1).is_inference() and not torch.is_grad_enabled()
        assert torch.empty(1).is_inference()


def test_threads_prove_once(real, tiny_model):
    models = [tf.InternVLForConditionalGeneration(tiny_model(FAMILY).config) for _ in range(4)]
    failed = []

    def use(model):
        try:
            with vtc.patched(model, "random", keep=0.5):
                pass
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=use, args=(m,)) for m in models]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failed == [] and real == [FAMILY]


def test_only_the_prover_is_silent(caplog):
    log = logging.getLogger("vtc")
    other = threading.Thread(target=log.warning, args=("from elsewhere",))
    with caplog.at_level(logging.INFO, "vtc"), undisturbed():
        log.info("a patch of the proof")
        other.start()
        other.join()
    assert [r.getMessage() for r in caplog.records] == ["from elsewhere"]
