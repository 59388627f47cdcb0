"""The command: `python -m treewright.collect.measure.serve_load`."""

from ..program import run_program
from .command import serve_load

run_program(serve_load, "serve-load")
