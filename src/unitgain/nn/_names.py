"""What a user's object is called in an error."""

from functools import partial
from types import BuiltinFunctionType, FunctionType


def name_of(value: object) -> str:
    """A name that a user finds again.

    Example:
        >>> import math
        >>> name_of(math.sin), name_of(0.5)
        ('sin', 'a float')
    """
    if isinstance(value, partial):
        return name_of(value.func)
    if isinstance(value, BuiltinFunctionType):
        return value.__name__
    if isinstance(value, FunctionType | type):
        return f"{value.__module__}.{value.__qualname__}"
    return f"a {type(value).__qualname__}"
