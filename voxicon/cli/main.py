"""``voxicon``: the application and the one place where errors become exit codes.

Exit codes: 0 done, 1 at least one case failed, 2 usage or configuration, 130 interrupted.
Heavy libraries are imported inside commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from voxicon.cli import (
    ablate,
    ask,
    assembly,
    classes,
    correct,
    evaluate,
    export,
    extend,
    segment,
    synthesize,
    train,
    transfer,
    weights,
    words,
)
from voxicon.errors import VoxiconError
from voxicon.version import __version__

INTERRUPTED = 130

SPINS = "10000"
"""How often a thread of torch looks whether the others are there before it sleeps (GCC's OpenMP; others do not ask).

Left to itself it looks 300,000 times, and where another program has the core, the one waited for cannot run. Own
choice, measured in docs/performance.md: far less is slower alone, more is slower beside others.
Source: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html.
"""

app = typer.Typer(
    name="voxicon",
    help="Say what to find in a CT; get masks of organs and tumors. Research software, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment.segment)
app.command("ask")(ask.ask)
app.command("classes")(classes.classes)
app.command("correct")(correct.correct)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("extend")(extend.extend)
app.command("export")(export.export)
app.command("transfer")(transfer.transfer)
app.command("ablate")(ablate.ablate)
app.command("synthesize")(synthesize.synthesize)
app.add_typer(assembly.app, name="assembly")
app.add_typer(weights.app, name="weights")
app.add_typer(words.app, name="words")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voxicon {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Say what to find in a CT; get masks of organs and tumors. Research software, not a medical device."""


def main() -> None:
    """Run the command line; every expected error is one line on stderr and an exit code."""
    debug = "--debug" in sys.argv or os.environ.get("VOXICON_DEBUG") == "1"
    _wait_less()
    try:
        code = app(standalone_mode=False)
        # Typer itself turns Ctrl-C into this code, without a word.
        if code == INTERRUPTED:
            _interrupted()
        sys.exit(code if isinstance(code, int) else 0)
    except VoxiconError as error:
        if debug:
            raise
        _say(f"error [{error.code}] {error}")
        sys.exit(error.exit_code)
    except TyperException as error:
        # Called without any word, Typer has printed the help already and has nothing to say.
        if error.format_message():
            _say(f"error [E-USAGE] {error.format_message()}; see voxicon --help")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _interrupted()
    except BrokenPipeError:
        # The reader of our output went away; writing to it again at exit would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _say(f"internal error: {type(error).__name__}: {error}; run again with --debug for the traceback")
        sys.exit(1)


def _wait_less() -> None:
    """Set `SPINS` before torch is imported, which reads it once, unless the user chose."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def _interrupted() -> None:
    _say("interrupted; finished files are whole, the same command again goes on ('segment' with --continue)")
    sys.exit(INTERRUPTED)


def _say(text: str) -> None:
    typer.echo(f"voxicon: {' '.join(text.split())}", err=True)
