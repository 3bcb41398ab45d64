"""The notebooks in docs/ run from their first cell to their last, and hold no outputs of an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient")
nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat")

CHECKOUT = Path(__file__).parents[2]
NOTEBOOKS = sorted((CHECKOUT / "docs" / "notebooks").glob("*.ipynb"))
TIMEOUT_S = 240

pytestmark = pytest.mark.integration


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks_to_check() -> None:
    assert "reading_traces.ipynb" in {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_outputs_are_stored(path: Path) -> None:
    assert [(cell.outputs, cell.execution_count) for cell in code_cells(path)] == [([], None)] * len(code_cells(path))


@pytest.mark.filterwarnings("ignore")  # those of the Jupyter client
@pytest.mark.parametrize("folder", [".", "docs/notebooks"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_cell_runs_and_shows_something(path: Path, folder: str) -> None:
    for module in ("ipykernel", "polars", "pandas", "pyarrow", "hta"):
        pytest.importorskip(module, reason=f"the notebook uses {module}")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(CHECKOUT / folder)}}
    )
    client.execute()  # raises what a cell raises
    shown = [[output.output_type for output in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]
    assert [types for types in shown if "execute_result" not in types] == []
