"""How long work tells how far it is."""

from collections.abc import Callable

#: Called with steps done, steps in all (0 where nobody knows) and a text; what it raises ends the work.
Progress = Callable[[int, int, str], None]
