"""Extension of mkdocstrings: a section ``Example`` is shown as code, as ``Examples`` is."""

import re
from typing import Any

import griffe

SINGULAR = re.compile(r"^( *)Example:$", re.MULTILINE)


class Examples(griffe.Extension):
    """Gives the section the name that the parser of Google's style knows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = SINGULAR.sub(r"\1Examples:", obj.docstring.value)
