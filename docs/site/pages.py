"""The pages of the site that are made from elsewhere: its front from README.md, a page a command from its --help."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from shardprof.cli._help import is_table
from shardprof.cli._manual import Manual, manuals

ROOT = Path(__file__).parents[2]
COMMANDS = "commands"  # stands in the navigation where the pages of commands go
USAGE_WIDTH = 96
FETCHED = "https://unpkg.com/iframe-worker/shim"
_CODE = re.compile(r"(```.*?```|`[^`\n]*`|^ {4}.*$)", re.DOTALL | re.MULTILINE)
_MARKUP = re.compile(r"([\\*_\[\]#])")
_NAMED = re.compile(r"(?<![(\[/\w])docs/([\w/-]+)\.md\b")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation with a page a command."""
    _fill(config.nav, [f"{COMMANDS}/{manual.name}.md" for manual in manuals()])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files with those that are made here."""
    front = (ROOT / "README.md").read_text().replace("](docs/", "](").replace("](LICENSE)", "](assets/LICENSE)")
    made = {"index.md": front, "assets/LICENSE": (ROOT / "LICENSE").read_text()}
    made |= {f"assets/{name}": (Path(__file__).parent / name).read_text() for name in ("site.css", "worker.js")}
    made |= {f"{COMMANDS}/{manual.name}.md": "\n".join(_command(manual)) for manual in manuals()}
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Pages that prose only names are links on the site."""
    up = "../" * page.file.src_uri.count("/")
    parts = _CODE.split(markdown)
    parts[::2] = [_NAMED.sub(rf"[docs/\1.md]({up}\1.md)", prose) for prose in parts[::2]]
    return "".join(parts)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """What the theme would fetch so that files can be searched comes from here."""
    up = "../" * page.file.src_uri.count("/")
    return output.replace(FETCHED, f"{up}assets/worker.js")


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:
    """The same of the page that tells that there is none."""
    return output.replace(FETCHED, "assets/worker.js")


def _fill(nav: object, pages: list[str]) -> None:
    """Put the pages where the navigation says COMMANDS."""
    for entry in nav if isinstance(nav, list) else []:
        for title, below in entry.items() if isinstance(entry, dict) else ():
            if below == COMMANDS:
                entry[title] = pages
            _fill(below, pages)


def _command(manual: Manual, level: str = "#") -> Iterator[str]:
    yield from [f"{level} shardprof {manual.name}", "", _prose(manual.summary), ""]
    yield from ["```text", textwrap.fill(manual.usage, USAGE_WIDTH, subsequent_indent="    "), "```", ""]
    yield from _blocks(manual.text)
    for options in manual.options:
        yield from ["", f"| {options.title} | |", "|---|---|"]
        yield from ("| `{}` | {} |".format(*map(_cell, (written, _prose(does)))) for written, does in options.rows)
    yield ""
    yield from _blocks(manual.notes)
    for verb in manual.verbs:
        yield from _command(verb, "##")


def _blocks(blocks: tuple[str, ...]) -> Iterator[str]:
    for block in blocks:
        yield from ["```text", block, "```", ""] if is_table(block) else [_prose(" ".join(block.split())), ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _prose(text: str) -> str:
    """Text as Markdown that shows it: but for `code` nothing of it is markup."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [_MARKUP.sub(r"\\\1", html.escape(part, quote=False)) for part in parts[::2]]
    return "".join(parts)
