"""A whole number as JSON spells it."""

from typing import Any

from pydantic import BeforeValidator


def _as_whole(number: Any) -> Any:
    """JSON knows one kind of number: 16.0 is 16."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


AS_WHOLE = BeforeValidator(_as_whole)  # stands behind the range, which the schema else would not show
