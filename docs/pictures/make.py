"""Make the pictures of the docs again, from the runs in traces/, with a Chromium without a head:

python docs/pictures/make.py [NAME ...]
"""

from __future__ import annotations

import contextlib
import io
import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COLUMNS = 100
TERMINALS = {
    "terminal-report": "shardprof report traces/fsdp2-vit-2ranks",
    "terminal-compare": "shardprof compare traces/fsdp2-vit-2ranks traces/zero3-vit-2ranks",
}
TIMELINES = {
    "timeline": ROOT / "traces" / "fsdp2-vit-2ranks",
    "timeline-eight-ranks": ROOT.parent / "shared" / "traces" / "dlrm-8rank-v100",
}
HTML = {"html-report": "shardprof report traces/fsdp2-vit-2ranks --html"}
MOST_LINES = 42
_DARK = [
    (59, 66, 82),
    (232, 106, 112),
    (140, 200, 120),
    (232, 190, 110),
    (104, 160, 240),
    (200, 130, 230),
    (80, 190, 200),
]
THEME = TerminalTheme(
    (21, 25, 31), (214, 219, 225), [*_DARK, (214, 219, 225)], [(120, 130, 145), *_DARK[1:], (255,) * 3]
)
PAGE_SIZE: ViewportSize = {"width": 1180, "height": 1000}
COLOURS = 200
"""Of a picture, so that it stays small."""

_TERMINAL = """<body style="margin:0;background:#15191f"><pre id="picture" style="margin:0;padding:18px 22px;
width:max-content;color:#d6dbe1;background:#15191f;font:15px/1.25 'DejaVu Sans Mono',monospace">{}</pre></body>"""


def main(names: Sequence[str]) -> None:
    """Make the pictures of these names, or all."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(device_scale_factor=1.25)
        for name in names or [*TERMINALS, *HTML, *TIMELINES]:
            if name in HTML:
                _html(page, name, HTML[name])
            elif name in TIMELINES:
                _timeline(page, name, TIMELINES[name])
            else:
                _terminal(page, name, TERMINALS[name])
        browser.close()


def _terminal(page: Page, name: str, command: str) -> None:
    """What a command prints in a terminal, its first lines."""
    lines = _printed(command).splitlines()[:MOST_LINES]
    console = Console(record=True, width=COLUMNS + 2, file=io.StringIO(), color_system="truecolor")
    console.print(Text.from_ansi("\n".join([f"$ {command}", "", *lines])))
    page.set_content(_TERMINAL.format(console.export_html(theme=THEME, inline_styles=True, code_format="{code}")))
    _keep(page.locator("#picture").screenshot(), name)


def _html(page: Page, name: str, command: str) -> None:
    """The top of a page that a command writes."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        subprocess.run([*shlex.split(command), str(file)], cwd=ROOT, check=True, timeout=60, stdout=subprocess.DEVNULL)
        page.set_viewport_size(PAGE_SIZE)
        page.goto(file.as_uri())
        page.locator("svg").first.wait_for()
        _keep(page.screenshot(), name)


def _timeline(page: Page, name: str, place: Path) -> None:
    """What `shardprof open` shows first."""
    with TemporaryDirectory() as folder:
        run = shutil.copytree(place, Path(folder) / "run", copy_function=shutil.copyfile)
        run.chmod(0o755)
        command = ["shardprof", "open", str(run), "--no-browser"]
        opening = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert opening.stdout is not None
        address = next(line.strip() for line in opening.stdout if line.startswith("http"))
        page.set_viewport_size(PAGE_SIZE)
        page.goto(address)
        page.wait_for_function("() => window.app?.trace?.workspace.pinnedTracks.length", timeout=60_000)
        page.evaluate("window.app.sidebar.visible && window.app.sidebar.toggleVisibility()")
        page.wait_for_timeout(3000)
        _keep(page.screenshot(), name)
        opening.terminate()


def _printed(command: str) -> str:
    """The output of a command that believes to be in a terminal, and so has colours."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    ours, its = pty.openpty()
    with subprocess.Popen(shlex.split(command), cwd=ROOT, env=environment, stdout=its) as process:
        os.close(its)
        printed = b""
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
            while part := os.read(ours, 1 << 16):
                printed += part
    os.close(ours)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return printed.decode()


def _keep(shot: bytes, name: str) -> None:
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE).save(
        HERE / f"{name}.png", optimize=True
    )


if __name__ == "__main__":
    main(sys.argv[1:])
