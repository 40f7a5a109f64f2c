"""Room for models: how much memory is left, how much one needs, and which are put aside for others."""

import logging
from pathlib import Path

from sagemaker_byoc.errors import NotEnoughMemory
from sagemaker_byoc.memory import unused_memory
from sagemaker_byoc.serving.model_registry import ASIDE, LOADED, ModelRecord, ModelRegistry
from sagemaker_byoc.serving.model_store import ModelStore
from sagemaker_byoc.serving.peers import Peers
from sagemaker_byoc.serving.settings import ServeSettings

MB = 1_000_000
log = logging.getLogger(__name__)


class ModelRoom:
    """The memory that the models of all workers share. To be used with the registry's lock held."""

    def __init__(self, settings: ServeSettings, registry: ModelRegistry, store: ModelStore, peers: Peers) -> None:
        self._settings = settings
        self._registry = registry
        self._store = store
        self._peers = peers

    def needed(self, record: ModelRecord) -> int:
        """Bytes that one copy of the model will take: what it took last, else what its files do."""
        size = self._registry.size(record.name)
        if size is not None:
            return size
        return sum(path.stat().st_size for path in Path(record.url).rglob("*") if path.is_file())

    def note_too_large(self, record: ModelRecord) -> None:
        """The kernel has killed a worker over the first copy of this model: it needs more than was left then."""
        self._registry.note_size(record.name, max(self.needed(record), record.left + 1))

    def make(self, needed: int, record: ModelRecord) -> None:
        """Put models aside until so many bytes are left for this one. Raises NotEnoughMemory."""
        busy: set[str] = set()
        while (left := self._left()) is not None and needed > left:
            others = [one for one in self._registry.by_use() if one.state == LOADED and one.name not in busy]
            others = [one for one in others if one.name != record.name]
            if self._settings.model_eviction == "off" or not others:
                raise NotEnoughMemory(
                    f"model {record.name!r} needs {needed / MB:.0f} MB in all workers together, and there are "
                    f"{left / MB:.0f} MB."
                    if needed
                    else f"with model {record.name!r} loaded, {-left / MB:.0f} MB more are taken than there are."
                )
            if not self._put_aside(others[0]):
                busy.add(others[0].name)

    def _left(self) -> int | None:
        """Bytes that models may still take; None where there is no limit."""
        unused = unused_memory()
        if not self._settings.model_memory_mb:
            return unused
        replies = self._peers.tell({"taken": True}, self._settings.timeout)
        taken: int = self._store.taken + sum(reply.content["taken"] for reply in replies if reply.content)
        left = self._settings.model_memory_mb * MB - taken
        return left if unused is None else min(left, unused)

    def _put_aside(self, record: ModelRecord) -> bool:
        """Free a model's memory in all workers; False, and nothing has changed for callers, if it is in use."""
        self._registry.mark(record, ASIDE)
        if self._store.unload(record.name, 0) and self._peers.have_unloaded(record.name, 0):
            log.info("model %s is put aside: it was used longest ago, and memory is short", record.name)
            return True
        self._registry.mark(record, LOADED)
        return False
