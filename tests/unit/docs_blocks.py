"""What stands in Markdown besides prose: fenced and indented blocks, and the commands of ours in them."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from shardprof import cli

_FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}[^\n]*\n|\n(?= {4}))+")
_COMMAND = re.compile(r"(?:^|\$ |run: |srun |\| |\$\()((?:\w+=\S+ )*)shardprof (\S.*)$")
_REMARK = re.compile(r"\s{2,}.*")
_OPERATORS = "();<>|&"


@dataclass(frozen=True)
class Block:
    """A block of code; the language of an indented one is not told."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """The blocks of a page in Markdown."""
    fenced = [Block(language, text) for language, text in _FENCED.findall(page)]
    rest = _FENCED.sub("", page)
    indented = [re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE) for match in _INDENTED.finditer(rest)]
    return fenced + [Block("", text) for text in indented]


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `shardprof ...` in lines for a shell; remarks behind two blanks are none of them."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if match := _COMMAND.search(line.strip()):
            arguments = _words(_REMARK.sub("", match[2]))
            if arguments and arguments[0].islower():
                yield arguments


def refused(arguments: list[str]) -> str:
    """Why the real parsers refuse a command; empty where they do not."""
    if arguments[0] not in cli.command_names():
        return "" if arguments == ["--version"] else f"there is no command {arguments[0]}"
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            cli.parser_of(arguments[0]).parse_args(arguments[1:])
    except SystemExit as error:
        return said.getvalue() if error.code else ""
    return ""


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(re.sub(r"\[(.*?)\]", r"\1", text), posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set(_OPERATORS):
            break
        words.append(word)
    return words
