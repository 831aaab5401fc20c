"""What a feature store holds of one activation's space, looked at again while others fill it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aquasurf_optuna.exceptions import AquaSurfError

if TYPE_CHECKING:
    from aquasurf_optuna._site import Site


class StoredFunctions:
    """The measured functions of a site by their keys in the store; vectors are left there.

    Args:
        site: The site; where its features are kept in no store, there are none.

    Attributes:
        classes: Class of each function, None for one that the space does not have: several spaces
            may share a task.
    """

    def __init__(self, site: Site) -> None:
        self.classes: dict[str, int | None] = {}
        self._site = site

    def look(self) -> dict[str, int]:
        """Return the functions of the space that are new since the last look, and their classes.

        Raises:
            FeatureStoreError: If the store cannot be read.
        """
        source = self._site.source
        if source.store is None or source.featurizer is None:
            return {}
        listed = source.store.functions(source.featurizer.task)
        news = {key: text for key, text in listed.items() if key not in self.classes}
        self.classes.update({key: self.class_of(text) for key, text in news.items()})
        return {key: c for key in news if (c := self.classes[key]) is not None}

    def class_of(self, text: str) -> int | None:
        """Return the class of a text, None where it is of another space."""
        try:
            return self._site.catalogue.class_of(text)
        except AquaSurfError:
            return None
