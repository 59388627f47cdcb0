"""The Jinja2 templates of the report and the model card; HTML is escaped."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from ...controller.intervals import Interval
from ...controller.plans.setting import temperature_key, temperature_title


def render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"shown": _shown, "temperature": temperature_key, "titled": temperature_title}
    environment.tests["word"] = lambda value: isinstance(value, str) and not value[:1].isdigit()
    return environment.get_template(template).render(values)


def _shown(value: Any) -> str:
    if isinstance(value, Interval):
        return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
