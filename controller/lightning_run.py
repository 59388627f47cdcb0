"""Lightning as every command uses it: in this process alone, and stopped by signals as anything else is."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException


def new_trainer(**options: Any) -> lightning.Trainer:
    """A trainer in this process alone, whatever cluster or launcher the environment's variables describe."""
    environment = LightningEnvironment()
    environment.set_global_rank(0)
    with _quiet():
        return lightning.Trainer(
            devices=1,
            num_nodes=1,
            plugins=[environment],
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )


def run(trainer: lightning.Trainer, module: lightning.LightningModule, *data: Any, **options: Any) -> None:
    """Fit; SIGTERM leaves as SystemExit 143 and SIGINT as KeyboardInterrupt, as they do everywhere else."""
    try:
        with _quiet():
            trainer.fit(module, *data, **options)
    except SIGTERMException as stop:  # whose exit code would be 0
        raise SystemExit(128 + signal.SIGTERM) from stop
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # which Lightning turns into exit code 1
            raise KeyboardInterrupt from stop
        raise


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses Lightning's log and warnings."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield
