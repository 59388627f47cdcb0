"""Many clients at once, driven by locust."""

import json
import subprocess
from pathlib import Path
from typing import Any

import programs
from traffic import BODY


class Crowd:
    """So many clients that ask for streams again and again for `seconds`; those asked for by then still end."""

    def __init__(
        self, address: str, folder: Path, *, clients: int, seconds: int, fields: dict[str, Any], **options: float
    ):
        self._report = folder / "report.json"
        self.program: subprocess.Popen[str] = programs.start(
            folder, "locust", "--headless", "--only-summary", "--locustfile", programs.SCRIPTS / "streams.py",
            "--host", address, "--users", clients, "--spawn-rate", clients, "--run-time", seconds,
            "--stop-timeout", 300,
            FIELDS=json.dumps(BODY | fields), REPORT=self._report,
            **{name.upper(): value for name, value in options.items()},
        )  # fmt: skip

    @property
    def is_there(self) -> bool:
        return self.program.poll() is None

    def report(self) -> dict[str, Any]:
        """What became of all its streams, once it has gone; none may have ended otherwise than it should."""
        printed, _ = self.program.communicate()
        assert self._report.exists(), printed
        report = json.loads(self._report.read_text())
        assert report["faults"] == []
        return report
