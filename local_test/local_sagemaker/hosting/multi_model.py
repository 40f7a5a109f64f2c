"""Multi-model containers: a model that a request names is downloaded, unpacked and loaded; others go when memory ends.

Source: SageMaker developer guide, "Build Your Own Container for SageMaker AI Multi-Model Endpoints".
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from local_sagemaker.archive import make_read_only, remove_tree, unpack
from local_sagemaker.engines.base import BASE_DIR
from local_sagemaker.errors import UsageError
from local_sagemaker.hosting import routing
from local_sagemaker.hosting.instance import HostedInstance
from local_sagemaker.hosting.invocation_errors import invalid, model_error, unavailable
from local_sagemaker.state.buckets import Buckets

LOAD_SECONDS = 600.0
LOADED, LOADED_ALREADY, NO_MEMORY = 200, 409, 507


@dataclass
class InstanceModels:
    """What one instance has loaded: the name in the container by TargetModel, the one used longest ago first."""

    hosted: HostedInstance
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    loaded: OrderedDict[str, str] = field(default_factory=OrderedDict)


class ModelLoader:
    """Loads and unloads models of an endpoint's multi-model containers; used on the router's loop.

    Args:
        buckets: where the archives are.
        find: an instance by its name.
        in_process: whether a folder of this machine stands for /opt/ml.
        note: told what a person may want to know.
    """

    def __init__(
        self,
        buckets: Buckets,
        find: Callable[[str], HostedInstance | None],
        note: Callable[[str], None],
        *,
        in_process: bool,
    ) -> None:
        self._buckets = buckets
        self._find = find
        self._note = note
        self._in_process = in_process
        self._instances: dict[str, InstanceModels] = {}

    async def load(self, instance: routing.Instance, target: str) -> str:
        """The name that an instance's container knows a TargetModel by, which is loaded then.

        Raises:
            InvocationError: if there is no such model, or the container does not load it.
        """
        models = self._models(instance.name)
        name = models.loaded.get(target)
        if name is None:
            async with models.lock:
                name = models.loaded.get(target) or await self._load(models, instance.containers[0], target)
                models.loaded[target] = name
        models.loaded.move_to_end(target)
        return name

    async def forget(self, instance: routing.Instance, target: str, status: int) -> None:
        """The container does not have a model that was loaded, or (507) has no memory to use it."""
        models = self._models(instance.name)
        async with models.lock:
            models.loaded.pop(target, None)
            if status == NO_MEMORY:
                await self._unload_oldest(models, instance.containers[0])

    def end(self, instance: str) -> None:
        """An instance is gone."""
        self._instances.pop(instance, None)

    def _models(self, name: str) -> InstanceModels:
        if name not in self._instances:
            hosted = self._find(name)
            if hosted is None:
                raise unavailable(f"The instance {name} is gone.")
            self._instances[name] = InstanceModels(hosted)
        return self._instances[name]

    async def _load(self, models: InstanceModels, container: routing.Container, target: str) -> str:
        spec = models.hosted.variant.containers[0]
        if spec.models is None:
            raise invalid(f"Container {spec.hostname} does not load models by request: leave out TargetModel.")
        uri = f"{spec.models.rstrip('/')}/{target.lstrip('/')}"
        name = hashlib.sha256(uri.encode()).hexdigest()[:32]
        while not spec.caches and await self._unload_oldest(models, container):
            pass
        folder = models.hosted.models_folder() / name / "model"
        await asyncio.to_thread(self._fetch, uri, folder)
        base = str(models.hosted.base_directory()) if self._in_process else BASE_DIR
        document = {"model_name": name, "url": f"{base}/models/{name}/model"}
        while True:
            status, answer = await asyncio.to_thread(_ask, container, "POST", "/models", document)
            if status in {LOADED, LOADED_ALREADY}:
                self._note(f"instance {models.hosted.name} has loaded {target}")
                return name
            if status != NO_MEMORY or not await self._unload_oldest(models, container):
                await asyncio.to_thread(remove_tree, folder.parent)
                raise model_error(status, answer, spec.hostname, "")

    def _fetch(self, uri: str, folder: Path) -> None:
        if folder.is_dir():
            return
        try:
            archive = self._buckets.path(uri)
            self._buckets.open(uri).close()
            unfinished = folder.with_name("unfinished")
            remove_tree(unfinished)
            make_read_only(unpack(archive, unfinished))
            unfinished.rename(folder)
        except UsageError as error:
            raise invalid(f"Failed to download model data ({uri}): {error}") from error

    async def _unload_oldest(self, models: InstanceModels, container: routing.Container) -> bool:
        """Make room; False if nothing is loaded."""
        if not models.loaded:
            return False
        target, name = models.loaded.popitem(last=False)
        await asyncio.to_thread(_ask, container, "DELETE", f"/models/{name}", None)
        await asyncio.to_thread(remove_tree, models.hosted.models_folder() / name)
        self._note(f"instance {models.hosted.name} has unloaded {target}")
        return True


def _ask(container: routing.Container, method: str, path: str, document: dict[str, str] | None) -> tuple[int, str]:
    """Status and text of the container's answer; status 0 if there is none."""
    connection = http.client.HTTPConnection(container.host, container.port, timeout=LOAD_SECONDS)
    body = None if document is None else json.dumps(document)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()
