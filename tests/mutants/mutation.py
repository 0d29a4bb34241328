"""Deliberate defects: each replaces a function or two of the product for as long as it is applied, and puts them back.

A defect is written as the function that stands in for the original, which it is given first::

    @defect("what the mutant does wrong", Owner, "method")
    def name_of_the_defect(original, self, argument): ...

It has the original's arguments and, for whoever looks at it (the wiring, type hints), the original's face.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

Wrong = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One function, method or property of the product, and what stands in for it."""

    owner: ModuleType | type
    attribute: str
    wrong: Wrong

    @property
    def where(self) -> str:
        if isinstance(self.owner, ModuleType):
            return f"{self.owner.__name__.replace('.', '/')}.py:{self.attribute}"
        return f"{self.owner.__module__.replace('.', '/')}.py:{self.owner.__qualname__}.{self.attribute}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A named wrong; ``about`` is one line for people. It is looked for under the seed's faults, or a scenario's."""

    name: str
    about: str
    scenario: str | None = None
    sites: list[Site] = field(default_factory=list)


DEFECTS: dict[str, Defect] = {}


def defect(
    about: str, owner: ModuleType | type, attribute: str, *, scenario: str | None = None
) -> Callable[[Wrong], Wrong]:
    """Register the decorated function as a defect of its own name. ``ValueError`` for a name that is taken."""

    def register(wrong: Wrong) -> Wrong:
        name = wrong.__name__
        if name in DEFECTS:
            raise ValueError(f"there is a defect {name} already")
        DEFECTS[name] = Defect(name=name, about=about, scenario=scenario)
        return also(name, owner, attribute)(wrong)

    return register


def also(name: str, owner: ModuleType | type, attribute: str) -> Callable[[Wrong], Wrong]:
    """A further site of the defect ``name``. What a class inherits is replaced where it is defined. ``AttributeError``
    when the product has no such thing."""
    holders = owner.__mro__ if isinstance(owner, type) else (owner,)
    defining = [one for one in holders if attribute in vars(one)]
    if not defining:
        raise AttributeError(f"{owner.__name__} has no {attribute}: defect {name} needs another site")

    def register(wrong: Wrong) -> Wrong:
        _check_arguments(name, vars(defining[0])[attribute], wrong)
        DEFECTS[name].sites.append(Site(owner=defining[0], attribute=attribute, wrong=wrong))
        return wrong

    return register


def _check_arguments(name: str, original: Any, wrong: Wrong) -> None:
    """``TypeError`` when the stand-in can't take what the original takes: that alone would make the actor fail, and the
    defect would be caught for nothing."""
    _, *given = inspect.signature(wrong).parameters.values()
    taken = inspect.signature(getattr(original, "fget", original)).parameters.values()
    if any(one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in given):
        return
    # Names matter where arguments are given by name.
    wanted, offered = (
        [(one.kind, one.kind is one.KEYWORD_ONLY and one.name) for one in side] for side in (taken, given)
    )
    if wanted != offered:
        raise TypeError(f"defect {name}: the original takes {', '.join(one.name for one in taken)}")


@contextmanager
def apply(name: str) -> Iterator[Counter[str]]:
    """The product with the defect ``name``; the counter holds how often each site was reached, by ``Site.where``."""
    reached: Counter[str] = Counter()
    with ExitStack() as restored:
        for site in DEFECTS[name].sites:
            original = vars(site.owner)[site.attribute]
            restored.callback(setattr, site.owner, site.attribute, original)
            setattr(site.owner, site.attribute, _in_place_of(original, site, reached))
        yield reached


def _in_place_of(original: Any, site: Site, reached: Counter[str]) -> Any:
    if isinstance(original, property):
        return property(_in_place_of(original.fget, site, reached))
    where, wrong = site.where, site.wrong

    @functools.wraps(original)
    def instead(*args: Any, **kwargs: Any) -> Any:
        reached[where] += 1
        return wrong(original, *args, **kwargs)

    return instead
