"""Whole numbers as JSON spells them."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

TOKEN_ID = "Token id"  # by this title the schema is told of the largest one


def _as_whole(number: Any) -> Any:
    """JSON knows one kind of number: 16.0 is 16."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


AS_WHOLE = BeforeValidator(_as_whole)  # stands behind the range, which the schema else would not show
TokenId = Annotated[int, Field(ge=0, title=TOKEN_ID), AS_WHOLE]
