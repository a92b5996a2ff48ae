"""How Sphinx makes the site of these pages: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import airflow_ray  # noqa: E402  # found by the path above

project = "airflow-ray"
author = "the authors of airflow-ray"
copyright = author
release = version = airflow_ray.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "from_code", "gallery"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

# Headings are anchors as on GitHub, so that a link works on both.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"airflow-ray {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
highlight_language = "none"
