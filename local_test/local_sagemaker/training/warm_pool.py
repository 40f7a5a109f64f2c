"""Warm pools: the one folder that a job leaves to the next one of its kind on the same hosts.

Source: SageMaker developer guide, "SageMaker AI Managed Warm Pools".
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from local_sagemaker.archive import remove_tree
from local_sagemaker.engines.base import BASE_DIR
from local_sagemaker.errors import ValidationError

CACHE = f"{BASE_DIR}/sagemaker/warmpoolcache"
CACHE_VARIABLE = "SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY"
LAST_USED = "last-used"
# Two jobs share a pool if all of these are equal.
MATCHING = ("RoleArn", "VpcConfig", "EnableInterContainerTrafficEncryption", "EnableNetworkIsolation")
RESOURCES = ("InstanceType", "InstanceCount", "VolumeKmsKeyId", "VolumeSizeInGB")


@dataclass(frozen=True)
class WarmPool:
    """The pool that a job takes its hosts from and leaves them to.

    Attributes:
        directory: what it keeps.
        keep_alive_seconds: how long after a job.
    """

    directory: Path
    keep_alive_seconds: float

    def cache(self, host: str) -> Path:
        """The folder that stays on a host."""
        return self.directory / host

    @contextmanager
    def taken(self) -> Iterator[WarmPool]:
        """A pool of this kind that no other job has, for one job and the length of a block: this one, or another."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            name = self.directory.name if number == 1 else f"{self.directory.name}-{number}"
            with self.directory.with_name(f"{name}.lock").open("w") as lock:
                try:
                    # The kernel opens it again, whichever way this process ends.
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield replace(self, directory=self.directory.with_name(name))
                return

    def open(self, hosts: tuple[str, ...]) -> bool:
        """Make it ready for a job; whether it was kept warm by an earlier one."""
        try:
            age = time.time() - (self.directory / LAST_USED).stat().st_mtime
        except OSError:
            age = float("inf")
        is_warm = age <= self.keep_alive_seconds
        if not is_warm:
            remove_tree(self.directory)
        for host in hosts:
            self.cache(host).mkdir(parents=True, exist_ok=True)
        self.touch()
        return is_warm

    def touch(self) -> None:
        """Its time begins anew."""
        (self.directory / LAST_USED).touch()


def plan_warm_pool(request: Mapping[str, Any], directory: Path) -> WarmPool | None:
    """The pool of a request with KeepAlivePeriodInSeconds, else None; pools lie below ``directory``.

    Raises:
        ValidationError: if the job cannot have one.
    """
    resources = request.get("ResourceConfig", {})
    seconds = resources.get("KeepAlivePeriodInSeconds", 0)
    if not seconds:
        return None
    if request.get("EnableManagedSpotTraining") or resources.get("InstanceGroups"):
        raise ValidationError(
            "KeepAlivePeriodInSeconds is not supported with managed spot training or a heterogeneous cluster"
        )
    key = [request.get(name) for name in MATCHING] + [resources.get(name) for name in RESOURCES]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    return WarmPool(directory / "warm-pools" / digest, float(seconds))
