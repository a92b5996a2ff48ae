"""The notebook of the examples: it runs, and its functions are those of the DAG."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NOTEBOOK = Path("notebook", "higgs.ipynb")


def notebook() -> Any:
    return nbformat.read(EXAMPLES / NOTEBOOK, as_version=4)


def sources() -> list[str]:
    return [cell.source for cell in notebook().cells]


def test_notebook_writes_the_functions_that_the_dag_names():
    (written,) = (source for source in sources() if source.startswith("%%writefile higgs_steps.py\n"))
    assert written.partition("\n")[2] + "\n" == (EXAMPLES / "higgs_steps.py").read_text()


def test_notebook_holds_no_outputs():
    cells = [cell for cell in notebook().cells if cell.cell_type == "code"]
    assert [cell for cell in cells if cell.outputs or cell.execution_count] == []


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(tmp_path):
    examples = tmp_path / "examples"
    shutil.copytree(EXAMPLES, examples)
    folder = str(examples / NOTEBOOK.parent)
    ran = NotebookClient(notebook(), resources={"metadata": {"path": folder}}).execute()
    (validated,) = (cell for cell in ran.cells if cell.source.startswith("validate("))
    assert ast.literal_eval(validated.outputs[-1]["data"]["text/plain"])["auc"] > 0.75
