"""Pages: HTML files for people, each complete in itself.

A page refers to nothing outside its file. `base.html` holds its head and style, `table.html` its
tables; the template of a page extends them.
"""

from __future__ import annotations

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render(package: str, template: str, **values: object) -> str:
    """The HTML of a page.

    Args:
        package: the Python package that holds the template.
        template: its file name, such as `doctor.html`.
        values: what the template shows; text is escaped.
    """
    return _templates(package).get_template(template).render(values)


@cache
def _templates(package: str) -> Environment:
    """Compiled once: a page that is served renews itself each second."""
    folders = [PackageLoader(name, "") for name in (package, "fmbench.page")]
    return Environment(
        loader=ChoiceLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
