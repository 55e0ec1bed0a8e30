"""The command line: frozen options, exit codes, one line per refusal, nothing heavy for --help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.main import get_command

from tests.test_workflow import write_scan
from tests.weights_on_disk import CLASSES, write_small_weights
from voxicon.cli.main import SPINS, app, main
from voxicon.errors import UnknownClass
from voxicon.io.nifti import write_volume
from voxicon.synthesis.painting.paint import paint
from voxicon.synthesis.phantom.body import draw_body

OPTIONS = {
    "segment": {
        "-i", "--input", "-o", "--output", "-c", "--classes", "--probabilities", "--weights", "--device", "--engine",
        "--precision", "--overlap", "--fast", "--locate", "--max-memory", "--cleanup", "--overwrite", "--continue",
        "--preview", "--no-preview", "--colors", "--json", "-q", "--quiet", "--debug", "--volume", "--use",
        "--assume-orientation", "--spacing", "--hu-offset",
    },
    "ask": {
        "--request-file", "-o", "--output", "--masks", "--weights", "--report-language", "--report", "--no-report",
        "--pdf", "--parse-only", "--device", "--engine", "--fast", "--locate", "--overwrite", "--preview",
        "--no-preview", "--colors", "--json", "-q", "--quiet", "--debug", "--volume", "--use",
        "--assume-orientation", "--spacing", "--hu-offset",
    },
    "classes": {"--weights", "--json", "--debug"},
    "correct": {"--report", "--remove", "--json", "--debug"},
    "train": {
        "--data", "-o", "--output", "--preset", "--set", "--from", "--strategy", "--cache", "--device", "--json", "-q",
        "--quiet", "--debug",
    },
    "extend": {
        "-o", "--output", "-c", "--class", "--data", "--root", "--mode", "--keep", "--steps", "--set", "--remove",
        "--rename", "--controllers", "--device", "--overwrite", "-q", "--quiet", "--debug",
    },
    "export": {"--to", "-o", "--output", "-c", "--class", "--overwrite", "-q", "--quiet", "--debug"},
    "transfer": {
        "--from", "-o", "--output", "--ways", "--scans", "--seeds", "--data", "--set", "--device", "--json", "-q",
        "--quiet", "--debug",
    },
    "ablate": {"--data", "--base", "-o", "--output", "--device", "--json", "-q", "--quiet", "--debug"},
    "assembly check": {
        "-o", "--output", "--name", "--preset", "--seed", "--val", "--test", "--folds", "--official",
        "--ignore-official", "--json", "-q", "--quiet", "--debug",
    },
    "assembly cards": {"--json"},
    "assembly example": {"-o", "--output", "--cases", "--seed"},
    "evaluate": {
        "--weights", "--predictions", "--data", "--split", "--choose-on", "-c", "--classes", "--tolerance-mm",
        "--reader", "--against", "--submission", "--planted", "--diameters", "--contrast-hu", "--per-bin", "--seed",
        "--organs",
        "-o", "--output", "--device", "--json", "-q", "--quiet", "--debug",
    },
    "synthesize": {
        "--lesion", "--diameter-mm", "--contrast-hu", "--organs", "--weights", "--mass-effect", "--no-mass-effect",
        "--overwrite", "--labels", "--ct", "--phantom", "--spacing-mm", "--strength", "--real", "--phase", "--variety",
        "--card", "--count", "--seed", "-o", "--output", "--device", "--json", "-q", "--quiet", "--debug",
    },
    "weights get": {"--sha256", "--debug"},
    "weights convert": {"-o", "--output", "--overwrite", "--debug"},
    "weights join": {"-o", "--output", "--overwrite", "--debug"},
    "weights info": {"--json", "--debug"},
    "weights operate": {"--from", "-o", "--output", "--specificity", "-c", "--class", "--overwrite", "--debug"},
    "weights verify": {"--debug"},
    "words encode": {
        "-o", "--output", "--encoder", "--template", "--center", "--no-center", "--side-angle-deg", "--file", "--free",
        "--overwrite", "--debug",
    },
    "words list": {"--weights", "--json", "--debug"},
    "words compare": {
        "-o", "--output", "--weights", "--encoder", "--template", "--center", "--no-center", "--side-angle-deg",
        "--file", "--free", "--overwrite", "--debug",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command as its entry point runs it, in this process: starting torch anew costs seconds."""

    def one(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["voxicon", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return Done(int(stop.value.code or 0), out, err)

    return one


def test_commands_and_options_are_frozen() -> None:
    found: dict[str, set[str]] = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        members = getattr(command, "commands", None)
        for full, one in ({f"{name} {k}": c for k, c in members.items()} if members else {name: command}).items():
            names = [{*p.opts, *p.secondary_opts} for p in one.params if p.param_type_name == "option"]
            found[full] = set().union(*names) - {"--help", "-h"}
    assert found == OPTIONS


def test_help_and_version_import_nothing_heavy(run: Run) -> None:
    code = (
        "import sys\nfrom voxicon.cli.main import SPINS, app, main\n"
        "try:\n    app(['segment', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'monai', 'scipy', 'matplotlib', 'nibabel', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "voxicon" in run("--version").stdout


@pytest.mark.parametrize(
    ("own", "told"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_do_not_wait_long_awake_unless_told_to(own: dict[str, str], told: str | None) -> None:
    code = (
        "import os, sys, voxicon.cli.main as main\n"
        "main.app = lambda **_: print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)\n"
        "main.main()"
    )
    others = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=others | own, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(told), "False"]


@pytest.mark.parametrize(("engine", "name"), [("torch", "torch"), ("openvino", "openvino 20"), ("auto", "openvino 20")])
def test_the_engine_is_the_one_asked_for(run: Run, tmp_path: Path, engine: str, name: str) -> None:
    scan = str(write_scan(tmp_path / "a.nii.gz"))
    weights = str(write_small_weights(tmp_path / "small.safetensors"))
    done = run("segment", scan, "-o", str(tmp_path / "out"), "--weights", weights, "--engine", engine, "--no-preview")
    assert f"on cpu ({name}" in done.stderr
    (case,) = (tmp_path / "out").glob("*/case.json")
    assert json.loads(case.read_text())["settings"]["engine"].startswith(name)


@pytest.mark.parametrize(("words", "overlap"), [([], 0.5), (["--fast"], 0.25), (["--overlap", "0"], 0)])
def test_the_overlap_is_the_one_asked_for(run: Run, tmp_path: Path, words: list[str], overlap: float) -> None:
    scan = str(write_scan(tmp_path / "a.nii.gz"))
    weights = str(write_small_weights(tmp_path / "w.safetensors", inference={"window": [16, 16, 16], "overlap": 0.5}))
    common = ("segment", scan, "-o", str(tmp_path / "out"), "--weights", weights, "--engine", "torch", "--no-preview")
    run(*common, *words)
    (case,) = (tmp_path / "out").glob("*/case.json")
    assert json.loads(case.read_text())["settings"]["inference"]["overlap"] == overlap
    other = run(*common, "--continue", "--overlap", "0.75")
    assert other.returncode == 1
    assert "holds a result with other overlap" in other.stderr


def test_an_overlap_that_is_none_is_refused(run: Run, tmp_path: Path) -> None:
    scan = str(write_scan(tmp_path / "a.nii.gz"))
    weights = str(write_small_weights(tmp_path / "small.safetensors"))
    common = ("segment", scan, "-o", str(tmp_path / "out"), "--weights", weights)
    for words in (("1",), ("-0.1",), ("nan",), ("0.5", "--fast")):
        done = run(*common, "--overlap", *words)
        assert done.returncode == 2
        assert ("contradict each other" if "--fast" in words else "is no share of a window") in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_precision_asked_for_and_the_one_used_are_told(run: Run, tmp_path: Path) -> None:
    scan = str(write_scan(tmp_path / "a.nii.gz"))
    weights = str(write_small_weights(tmp_path / "small.safetensors"))
    common = ("segment", scan, "-o", str(tmp_path / "out"), "--weights", weights, "--engine", "torch", "--no-preview")
    refused = run(*common, "--precision", "bf16")
    assert refused.returncode == 2
    assert "use engine openvino or precision fp32" in refused.stderr
    assert not (tmp_path / "out").exists()
    assert run(*common).returncode == 0
    (case,) = (tmp_path / "out").glob("*/case.json")
    told = json.loads(case.read_text())["settings"]["precision"]
    assert told == {"asked": "fp32", "used": "fp32", "reason": "", "checked_windows": 0, "lowest_dice": {}}


def test_segment_end_to_end(run: Run, tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "w.safetensors")
    scan = write_scan(tmp_path / "a.nii.gz")
    out = tmp_path / "out"
    done = run("segment", str(scan), "-o", str(out), "-c", "liver,right kidney", "--weights", str(weights), "--json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["status"] == "done"
    assert sorted(p.name for p in (out / "a" / "segmentations").iterdir()) == ["kidney_right.nii.gz", "liver.nii.gz"]
    again = run("segment", str(scan), "-o", str(out), "-c", "liver", "--weights", str(weights), "-q")
    assert again.returncode == 1
    assert "[E-OUTPUT]" in again.stderr
    words = ["-c", "liver", "-c", "2", "--weights", str(weights), "--continue"]
    skipped = run("segment", "-i", str(scan), "-o", str(out), *words)
    assert skipped.returncode == 0
    assert "complete" in skipped.stderr
    # Machine output only on stdout: without --json there is none.
    assert skipped.stdout == ""


def test_probabilities_on_request(run: Run, tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "w.safetensors")
    scan = write_scan(tmp_path / "a.nii.gz")
    base = ["segment", str(scan), "--weights", str(weights), "--no-preview", "-q"]

    def made(out: str, *words: str) -> tuple[list[str], list[str]]:
        done = run(*base, "-o", str(tmp_path / out), *words)
        assert done.returncode == 0, done.stderr
        folders = (tmp_path / out / "a" / name for name in ("segmentations", "probabilities"))
        masks, maps = ([p.name.removesuffix(".nii.gz") for p in f.iterdir()] if f.is_dir() else [] for f in folders)
        return sorted(masks), sorted(maps)

    assert made("none", "-c", "liver") == (["liver"], [])
    both = ["kidney_right", "spleen"]
    assert made("named", "-c", "liver", "--probabilities", "1", "--probabilities", "right kidney") == (
        ["kidney_right", "liver", "spleen"], both,
    )  # fmt: skip
    assert made("comma", "-c", "spleen, right kidney", "--probabilities", "spleen, right kidney") == (both, both)
    assert made("all", "-c", "spleen,right kidney", "--probabilities", "all") == (both, both)
    assert made("more", "-c", "spleen", "--probabilities", "all,right kidney") == (both, both)
    # Without -c, all is everything the weights know.
    assert made("every", "--probabilities", "all") == (sorted(CLASSES), sorted(CLASSES))
    # What lacks probabilities is not complete; what has them is.
    assert made("none", "-c", "liver", "--continue", "--probabilities", "all") == (["liver"], ["liver"])
    again = run(*base[:-1], "-o", str(tmp_path / "none"), "-c", "liver", "--continue", "--probabilities", "liver")
    assert "complete, left as it is" in again.stderr


def test_probabilities_of_the_shipped_weights(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    body = draw_body(rng, 6.0, "abdomen")
    scan = tmp_path / "a.nii.gz"
    write_volume(scan, np.rint(paint(body, rng, "venous")).astype(np.int16), body.geometry)
    done = run("segment", str(scan), "-o", str(tmp_path), "-c", "liver", "--probabilities", "all", "--cleanup", "none")
    assert done.returncode == 0, done.stderr
    case = json.loads((tmp_path / "a" / "case.json").read_text())
    assert case["weights"]["name"] == "starter"
    assert case["probabilities"] == ["liver"]
    read = {f: nib.load(tmp_path / "a" / f / "liver.nii.gz") for f in ("segmentations", "probabilities")}
    probability, mask = read["probabilities"].get_fdata(), read["segmentations"].get_fdata() > 0
    assert probability.shape == mask.shape == nib.load(scan).shape
    assert probability.min() == 0
    assert 0.5 < probability.max() <= 1
    assert mask.any()
    # The mask's own cut keeps its volume and lies near one half; far from it the two must agree.
    assert not mask[probability < 0.1].any()
    assert mask[probability > 0.9].all()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["segment"], 2, "no scan given"),
        (["segment", "nowhere.nii.gz"], 2, "no such file"),
        (["segment", "{scan}", "-c", "livr"], 2, "did you mean liver"),
        (["segment", "{scan}", "--probabilities", "livr"], 2, "did you mean liver"),
        (["segment", "{scan}", "--probabilities", "aorta", "--weights", "{weights}"], 2, "not trained for aorta"),
        (["segment", "{scan}", "--overwrite", "--continue"], 2, "contradict"),
        (["segment", "{scan}", "--weights", "nowhere"], 2, "E-WEIGHTS"),
        (["segment", "{scan}", "--weights", "{scan}"], 2, "E-WEIGHTS"),
        (["segment", "{scan}", "--spacing", "1,2"], 2, "three numbers"),
        (["segment", "{scan}", "--use", "both"], 2, "sform"),
        (["segment", "{scan}", "--device", "toaster", "--weights", "{weights}"], 2, "unknown"),
        (["segment", "{scan}", "--cleanup", "sometimes"], 2, "sometimes"),
        (["segment", "{text}", "--weights", "{weights}", "-o", "{out}"], 1, "E-FORMAT"),
        (["weights", "verify", "nowhere"], 2, "E-WEIGHTS"),
        (["weights", "convert", "{text}", "-o", "{out}.safetensors"], 2, "E-WEIGHTS"),
        (["weights", "convert", "{text}", "-o", "x.pth"], 2, "must end in .safetensors"),
        (["weights", "get", "https://example.org/x"], 2, "hf:"),
        (["train", "nowhere.yaml"], 2, "cannot be read"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_refusals_are_one_line_with_the_right_exit_code(
    run: Run, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    places = {
        "scan": write_scan(tmp_path / "a.nii.gz"),
        "weights": write_small_weights(tmp_path / "w.safetensors"),
        "text": tmp_path / "text.nii.gz",
        "out": tmp_path / "out",
    }
    places["text"].write_text("<html>this is no scan</html>" * 40)
    done = run(*(word.format(**places) for word in words))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    ours = [line for line in done.stderr.splitlines() if line.startswith("voxicon: ")]
    assert len(ours) <= 1


def test_without_a_word_it_helps(run: Run) -> None:
    done = run()
    assert done.returncode == 2
    assert "segment" in done.stdout
    assert "error" not in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = str(write_scan(tmp_path / "a.nii.gz"))
    monkeypatch.setattr(sys, "argv", ["voxicon", "segment", scan, "-c", "livr", "--debug"])
    with pytest.raises(UnknownClass, match="did you mean liver"):
        main()


def test_an_interrupt_is_130(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("voxicon.workflow.find_jobs", interrupt)
    done = run("segment", str(tmp_path))
    assert done.returncode == 130
    assert "--continue" in done.stderr


def test_a_bug_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("voxicon.workflow.find_jobs", stumble)
    done = run("segment", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("voxicon: internal error: ZeroDivisionError: a bug; ")
    assert done.stderr.count("\n") == 1


def test_weights_info(run: Run, tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "w.safetensors")
    text = run("weights", "info", str(weights)).stdout
    assert "spleen, kidney_right, liver" in text
    assert "license" in text
    assert json.loads(run("weights", "info", str(weights), "--json").stdout)["card"]["title"] == "noise"
