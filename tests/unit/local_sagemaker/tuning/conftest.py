"""A project's workspace, tuning requests, and training jobs that are only played: an objective as a function."""

import json
import threading
import time

import pytest
from local_sagemaker.state.records import Kind, end, fail
from local_sagemaker.state.store import MetricPoint
from local_sagemaker.state.workspace import ROLE_ARN, Workspace
from local_sagemaker.tuning.operations import create_tuning_job
from local_sagemaker.tuning.runner import TuningRun

from tests.support.waiting import wait_until

LR = {"Name": "lr", "MinValue": "0.0001", "MaxValue": "1", "ScalingType": "Logarithmic"}


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture
def make_request():
    """A request that the service would take; ``config`` is laid over its configuration, ``members`` over it."""

    def make(name="tune", strategy="Random", jobs=6, parallel=1, ranges=None, static=None, members=None, **config):
        limits = {"MaxParallelTrainingJobs": parallel, **({"MaxNumberOfTrainingJobs": jobs} if jobs else {})}
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": strategy,
                "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
                "ResourceLimits": limits,
                "ParameterRanges": ranges or {"ContinuousParameterRanges": [LR]},
                "RandomSeed": 7,
                **config,
            },
            "TrainingJobDefinition": {
                "AlgorithmSpecification": {
                    "TrainingImage": "image",
                    "TrainingInputMode": "File",
                    "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.e-]+)"}],
                },
                "RoleArn": ROLE_ARN,
                "OutputDataConfig": {"S3OutputPath": "s3://bucket"},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
                "StoppingCondition": {"MaxRuntimeInSeconds": 600},
                "StaticHyperParameters": static or {},
            },
            **(members or {}),
        }

    return make


class PlayedJobs:
    """Plays training jobs: ``curve`` makes the values of a job's objective, one per epoch, of its hyperparameters.

    A job whose curve raises has failed.
    """

    def __init__(self, curve):
        self.curve = curve
        self.lock = threading.Lock()
        self.running = 0
        self.most_running = 0
        self.requests = []
        # A job for which this holds does not end before it is asked to.
        self.hold_until_asked = lambda _hyperparameters: False

    def __call__(self, workspace, engine, kind, name, output=None, report=None):
        store = workspace.store
        record = store.claim(kind, name)
        with self.lock:
            self.running += 1
            self.most_running = max(self.running, self.most_running)
            self.requests.append(record.request)
        try:
            self._play(store, record)
        finally:
            with self.lock:
                self.running -= 1
            store.release(kind, name)
        return store.get(kind, name)

    def _play(self, store, record):
        kind, name, hyperparameters = record.kind, record.name, record.request["HyperParameters"]
        status, values = "Completed", []
        try:
            for value in self.curve(hyperparameters):
                values.append(value)
                store.put_metrics(kind, name, [MetricPoint("loss", value, time.time())])
        except RuntimeError as error:
            reason = str(error)
            store.change(kind, name, lambda description: fail(kind, description, reason, time.time()))
            return
        if self.hold_until_asked(hyperparameters):
            wait_until(lambda: store.get(kind, name).status == "Stopping", "the tuning job asks for its end", 60)
        if store.get(kind, name).status == "Stopping":
            status = "Stopped"

        def tell(description):
            if values:
                description["FinalMetricDataList"] = [{"MetricName": "loss", "Value": values[-1]}]
            end(kind, description, status, time.time())

        store.change(kind, name, tell)


@pytest.fixture
def tune(workspace):
    """Make a tuning job and run it with played training jobs; returns its record, and the jobs that were played."""

    def run(request, curve, hold_until_asked=None, report=lambda _line: None):
        create_tuning_job(workspace, json.loads(json.dumps(request)))
        played = PlayedJobs(curve)
        played.hold_until_asked = hold_until_asked or played.hold_until_asked
        name = request["HyperParameterTuningJobName"]
        record = workspace.store.claim(Kind.TUNING_JOB, name)
        TuningRun(workspace, None, record, report, played).run()
        workspace.store.release(Kind.TUNING_JOB, name)
        return workspace.store.get(Kind.TUNING_JOB, name), played

    return run
