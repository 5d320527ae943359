"""HTML pages that stand alone: one file, no scripts, nothing fetched, every text escaped."""

from pathlib import Path
from typing import Any

import jinja2

from fasterseg.base.text import printable

_TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, **values: Any) -> str:
    """Fills a template.

    Args:
        template: Its file name in the folder `templates`.
        values: What it shows; every text is escaped.

    Returns:
        The page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = printable
    return environment.get_template(template).render(values)
