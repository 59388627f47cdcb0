"""The roof: picks the command by its first word and imports it only then, so that help answers at once."""

import os
import sys

COMMANDS = {
    "collect": "record traces of a target and a drafter, and this machine's latency table",
    "train": "learn a selector from traces and write a checkpoint folder",
    "serve": "answer OpenAI completions with drafter, selector and verifier",
    "generate": "continue one prompt and print it",
    "bench": "compare policies in one interleaved run",
    "make-pair": "train a reference pair on the standard library",
    "profile": "measure this machine's latency table again",
    "checkpoint": "inspect, verify, push or pull a checkpoint folder",
    "check": "say which drafting laws and verifiers are lossless together, and prove it",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 2 where the input is at fault, with one sentence on stderr."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"treewright {version('treewright')}")
        return 0
    if words[0] not in COMMANDS:
        print(f"treewright: no command is called {words[0]!r}; see treewright --help", file=sys.stderr)
        return 2
    return run(words[0], words[1:])


def usage() -> str:
    """The bare help text."""
    lines = [f"  {name:12}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: treewright COMMAND [--config FILE] [options]",
            "",
            "Learned draft trees for lossless speculative decoding.",
            "",
            *lines,
            "",
            "treewright COMMAND --help lists a command's options; ready-made files lie in configs/.",
        ]
    )


def run(command: str, arguments: list[str]) -> int:
    """Import the command, make its parser from its signature, call it."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from jsonargparse import auto_cli, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    from .controller.errors import InputError

    try:
        auto_cli(
            load(command),
            args=arguments,
            prog=f"treewright {command}",
            as_positional=False,
            fail_untyped=True,
        )
    except InputError as error:
        print(f"treewright {command}: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # jsonargparse ends help with 0 and a bad option with 2
        return int(stop.code or 0)
    return 0


def load(command: str):
    """The function behind a command, or functions by the word that follows it."""
    match command:
        case "collect":
            from .collect.record import collect as function
        case "train":
            from .train.fit import train as function
        case "serve":
            from .collect.served import ServedTexts
            from .runtime.serve.command import serve_command

            return serve_command(ServedTexts.open)  # the server cannot import what records
        case "generate":
            from .runtime.generate import generate as function
        case "bench":
            from .collect.bench.command import bench as function
        case "make-pair":
            from .collect.make_pair.command import make_pair as function
        case "profile":
            from .collect.profile import profile as function
        case "check":
            from .runtime.exactness.command import check as function
        case "checkpoint":
            from .controller.checkpoint.command import ACTIONS

            return ACTIONS
        case _:
            raise AssertionError(command)
    return function


if __name__ == "__main__":
    sys.exit(main())
