"""Features that are computed when somebody asks for their values, with what led to them, as one chain of an engine."""

from torch import Tensor

from cosmictagger.models.sparse.engine import Engine, SparseFeatures, Step


class Deferred(SparseFeatures):
    """What a step makes of features.

    Further steps make the chain longer. Features that two parts take must have been computed (`Vocabulary.settle`)
    before the first takes them, or they would be computed twice: that is refused.
    """

    def __init__(self, features: SparseFeatures, step: Step, level: int, engine: Engine) -> None:
        self._values = None
        self.sites, self.level = features.sites, level
        self._engine = engine
        self._taken = False
        self._before: tuple[SparseFeatures, tuple[Step, ...]] | None = (features, (step,))
        if isinstance(features, Deferred) and features._before is not None:
            features._check()
            features._taken = True
            source, steps = features._before
            self._before = (source, (*steps, step))

    @property
    def values(self) -> Tensor:
        """Values [S, C], computed where they have not been yet."""
        if self._before is not None:
            self._check()
            assert self._engine.chain is not None
            source, steps = self._before
            self._values = self._engine.chain(source.values, steps, source.sites, source.level)
            self._before = None
        return super().values

    def _check(self) -> None:
        if self._taken:
            raise RuntimeError(
                "features that two parts take must be settled before the first takes them: call Vocabulary.settle"
            )


def defers(engine: Engine, features: SparseFeatures) -> bool:
    """Tell whether a step can be put off: by an engine with chains, where there are sites."""
    return engine.chain is not None and any(features.sites.image_sizes[features.level])
