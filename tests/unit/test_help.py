"""Help: an example a command, at every width; the same as a man page and as completion in real shells."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from shardprof import cli
from shardprof.cli import _help
from shardprof.cli._manual import Manual, manuals
from shardprof.cli.completion import SHELLS
from shardprof.cli.man import _sentence

from .docs_blocks import commands, refused

ROOT = Path(__file__).parents[2]
COMMANDS = cli.command_names()
SHARDPROF = (sys.executable, "-m", "shardprof")
NASTY = [
    ".SH not a heading", "'tis no request", "C:\\new\\table", "back`tick", "a--b - c", "~ ^ \" '", "%(prog)s",
    "\\fBbold\\fR", "x" * 90, "\\", "...", "µs · 95 %",
]  # fmt: skip


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command line prints, which then ends well."""
    try:
        code = cli.main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 0
    return capsys.readouterr().out


def words(text: str) -> list[str]:
    return text.replace("\\\n", " ").split()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_which_the_parser_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, found, example = shown(capsys, name, "--help").partition("\nexample:\n")
    if not found:
        _, found, example = shown(capsys, name, "--help").partition("\nexamples:\n")
    given = list(commands(example))
    assert any(arguments[0] == name for arguments in given)
    assert [why for arguments in given if (why := refused(arguments))] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal_and_says_the_same_at_every_width(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = {}
    for columns in (80, 120, 400):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = shown(capsys, name, "--help")
        assert max(map(len, text.splitlines())) <= columns
        _, _, at[columns] = text.partition("\n\n")  # behind the usage
    assert words(at[80]) == words(at[120]) == words(at[400])


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_overview_has_every_command_once(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = shown(capsys)
    assert max(map(len, text.splitlines())) <= columns
    listed = re.findall(r"^  ([a-z][a-z-]*)  +[A-Z]", text, re.MULTILINE)
    assert sorted(listed) == COMMANDS
    assert shown(capsys, "--help") == text


def test_commands_stand_under_their_purpose() -> None:
    text = _help.by_purpose({"zeta": "A stranger.", "report": "Reads.", "record": "Records.", "bench": "Studies."})
    assert text == (
        "record a training:\n  record  Records.\n\nread what was recorded:\n  report  Reads.\n\n"
        "choose a strategy:\n  bench   Studies.\n\nother:\n  zeta    A stranger."
    )


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from shardprof import __version__

    assert shown(capsys, "--version") == f"shardprof {__version__}\n"


@pytest.mark.parametrize(
    ("block", "width", "lines"),
    [
        ("one two\nthree", 9, ["one two", "three"]),
        ("t:\n  a  one two three", 12, ["t:", "  a  one two", "     three"]),
        ("e:\n  run --out DIR --steps 3", 20, ["e:", "  run --out DIR \\", "      --steps 3"]),
        ("e:\n  run --out DIR      there", 20, ["e:", "  run --out DIR", "      there"]),
        ("e:\n  run 'a-b-c-d-e-f-g' x", 16, ["e:", "  run \\", "      'a-b-c-d-e-f-g' \\", "      x"]),
    ],
)
def test_blocks_are_filled_and_tables_keep_their_columns(block: str, width: int, lines: list[str]) -> None:
    assert _help._block(block, width).splitlines() == lines


def strings(manual: Manual) -> list[str]:
    """All that a manual says: words that its page must hold."""
    said = [manual.usage, manual.summary, *manual.text, *manual.notes]
    said += [text for options in manual.options for row in options.rows for text in row]
    return said + [text for verb in manual.verbs for text in strings(verb)]


def plain(text: str) -> str:
    return "".join(re.sub(r".\x08", "", text).replace("`", "").split())


@pytest.fixture(scope="module")
def page() -> str:
    return subprocess.run([*SHARDPROF, "man"], capture_output=True, text=True, check=True, timeout=60).stdout


def rendered(command: Sequence[str], roff: str) -> str:
    """What a program makes of the page; it has to have nothing to complain about."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}")
    ran = subprocess.run(command, input=roff, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("groff", "-k", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=200n", "-rHY=0"),
        ("mandoc", "-Werror", "-Tutf8", "-Owidth=200"),
    ],
    ids=lambda command: command[0],
)
def test_the_man_page_says_all_of_every_help(page: str, command: Sequence[str]) -> None:
    text = plain(rendered(command, page))
    assert [said for manual in manuals() for said in strings(manual) if plain(said) not in text] == []


def test_the_man_page_is_shown_by_man(page: str) -> None:
    assert "shardprof - Where the time" in rendered(("man", "--warnings", "-E", "utf8", "-l", "-"), page)


@pytest.mark.parametrize(
    "command",
    [("groff", "-k", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=200n"), ("mandoc", "-Werror", "-Tutf8", "-Owidth=200")],
    ids=lambda command: command[0],
)
def test_text_is_never_taken_for_roff(command: Sequence[str]) -> None:
    body = "\n.PP\n".join(_sentence(text) for text in NASTY)
    text = plain(rendered(command, f'.TH X 1 "" "x" "y"\n.SH NAME\nx \\- y\n.SH TEXT\n{body}\n'))
    assert [nasty for nasty in NASTY if plain(nasty) not in text] == []


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    files = {shell: folder / shell for shell in SHELLS}
    for shell, file in files.items():
        with file.open("w") as out:
            subprocess.run([*SHARDPROF, "completion", shell], stdout=out, check=True, timeout=60)
    return files


COMPLETIONS = [
    (["re"], {"record", "report"}),
    (["report", "--form"], {"--format"}),
    (["report", "--clock", ""], {"collectives", "traces"}),
    (["record", "--mode", ""], {"full", "light"}),
    (["record", "--sink", ""], {"tensorboard", "wandb"}),
    (["bench", ""], {"run", "report", "export"}),
    (["bench", "report", "--format", "m"], {"markdown"}),
    (["completion", "t"], {"tcsh"}),
]
IN_BASH = r"""
source "$1"; shift
COMP_WORDS=(shardprof "$@"); COMP_CWORD=$#
$(complete -p shardprof | sed 's/.*-F \([^ ]*\).*/\1/')
printf '%s\n' "${COMPREPLY[@]}"
"""
PATHS = [
    ["report", "run"],
    ["record", "--out", "run"],
    ["record", "--", "torchrun", "run"],
    ["record", "--mode", "light", "--", "torchrun", "--nproc-per-node", "8", "run"],
    ["nccl-log", "run"],
    ["check", "--junit", "run"],
]
ZSHRC = "PS1='READY> '; fpath=($ZDOTDIR $fpath); autoload -Uz compinit; compinit -u -D\n"


@pytest.mark.parametrize(("typed", "offered"), COMPLETIONS, ids=lambda value: " ".join(value))
def test_bash_completes(scripts: dict[str, Path], typed: list[str], offered: set[str]) -> None:
    ran = subprocess.run(
        ["bash", "--norc", "-c", IN_BASH, "bash", scripts["bash"], *typed], capture_output=True, text=True, timeout=60
    )
    assert set(ran.stdout.split()) == offered


def test_bash_completes_files_where_a_path_belongs(scripts: dict[str, Path], tmp_path: Path) -> None:
    for name in ("run-a", "run-b", "other"):
        (tmp_path / name).mkdir()
    for typed in PATHS:
        command = ["bash", "--norc", "-c", IN_BASH, "bash", str(scripts["bash"]), *typed]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert sorted(ran.stdout.split()) == ["run-a", "run-b"], typed


def test_fish_completes_files_where_a_path_belongs(scripts: dict[str, Path], tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish")
    for name in ("run-a", "run-b", "other"):
        (tmp_path / name).mkdir()
    for typed in PATHS:
        asked = f"source {scripts['fish']}; complete -C '{' '.join(['shardprof', *typed])}'"
        ran = subprocess.run(
            ["fish", "--no-config", "-c", asked], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert sorted(line.partition("/")[0] for line in ran.stdout.splitlines()) == ["run-a", "run-b"], typed


@pytest.mark.parametrize(("typed", "offered"), COMPLETIONS, ids=lambda value: " ".join(value))
def test_fish_completes(scripts: dict[str, Path], typed: list[str], offered: set[str], tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish")
    line = " ".join(["shardprof", *typed])
    ran = subprocess.run(
        ["fish", "--no-config", "-c", f"source {scripts['fish']}; complete -C '{line}'"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert {line.partition("\t")[0] for line in ran.stdout.splitlines()} == offered


ZSH_COMPLETES = [("record --mode \t\t", ("full", "light")), ("record -- torchrun train_f\t", ("train_far.py",))]


@pytest.mark.parametrize(("typed", "offered"), ZSH_COMPLETES)
def test_zsh_completes_in_a_terminal(
    scripts: dict[str, Path], typed: str, offered: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / ".zshrc").write_text(ZSHRC)
    (tmp_path / "train_far.py").touch()
    shutil.copy(scripts["zsh"], tmp_path / "_shardprof")
    _types(["zsh", "-i"], {"ZDOTDIR": str(tmp_path), "TERM": "dumb"}, tmp_path, typed, offered)


@pytest.mark.parametrize("typed", PATHS, ids=" ".join)
def test_tcsh_completes_files_in_a_terminal(scripts: dict[str, Path], typed: list[str], tmp_path: Path) -> None:
    (tmp_path / "run-far").mkdir()
    (tmp_path / ".tcshrc").write_text(f"set edit; source {scripts['tcsh']}; set prompt = 'READY> '\n")
    _types(["tcsh"], {"HOME": str(tmp_path), "TERM": "vt100"}, tmp_path, f"{' '.join(typed)}\t", ("run-far",))


def _types(
    command: Sequence[str], environment: dict[str, str], folder: Path, typed: str, offered: Sequence[str]
) -> None:
    """Type into a shell in a terminal, and wait for what it has to offer."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}")
    ours, its = pty.openpty()
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**os.environ, **environment}, cwd=folder
    ) as shell:
        os.close(its)
        try:
            _wait_for(ours, "READY> ")
            os.write(ours, f"shardprof {typed}".encode())
            _wait_for(ours, *offered)
        finally:
            shell.kill()
    os.close(ours)


def _wait_for(terminal: int, *texts: str) -> None:
    shown = ""
    while not all(text in shown for text in texts):
        assert select.select([terminal], [], [], 30)[0], shown
        shown += os.read(terminal, 4096).decode(errors="replace")


@pytest.mark.parametrize("shell", ["bash", "fish", "tcsh", "zsh"])
def test_the_scripts_are_of_their_shells(scripts: dict[str, Path], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    ran = subprocess.run([shell, "-n", scripts[shell]], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
