"""Two processes that share a run do what one process does with twice the batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.train.phantoms import CPU, judge, make_config, make_sampler, make_trainer
from tests.train.test_loop import rows_of
from tests.train.two_processes import SHARED
from voxicon.errors import ConfigError
from voxicon.train.processes import Processes, processes

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the runs of `two_processes`: starting torch twice costs seconds, so it is done once."""
    folder = tmp_path_factory.mktemp("two")
    command = [*TORCHRUN, "-m", "tests.train.two_processes", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def assert_same_training(shared: Path, alone: Path) -> None:
    states = [torch.load(folder / "resume.pt", weights_only=True) for folder in (shared, alone)]
    for part in ("network", "averaged"):
        for name, tensor in states[0][part].items():
            assert float((tensor - states[1][part][name]).abs().max()) <= 1e-5, f"{part} {name}"
    for a, b in zip(*(state["optimizer"]["state"].values() for state in states), strict=True):
        # The first moment of AdamW is a running mean of the gradients.
        assert torch.allclose(a["exp_avg"], b["exp_avg"], atol=1e-5)
    assert states[0]["step"] == states[1]["step"] == 3
    rows, expected = rows_of(shared), rows_of(alone)
    assert [(row["step"], "loss" in row) for row in rows] == [(row["step"], "loss" in row) for row in expected]
    assert [row["loss"] for row in rows if "loss" in row] == pytest.approx(
        [row["loss"] for row in expected if "loss" in row], abs=2e-5
    )


def test_the_two_know_different_classes() -> None:
    # Otherwise the tests below could not tell a sum over known pairs from a mean of means.
    sampler = make_sampler(make_config())
    known = [sampler.batch(step, range(2)).known_BN.sum(1).tolist() for step in range(3)]
    assert any(one != two for one, two in known)


def test_two_processes_equal_one_with_twice_the_batch(shared_runs: Path, tmp_path: Path) -> None:
    """Also after a stop and a resumption on the way."""
    make_trainer(tmp_path, validate=judge, **{**SHARED, "batch": 2}).run()
    assert_same_training(shared_runs / "resumed", tmp_path)
    assert (shared_runs / "resumed" / "best.safetensors").is_file()


def test_batches_that_wait_for_each_other_are_summed_too(shared_runs: Path, tmp_path: Path) -> None:
    make_trainer(tmp_path, **{**SHARED, "batch": 4}).run()
    assert_same_training(shared_runs / "accumulated", tmp_path)


def test_the_store_is_shared(shared_runs: Path) -> None:
    assert [path.name for path in (shared_runs / "cache").iterdir()] == ["key"]


def test_alone_everything_is_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes(CPU) as (alone, device):
        assert (alone, device) == (Processes(), CPU)
        assert alone.is_first
        assert alone.totals([1.5, 2], device) == [1.5, 2]
        assert alone.gather("x") == ["x"]
        network = torch.nn.Linear(1, 1)
        assert alone.share(network, device) is network
        alone.wait()


def test_devices_that_cannot_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused = pytest.raises(ConfigError, match=r"process 2 on this machine, which has 1 GPU.*or pass --device cpu")
    with refused, processes(torch.device("cuda")):
        pass
    with pytest.raises(ConfigError, match="cannot share the device mps"), processes(torch.device("mps")):
        pass
