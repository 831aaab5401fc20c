"""A search space without its duplicates; see `_catalogue.py` for the door and the terms.

In the order of the work: `_levels` evaluates every graph, `_grouping` finds which are equal,
`_simplest` names each class, `_classes` puts these together, `_file` keeps the result.
"""

from aquasurf_optuna.catalogue._catalogue import Catalogue

__all__ = ["Catalogue"]
