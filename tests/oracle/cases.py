"""The jobs that both programs are given: documents of real clients, known corners, and generated ones."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.support.opt_ml import ONE_HOST
from tests.support.places import GOLDEN

GENERATED = 56
KEPT = Path(__file__).with_name("generated.json")
PROGRAM = "describe.py"
DOCUMENTS = ("hyperparameters", "inputdataconfig", "resourceconfig")


@dataclass(frozen=True)
class Case:
    """One job. `{root}` in texts stands for the folder that holds its tree; `code` are folders with the program."""

    name: str
    documents: dict[str, str]
    environ: dict[str, str] = field(default_factory=dict)
    code: tuple[str, ...] = ("ml/code",)
    tarball: bool = False

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """As the document has them."""
        found: dict[str, Any] = json.loads(self.documents.get("hyperparameters", "{}"))
        return found

    @property
    def channels(self) -> dict[str, Any]:
        """As the document has them."""
        found: dict[str, Any] = json.loads(self.documents.get("inputdataconfig", "{}"))
        return found

    @property
    def has_source(self) -> bool:
        """Whether the job names uploaded source."""
        return "SAGEMAKER_SUBMIT_DIRECTORY" in self.environ or "sagemaker_submit_directory" in self.hyperparameters

    @property
    def resource_config(self) -> dict[str, Any]:
        """As the document has it."""
        found: dict[str, Any] = json.loads(self.documents.get("resourceconfig", "{}"))
        return found


def make(
    name: str,
    hyperparameters: dict[str, Any] | None = None,
    resources: dict[str, Any] | None = None,
    channels: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    **rest: Any,
) -> Case:
    """A case from plain values; the program is named by its variable."""
    documents = {
        "hyperparameters": json.dumps(hyperparameters or {}),
        "inputdataconfig": json.dumps(channels or {}),
        "resourceconfig": json.dumps(dict(ONE_HOST) if resources is None else resources),
    }
    variables = {"SAGEMAKER_PROGRAM": PROGRAM, **(environ or {})}
    return Case(name, documents, {key: value for key, value in variables.items() if value}, **rest)


def all_cases() -> list[Case]:
    """Every case, always the same ones in the same order."""
    return [*_golden(), *_corners(), *_of_source(), *_that_the_toolkit_cannot_run(), *_generated()]


def as_json(cases: list[Case]) -> str:
    """What the driver in the container reads."""
    return json.dumps([asdict(case) for case in cases])


def _golden() -> list[Case]:
    found = []
    for folder in sorted(GOLDEN.iterdir()):
        config = folder / "input" / "config"
        documents = {name: (config / f"{name}.json").read_text().replace("{base}", "{root}/ml") for name in DOCUMENTS}
        found.append(Case(f"golden-{folder.name}", documents, {"SAGEMAKER_PROGRAM": PROGRAM}))
    return found


def _corners() -> list[Case]:
    numbers = ["1.10", "1e5", "007", "-0", "0.1", "1E-7", "12345678901234567890", "-1", "+1", "1_000", "0x10"]
    words = ["null", "true", "True", "NaN", "Infinity", "-Infinity", "1e999", "", " ", "None", "it's", 'say "hi"']
    texts = ["a\nb", "größer", "日本語", "🦊", "a=b", "--lr", "$HOME `id` ; rm", "\\", "\\n", "a,b", "\t", "é"]
    objects = ['["a", "b"]', "[]", "{}", '{"b": [1, {"c": null}], "a": true}', "[NaN]", '{"x": 1.10}', '[1.0, "é"]']
    names = ["k", "K", "ö", "batch-size", "a.b", "with space", "quote'", "_x", "-", "--", "9", "ß", "a/b", "日本"]
    two = {**ONE_HOST, "hosts": ["algo-1", "algo-10", "algo-2"], "current_host": "algo-2"}
    return [
        make("numbers", {f"n{i}": token for i, token in enumerate(numbers)}),
        make("numbers-encoded-again", {f"n{i}": json.dumps(token) for i, token in enumerate(numbers)}),
        make("words", {f"w{i}": token for i, token in enumerate(words)}),
        make("words-encoded-again", {f"w{i}": json.dumps(token) for i, token in enumerate(words)}),
        make("texts", {f"t{i}": token for i, token in enumerate(texts)}),
        make("texts-encoded-again", {f"t{i}": json.dumps(token) for i, token in enumerate(texts)}),
        make("objects", {f"o{i}": token for i, token in enumerate(objects)}),
        make("values-that-are-no-strings", {"a": 1, "b": 1.5, "c": True, "d": None, "e": ["x"], "f": {"g": 1}}),
        make("names", dict.fromkeys(names, "1")),
        make("name-is-empty", {"": "1"}),
        make("names-collide", {"lr": "1", "LR": "2", "Lr": "3"}),
        make("names-collide-by-hyphen", {"batch_size": "1", "batch-size": "2"}),
        make("big", {f"h{i:02d}": "x" * 2500 for i in range(40)}),
        make("tuning", {"_tuning_objective_metric": "loss", "lr": "0.1", "default_user_module_name": "m"}),
        make(
            "reserved",
            {
                "sagemaker_program": json.dumps(PROGRAM),
                "sagemaker_job_name": '"digits-1"',
                "sagemaker_region": '"eu-west-1"',
                "sagemaker_container_log_level": "10",
                "sagemaker_enable_cloudwatch_metrics": "false",
                "sagemaker_instance_type": '"ml.m5.large"',
                "sagemaker_estimator_class_name": '"PyTorch"',
            },
            environ={"SAGEMAKER_PROGRAM": ""},
        ),
        make("job-in-the-environment", environ={"TRAINING_JOB_NAME": "digits-1", "TRAINING_JOB_ARN": "arn:x"}),
        make("region-in-the-environment", environ={"AWS_REGION": "eu-west-1"}),
        make("default-region-in-the-environment", environ={"AWS_DEFAULT_REGION": "eu-west-2"}),
        make("log-level-in-the-environment", environ={"SAGEMAKER_CONTAINER_LOG_LEVEL": "40"}),
        make("model-parallel", {"mp_parameters": '{"ddp": true}'}, environ={"SM_HP_MP_PARAMETERS": '{"ddp": true}'}),
        make("variables-of-the-user", environ={"MY_SETTING": "a=b 'c'", "SM_MINE": "kept", "SM_HPS": "stale"}),
        make("channels", channels={"train": {}, "my.data-1": {"TrainingInputMode": "Pipe"}, "a_b": {}, "a-b": {}}),
        make("channels-collide", channels={"train": {"ContentType": "text/csv"}, "Train": {}}),
        make("hosts", resources=two),
        make("hosts-and-no-more", resources={"current_host": "algo-1-x2y3z", "hosts": ["algo-1-x2y3z"]}),
        make("trainium", resources={**ONE_HOST, "current_instance_type": "ml.trn2.48xlarge"}),
        make("groups-of-a-distribution", {"sagemaker_distribution_instance_groups": '["gpu"]'}, _groups("algo-1")),
        make("groups-without-a-distribution", resources=_groups("algo-2")),
        make("shell-script", {"lr": "1.10", "t": "it's $HOME"}, environ={"SAGEMAKER_PROGRAM": "describe.sh"}),
    ]


def _groups(current_host: str) -> dict[str, Any]:
    return {
        "current_host": current_host,
        "current_group_name": "gpu" if current_host != "algo-2" else "cpu",
        "current_instance_type": "ml.g5.xlarge",
        "hosts": ["algo-1", "algo-2", "algo-3"],
        "instance_groups": [
            {"instance_group_name": "cpu", "instance_type": "ml.c5.xlarge", "hosts": ["algo-2"]},
            {"instance_group_name": "gpu", "instance_type": "ml.g5.xlarge", "hosts": ["algo-3", "algo-1"]},
        ],
        "network_interface_name": "eth0",
    }


def _of_source() -> list[Case]:
    tarball = {"sagemaker_submit_directory": '"{root}/source.tar.gz"'}
    return [
        make("source-in-a-tarball", tarball, code=(), tarball=True),
        make("source-in-a-tarball-over-code-that-is-there", tarball, tarball=True),
        make("source-in-a-folder", {"sagemaker_submit_directory": '"{root}/given"'}, code=("given",)),
        make(
            "source-named-by-the-environment",
            environ={"SAGEMAKER_SUBMIT_DIRECTORY": "{root}/given"},
            code=("given", "ml/code"),
        ),
    ]


def _that_the_toolkit_cannot_run() -> list[Case]:
    missing = [make(f"no-{name}", {"lr": "1"}) for name in DOCUMENTS]
    return [
        *(Case(c.name, {k: v for k, v in c.documents.items() if f"no-{k}" != c.name}, c.environ) for c in missing),
        make("name-with-an-equals-sign", {"a=b": "1"}),
        make("nul-in-a-value", {"a": '"x\\u0000y"'}),
        make("half-a-character", {"a": '"\\ud800"'}),
        make("nested-too-deeply", {"a": "[" * 1200 + "]" * 1200}),
        make("current-host-alone", resources={"current_host": "algo-1"}),
        make("function-of-a-module", environ={"SAGEMAKER_TRAINING_MODULE": "describe:main"}),
    ]


def _generated() -> list[Case]:
    """Kept in a file: what Hypothesis makes of a seed changes with its version and with the code around it."""
    return [Case(**fields) for fields in json.loads(KEPT.read_text(encoding="utf-8"))]


def generate() -> list[Case]:
    """New cases. `python -m tests.oracle.cases` writes them to the file."""
    found: dict[str, Case] = {}

    @seed(20260101)
    @settings(
        max_examples=GENERATED * 3,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_jobs())
    def collect(parts: tuple[dict[str, str], dict[str, Any], dict[str, Any], dict[str, str]]) -> None:
        hyperparameters, resources, channels, environ = parts
        case = make("", hyperparameters, resources, channels, environ)
        found.setdefault(json.dumps([case.documents, case.environ]), case)

    collect()
    largest = sorted(found, key=len, reverse=True)[:GENERATED]
    return [
        Case(f"generated-{number:02d}", found[key].documents, found[key].environ)
        for number, key in enumerate(sorted(largest))
    ]


def _jobs() -> st.SearchStrategy[Any]:
    return st.tuples(st.dictionaries(_names(), _values(), max_size=8), _resources(), _channels(), _environments())


def _names() -> st.SearchStrategy[str]:
    usual = st.text("abcXYZ019-_.", min_size=1, max_size=12)
    odd = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="="), min_size=1, max_size=8)
    return st.one_of(usual, usual, odd, st.sampled_from(["lr", "LR", "batch-size", "batch_size", "sagemaker_mine"]))


def _values() -> st.SearchStrategy[str]:
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
    json_values = st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
        max_leaves=6,
    )
    numbers = st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str)
    return st.one_of(text, json_values.map(json.dumps), json_values.map(str), text.map(json.dumps), numbers)


def _resources() -> st.SearchStrategy[dict[str, Any]]:
    @st.composite
    def resources(draw: st.DrawFn) -> dict[str, Any]:
        hosts = sorted(f"algo-{number}" for number in range(1, draw(st.integers(1, 12)) + 1))
        document: dict[str, Any] = {"current_host": draw(st.sampled_from(hosts)), "hosts": hosts}
        if draw(st.booleans()):
            document["network_interface_name"] = draw(st.sampled_from(["eth0", "ens5", "ethwe"]))
        if draw(st.booleans()):
            document["current_instance_type"] = draw(st.sampled_from(["ml.m5.large", "ml.p4d.24xlarge"]))
        if draw(st.booleans()):
            document["topology"] = draw(st.sampled_from([None, [], [{"hostName": "algo-1", "capacityUnitId": "u"}]]))
        if draw(st.booleans()):
            cut = draw(st.integers(0, len(hosts)))
            groups = [("one", hosts[:cut]), ("two", hosts[cut:])] if 0 < cut < len(hosts) else [("one", hosts)]
            document["instance_groups"] = [
                {"instance_group_name": name, "instance_type": "ml.m5.large", "hosts": members}
                for name, members in groups
            ]
            document["current_group_name"] = next(n for n, members in groups if document["current_host"] in members)
        return document

    return resources()


def _channels() -> st.SearchStrategy[dict[str, Any]]:
    name = st.text("abAB01.-_", min_size=1, max_size=10)
    mode = st.sampled_from(["File", "FastFile", "Pipe"])
    kinds = {"TrainingInputMode": mode, "S3DistributionType": st.sampled_from(["FullyReplicated", "ShardedByS3Key"])}
    return st.dictionaries(
        name, st.fixed_dictionaries({}, optional={**kinds, "ContentType": st.text(max_size=9)}), max_size=5
    )


def _environments() -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "TRAINING_JOB_NAME": st.sampled_from(["digits-1", "a"]),
            "AWS_REGION": st.sampled_from(["eu-west-1"]),
            "MY_SETTING": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
        },
    )


if __name__ == "__main__":
    fields = [{"name": case.name, "documents": case.documents, "environ": case.environ} for case in generate()]
    KEPT.write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n", encoding="utf-8")
