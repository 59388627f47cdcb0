"""The command line: imports a command only when it is called, so that help answers at once."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from inspect import signature
from io import TextIOWrapper
from typing import Any

# What each does, and the module of its function.
COMMANDS = {
    "collect": ("record traces of a target and a drafter, and this machine's latency table", "collect.command"),
    "train": ("learn a selector from traces and write a checkpoint folder", "train.command"),
    "train-shapes": ("learn to choose the shapes of sampled trees", "train.shapes.command"),
    "fit-memory": ("fit a memory of the drafter's errors to recorded texts, for a selector", "collect.fit_memory"),
    "serve": ("answer OpenAI completions and chats with drafter, selector and verifier", "runtime.serve.command"),
    "generate": ("continue one prompt and print it", "runtime.generate"),
    "bench": ("compare policies in one interleaved run", "collect.measure.bench.command"),
    "make-pair": ("train a reference pair on the standard library, or inflate one", "collect.make_pair.command"),
    "export-gguf": ("write a pair as GGUF files for llama.cpp", "runtime.engines.llamacpp.export.command"),
    "profile": ("measure this machine's latency table again", "collect.measure.profile"),
    "checkpoint": ("inspect, verify, push or pull a checkpoint folder", "controller.checkpoint.command"),
    "check": (
        "list which drafting schemes and verifiers are lossless together, and prove it",
        "runtime.exactness.command",
    ),
    "engines": ("list the engines and adapters: what each can do, and what is installed", "runtime.hosts"),
    "doctor": ("describe this installation and test it, as one JSON document for an issue", "runtime.doctor"),
}
# The same words for an engine that runs its own loop, with which treewright is a guest: `--engine NAME`.
GUEST_COMMANDS = {
    "vllm": {
        "serve": "runtime.adapters.vllm.serve",
        "bench": "collect.measure.vllm.bench",
        "profile": "collect.measure.vllm.profile",
    }
}
SHELLS = ("bash", "zsh", "fish")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code is 2, with one sentence on stderr, for invalid input."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"treewright {version('treewright')}")
        return 0
    if words[0] not in (*COMMANDS, "completion"):
        print(f"treewright: no command is called {words[0]!r}; see treewright --help", file=sys.stderr)
        return 2
    return run(words[0], words[1:])


def usage() -> str:
    """The text of `treewright --help`."""
    commands = "\n".join(f"  {name:14}{text}" for name, (text, _) in COMMANDS.items())
    return f"""usage: treewright COMMAND [--config FILE] [options]

Learned draft trees for lossless speculative decoding.

{commands}

treewright COMMAND --help lists a command's options; configs/ holds ready-made files.
treewright completion {"|".join(SHELLS)} prints a completion script for that shell."""


def completion(words: list[str]) -> int:
    """Print a script that completes commands and their options in the shell that `words` names."""
    if len(words) != 1 or words[0] not in SHELLS:
        return complain("completion", f"give one shell of {', '.join(SHELLS)}")
    from jsonargparse import auto_parser

    functions = {name: load(name) for name in COMMANDS}
    functions["checkpoint"] = {"_help": COMMANDS["checkpoint"][0], **functions["checkpoint"]}
    parser = auto_parser(functions, as_positional=False, prog="treewright")
    print(parser.get_completion_script(f"shtab-{words[0]}"))
    return 0


def run(command: str, arguments: list[str]) -> int:
    """Import the command, make its parser from its signature, call it; its exit code.

    0 on success, 2 for invalid input or a failed system call (one sentence on stderr), 130 after Ctrl-C, 141 where the
    reader of the output is gone, 143 after SIGTERM.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ["MPLBACKEND"] = "Agg"  # figures are files; a backend set by a notebook may be missing here
    code = 0
    try:
        with standard_streams(), stopped_by_sigterm():
            code = call(command, arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        code = 141
    except OSError as error:
        from .controller.errors import system_sentence

        code = complain(command, system_sentence(error))
    except KeyboardInterrupt:
        complain(command, "interrupted")
        code = 130
    except SystemExit as stop:  # jsonargparse ends help with 0 and a bad option with 2
        code = int(stop.code or 0)
    if code:
        leave_output()
    return code


def call(command: str, arguments: list[str]) -> int:
    """Parse the arguments and run the command; exceptions other than invalid input propagate."""
    from .controller.errors import InputError

    if command == "completion":
        return completion(arguments)
    try:
        function, arguments = by_engine(command, arguments)
        from transformers.utils import logging

        from .controller.command_line import call_with

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        call_with(function, arguments, prog=f"treewright {command}")
    except InputError as error:
        return complain(command, str(error))
    except UnicodeDecodeError as error:
        return complain(command, f"a file is not UTF-8 text ({error}); check the --config file")
    return 0


def complain(command: str, sentence: str) -> int:
    """Print one line on stderr, unless it is closed; returns exit code 2."""
    with suppress(OSError, ValueError):
        print(f"treewright {command}: {sentence}", file=sys.stderr, flush=True)
    return 2


@contextmanager
def standard_streams() -> Iterator[None]:
    """Escape characters that a terminal cannot encode, and replace a missing stream by the null device."""
    missing = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    for name in missing:
        setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    yield


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does, with another exit code; a handler that the command sets stays."""

    def stop(*_: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is stop:
            signal.signal(signal.SIGTERM, before)


def leave_output() -> None:
    """Discard output that cannot be written any more, so that the interpreter does not report it at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def by_engine(command: str, arguments: list[str]) -> tuple[Any, list[str]]:
    """The function of a command for the engine that `--engine` names, with the other arguments; one under our own loop
    is the pair's."""
    at = next((index for index, word in enumerate(arguments) if word.partition("=")[0] == "--engine"), None)
    if at is None:
        return load(command), arguments
    from .controller.errors import InputError

    _, _, value = arguments[at].partition("=")
    engine = value or (*arguments, "")[at + 1]
    rest = arguments[:at] + arguments[at + (1 if value else 2) :]
    if engine not in GUEST_COMMANDS:
        function = load(command)
        if not callable(function) or "pair" not in signature(function).parameters:
            raise InputError(f"{command} runs no models, so --engine does nothing; leave it out")
        from .runtime.pair_config import ENGINES

        known = *ENGINES, *(name for name, modules in GUEST_COMMANDS.items() if command in modules)
        if engine not in known:
            raise InputError(f"--engine of {command} is one of {', '.join(known)}, got {engine!r}")
        return function, [*rest, "--pair.engine", engine]
    modules = GUEST_COMMANDS[engine]
    if command not in modules:
        raise InputError(f"{command} runs nothing in {engine}, in which there are {', '.join(modules)}; leave it out")
    return getattr(import_module(f"{__package__}.{modules[command]}"), command), rest


def load(command: str) -> Any:
    """The function of a command, or functions by the word that follows the command."""
    module = import_module(f"{__package__}.{COMMANDS[command][1]}")
    if command == "checkpoint":
        return module.ACTIONS
    if command == "serve":
        from .collect.served import ServedTexts

        return module.serve_command(ServedTexts.open)  # a floor below `collect`, it gets the recorder from here
    return getattr(module, command.replace("-", "_"))


if __name__ == "__main__":
    sys.exit(main())
