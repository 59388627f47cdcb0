"""The command: `python -m treewright.collect.measure.serve_load`."""

import sys

from jsonargparse import auto_cli, set_parsing_settings

from ....controller.errors import InputError
from .command import serve_load

set_parsing_settings(docstring_parse_attribute_docstrings=True)
try:
    auto_cli(serve_load)
except InputError as error:
    print(f"serve-load: {error}", file=sys.stderr)
    sys.exit(2)
