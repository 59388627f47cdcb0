"""The training text of a reference pair: Python's standard library as code, as prose and as tables."""

import ast
import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...controller.errors import InputError

# Folders of tests, of installed packages and of machine-made data: not written by people for people.
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "lib2to3", "ensurepip", "__pycache__"}
HELD_OUT_PERCENT = 10
LEAST_LETTERS = 1200


@dataclass(frozen=True)
class Document:
    """One text; the documents of one module share its `module`, so that no module is both read and held out."""

    module: str
    domain: str  # code, prose or tables
    text: str

    @property
    def held_out(self) -> bool:
        """Chosen by the name alone, hence alike on every machine."""
        return int.from_bytes(hashlib.sha256(self.module.encode()).digest()[:4]) % 100 < HELD_OUT_PERCENT


def read_documents(library: Path) -> list[Document]:
    """Every module of a standard library folder in its three domains; InputError where there is none."""
    modules = [
        file for file in sorted(library.rglob("*.py")) if not LEFT_OUT.intersection(file.relative_to(library).parts)
    ]
    documents = [document for file in modules for document in _of_module(library, file)]
    if not documents:
        raise InputError(f"{library} holds no Python modules; give the folder of a standard library")
    return documents


def _of_module(library: Path, file: Path) -> Iterator[Document]:
    name = file.relative_to(library).as_posix()
    try:
        source = file.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (ValueError, SyntaxError):
        return  # templates, and files in other encodings or with null bytes
    if name == "pydoc_data/topics.py" and (topics := _topics(tree)):
        yield from (Document(f"{name}#{topic}", "prose", text) for topic, text in topics.items())
        return
    for domain, text in (("code", source), ("prose", _prose(tree)), ("tables", _table(tree))):
        if len(text) >= LEAST_LETTERS:
            yield Document(name, domain, text)


def _topics(tree: ast.Module) -> dict[str, str]:
    """The language reference that `help()` shows, by topic."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return ast.literal_eval(node.value)
    return {}


def _prose(tree: ast.Module) -> str:
    """The docstrings of a module, one after the other."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n\n".join(text for text in texts if text and len(text) > 60)


def _table(tree: ast.Module) -> str:
    """A module's functions as a Markdown table: name, arguments, first line of the docstring."""
    rows = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first_line = inspect.cleandoc(ast.get_docstring(node) or "").partition("\n")[0]
            arguments = ", ".join(argument.arg for argument in node.args.args if argument.arg != "self")
            rows.append(f"| {node.name} | {arguments} | {len(node.body)} | {first_line} |")
    return "\n".join(["| function | arguments | statements | purpose |", "|---|---|---|---|", *rows])
