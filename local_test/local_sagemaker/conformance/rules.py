"""The rules: what each asks of an image, in one sentence, how grave a breach is, and what to do about it.

Written from the platform's documentation; each rule names the page that it stands on. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

from local_sagemaker.errors import UsageError

Group = Literal["image", "train", "serve"]
GROUPS: tuple[Group, ...] = get_args(Group)
# What a rule can only be decided with.
Need = Literal["payload", "model data", "strict", "accept-bind-to-port", "multi-models", "bidirectional-streaming"]
LABEL_PREFIX = "com.amazonaws.sagemaker.capabilities."
CAPABILITIES = ("accept-bind-to-port", "multi-models", "bidirectional-streaming")


class Severity(StrEnum):
    """How grave a breach is: an error breaks any job or endpoint, a warning those that use a feature."""

    ERROR = "error"
    WARNING = "warning"
    ADVICE = "advice"


@dataclass(frozen=True)
class Rule:
    """One promise that an image has to keep.

    Attributes:
        id: as ``BYOC-S015``: the letter tells the group, the number stays a rule's own for ever.
        severity: how grave a breach is.
        sentence: what holds for an image that keeps it.
        source: the title of the platform's page.
        clause: its number in the table of the contract.
        remedy: what to do about a breach.
        needs: what it can only be decided with.
    """

    id: str
    severity: Severity
    sentence: str
    source: str
    clause: str
    remedy: str
    needs: tuple[Need, ...] = ()

    @property
    def group(self) -> Group:
        """Which part of the contract it belongs to."""
        return {"I": GROUPS[0], "T": GROUPS[1], "S": GROUPS[2]}[self.id[5]]


ERROR, WARNING, ADVICE = Severity.ERROR, Severity.WARNING, Severity.ADVICE
TRAINS = "How SageMaker AI Runs Your Training Image"
INFORMS = "How SageMaker AI Provides Training Information"
HOSTS = "Custom Inference Code with Hosting Services"
TRANSFORMS = "Custom Inference Code with Batch Transform"
SIGNALS = "How Amazon SageMaker AI Signals Algorithm Success and Failure"
INVOKES = "API reference, InvokeEndpoint"
ISOLATION = "Run Training and Inference Containers in Internet-Free Mode"
MULTI_MODEL = "Build Your Own Container for SageMaker AI Multi-Model Endpoints"

RULES: tuple[Rule, ...] = (
    # The image, looked at and not started.
    Rule(
        "BYOC-I001",
        ERROR,
        "The entry point is in exec form, so that process 1 is yours and hears SIGTERM.",
        TRAINS,
        "0.2",
        'Write ENTRYPOINT ["python3", "main.py"] with brackets, not ENTRYPOINT python3 main.py.',
    ),
    Rule(
        "BYOC-I002",
        ERROR,
        "The entry point is not tini, which the argument train or serve confuses.",
        TRAINS,
        "0.4",
        "Leave tini out; let process 1 reap its children and pass signals on.",
    ),
    Rule(
        "BYOC-I003",
        ERROR,
        "There is an executable train on PATH, or an entry point that the argument train reaches.",
        TRAINS,
        "0.1",
        "Put an executable file train on PATH (chmod +x), or dispatch on the first argument in the entry point.",
    ),
    Rule(
        "BYOC-I004",
        ERROR,
        "There is an executable serve on PATH, or an entry point that the argument serve reaches.",
        HOSTS,
        "0.1",
        "Put an executable file serve on PATH (chmod +x), or dispatch on the first argument in the entry point.",
    ),
    Rule(
        "BYOC-I005",
        ERROR,
        "The platform is linux/amd64; linux/arm64 runs on Graviton types only.",
        "API reference, ProductionVariant",
        "0.7",
        "Build with --platform linux/amd64.",
    ),
    Rule(
        "BYOC-I006",
        WARNING,
        "The image's user is root.",
        HOSTS,
        "0.11",
        "Remove USER from the Dockerfile; what the platform mounts belongs to root.",
    ),
    Rule(
        "BYOC-I007",
        WARNING,
        "Nothing but code is stored below /opt/ml, over which the platform mounts its own folders.",
        TRAINS,
        "0.6",
        "Keep files of the image elsewhere, as in /opt/program.",
    ),
    Rule(
        "BYOC-I008",
        ERROR,
        "The image has no NVIDIA driver; the machine brings its own.",
        TRAINS,
        "0.5",
        "Install the CUDA toolkit or a framework's wheels, and no driver package.",
    ),
    Rule(
        "BYOC-I009",
        WARNING,
        "Each label of a capability has the value true.",
        "Deploy Multi-Container Endpoints",
        "0.12",
        f"Write LABEL {LABEL_PREFIX}accept-bind-to-port=true, or leave the label out.",
    ),
    Rule(
        "BYOC-I010",
        ERROR,
        "The image's reference has at most 255 characters and no white space.",
        "API reference, ContainerDefinition",
        "0.9",
        "Shorten the repository's name or the tag.",
    ),
    Rule(
        "BYOC-I011",
        ERROR,
        "The manifest has Docker's media type and is no index of several platforms.",
        "API reference, CreateModel",
        "0.8",
        "Build with docker buildx build --provenance=false --sbom=false --output type=docker.",
    ),
    Rule(
        "BYOC-I012",
        ADVICE,
        "The image starts something without an argument too, as processing jobs start it.",
        "Build Your Own Processing Container",
        "10.1",
        "Give the image a CMD, or say ContainerEntrypoint in each processing job.",
    ),
    Rule(
        "BYOC-I013",
        ADVICE,
        "bash, Python and pip are on PATH: SageMaker's Python SDK v3 trains with a script of its own.",
        "SageMaker Python SDK, ModelTrainer",
        "12.6",
        "Install bash, python3 and pip, or train through CreateTrainingJob.",
    ),
    Rule(
        "BYOC-I014",
        WARNING,
        "No variable of the image holds AWS credentials.",
        ISOLATION,
        "4.11",
        "Remove them from the Dockerfile; the platform gives the container its role's.",
    ),
    Rule(
        "BYOC-I015",
        ADVICE,
        "The image has at most 10 GB, the limit of serverless endpoints.",
        "Deploy models with Amazon SageMaker Serverless Inference",
        "18.2",
        "Leave out build tools and caches; build in stages.",
    ),
    # Training.
    Rule(
        "BYOC-T001",
        ERROR,
        "docker run IMAGE train trains with your data and ends with exit code 0, without a terminal.",
        TRAINS,
        "1.1, 1.7",
        "Read the log below; give hyperparameters and channels that the image needs.",
    ),
    Rule(
        "BYOC-T002",
        WARNING,
        "Training leaves its model below /opt/ml/model.",
        "How SageMaker AI Processes Training Output",
        "6.1",
        "Save the model to /opt/ml/model; nothing else becomes model.tar.gz.",
    ),
    Rule(
        "BYOC-T003",
        WARNING,
        "Training works without a network and without AWS credentials.",
        ISOLATION,
        "4.11",
        "Install packages when you build the image, and read data from channels.",
    ),
    Rule(
        "BYOC-T004",
        WARNING,
        "Training does not write to its channels, which FastFile mounts read-only.",
        "Setting up training jobs to access datasets",
        "3.4",
        "Write caches and extracted files to /tmp.",
    ),
    Rule(
        "BYOC-T005",
        ERROR,
        "Training tolerates what it does not know in /opt/ml/input/config: files, keys, and topology: null.",
        INFORMS,
        "2.10, 2.11, 2.14",
        "Read the keys you need and ignore the others.",
    ),
    Rule(
        "BYOC-T006",
        WARNING,
        "Training takes its host's name from resourceconfig.json, whatever it looks like.",
        INFORMS,
        "2.12",
        "Do not write algo-1 into the code; read current_host and hosts.",
    ),
    Rule(
        "BYOC-T007",
        WARNING,
        "Training tolerates the hyperparameter _tuning_objective_metric, which tuning jobs add.",
        "API reference, HyperParameterTrainingJobDefinition",
        "2.4",
        "Ignore hyperparameters that you do not know (argparse: parse_known_args).",
    ),
    Rule(
        "BYOC-T008",
        WARNING,
        "Training reads a text that an SDK has encoded as JSON, in quotes, like one that has none.",
        "SageMaker Python SDK, Framework",
        "2.3",
        "Try json.loads on each value, and take the value itself where that fails.",
    ),
    Rule(
        "BYOC-T009",
        ERROR,
        "Training works with the 64 MB of /dev/shm that the platform gives.",
        "SageMaker Python SDK, issue 937",
        "4.8",
        "Let data loaders share memory through files, or load in the main process.",
    ),
    Rule(
        "BYOC-T010",
        ADVICE,
        "Training writes below /opt/ml and /tmp only.",
        TRAINS,
        "4.9",
        "Send caches and temporary files to /tmp.",
    ),
    Rule(
        "BYOC-T011",
        WARNING,
        "Training needs no more of resourceconfig.json and inputdataconfig.json than hosts and channels' names.",
        INFORMS,
        "2.5, 2.10",
        "Take every other key as one that may be absent.",
    ),
    Rule(
        "BYOC-T012",
        ERROR,
        "Training that fails ends with an exit code other than 0.",
        SIGNALS,
        "1.7",
        "Let the exception end the process, or call sys.exit(1); a shell script needs exec or set -e.",
    ),
    Rule(
        "BYOC-T013",
        WARNING,
        "Training that fails leaves the reason in /opt/ml/output/failure.",
        SIGNALS,
        "1.9",
        "Write the exception to /opt/ml/output/failure before the end.",
    ),
    Rule(
        "BYOC-T014",
        ADVICE,
        "The reason stands in the first 1,024 characters of the failure file; the platform shows no more.",
        SIGNALS,
        "1.9",
        "Write the exception first, then the traceback.",
    ),
    Rule(
        "BYOC-T015",
        ERROR,
        "Training ends within 120 seconds of SIGTERM.",
        "API reference, StopTrainingJob",
        "1.12",
        "Handle SIGTERM in process 1; in a shell script start the program with exec.",
    ),
    Rule(
        "BYOC-T016",
        WARNING,
        "Each of two hosts ends with exit code 0.",
        INFORMS,
        "1.8, 5.1",
        "Let the hosts after the first wait for the first, and end with 0.",
    ),
    Rule(
        "BYOC-T017",
        WARNING,
        "Training with an empty channel works, or says why not in the failure file.",
        "API reference, S3DataSource",
        "3.9",
        "A host gets no file where there are fewer objects than hosts: check for that.",
    ),
    Rule(
        "BYOC-T018",
        WARNING,
        "Training without channels and hyperparameters works, or says why not in the failure file.",
        INFORMS,
        "2.1, 2.8",
        "Give hyperparameters defaults, and name the channel that is missing.",
    ),
    Rule(
        "BYOC-T019",
        WARNING,
        "What training prints appears while it runs.",
        "Log Amazon SageMaker Events with Amazon CloudWatch",
        "4.7",
        "Set ENV PYTHONUNBUFFERED=1, else metrics come late or are lost.",
    ),
    Rule(
        "BYOC-T020",
        WARNING,
        "Training works with 1 GB of memory.",
        "API reference, ResourceConfig",
        "1.11",
        "Read data in pieces; or leave out --strict where your model is larger.",
        ("strict",),
    ),
    # Serving.
    Rule(
        "BYOC-S001",
        ERROR,
        "docker run IMAGE serve answers GET /ping on port 8080 of all interfaces with status 200.",
        HOSTS,
        "13.1, 14.1, 14.5",
        "Listen on 0.0.0.0:8080 and answer /ping; the platform waits 8 minutes, the check for --startup-timeout.",
    ),
    Rule(
        "BYOC-S002",
        ERROR,
        "A connection is taken within 250 ms, and /ping answered within 2 s.",
        HOSTS,
        "14.3, 14.4",
        "Do nothing in /ping but say whether the model is loaded.",
    ),
    Rule(
        "BYOC-S003",
        WARNING,
        "POST /ping is answered like GET.",
        HOSTS,
        "14.2",
        "Allow POST on the route.",
    ),
    Rule(
        "BYOC-S004",
        ERROR,
        "The payload is answered with 200 and a Content-Type, within 60 s.",
        HOSTS,
        "15.1, 15.2",
        "See the answer and the log below; check --payload and --content-type.",
        ("payload",),
    ),
    Rule(
        "BYOC-S005",
        WARNING,
        "/ping answers 200 only when every worker has its model.",
        HOSTS,
        "14.8",
        "Load the model when the worker starts, and answer 503 until then.",
        ("payload",),
    ),
    Rule(
        "BYOC-S006",
        ERROR,
        "/ping is answered within 2 s while invocations run.",
        "Troubleshooting of asynchronous endpoints",
        "14.7",
        "Use threads, or let something else than the workers answer /ping.",
        ("payload",),
    ),
    Rule(
        "BYOC-S007",
        WARNING,
        "/ping is answered within 2 s while clients send their bodies slowly.",
        HOSTS,
        "14.7",
        "Put a server that buffers requests in front, or use threads.",
    ),
    Rule(
        "BYOC-S008",
        ERROR,
        "The server works with a read-only /opt/ml/model.",
        HOSTS,
        "13.5",
        "Write caches, locks and extracted files to /tmp.",
    ),
    Rule(
        "BYOC-S009",
        WARNING,
        "The server works without a network and without AWS credentials.",
        ISOLATION,
        "13.10",
        "Have all that the model needs in the image or in model.tar.gz.",
    ),
    Rule(
        "BYOC-S010",
        ADVICE,
        "The server works with a read-only root file system and a writable /tmp.",
        HOSTS,
        "13.11",
        "Let nginx and the application server keep their files in /tmp.",
    ),
    Rule(
        "BYOC-S011",
        ERROR,
        "The server works with the 64 MB of /dev/shm that the platform gives.",
        "SageMaker Python SDK, issue 937",
        "13.13",
        "Share memory between workers through files in /tmp.",
    ),
    Rule(
        "BYOC-S012",
        WARNING,
        "The server works with 1 GB of memory, the least of a serverless endpoint.",
        "Deploy models with Amazon SageMaker Serverless Inference",
        "18.1",
        "Start fewer workers, by the memory of the container's limit; or leave out --strict for a larger model.",
        ("strict",),
    ),
    Rule(
        "BYOC-S013",
        WARNING,
        "The server works with the variables of a batch transform job.",
        TRANSFORMS,
        "15.34",
        "Ignore SAGEMAKER_BATCH and its kin, or read them without regard to case.",
    ),
    Rule(
        "BYOC-S014",
        ERROR,
        "The server listens on the port of SAGEMAKER_BIND_TO_PORT.",
        "Deploy Multi-Container Endpoints",
        "15.30",
        "Take the port from the variable, 8080 without it; or remove the label accept-bind-to-port.",
        ("accept-bind-to-port",),
    ),
    Rule(
        "BYOC-S015",
        ERROR,
        "A body of 25 MB is taken.",
        "Inference options in Amazon SageMaker AI",
        "15.3",
        "nginx: client_max_body_size 0; other servers have a limit of their own.",
    ),
    Rule(
        "BYOC-S016",
        WARNING,
        "A body sent in chunks is answered like one with a length.",
        "API reference, CreateTransformJob",
        "15.36",
        "Use a server that understands Transfer-Encoding: chunked.",
        ("payload",),
    ),
    Rule(
        "BYOC-S017",
        WARNING,
        "A parameter of the content type, as charset, does not change the answer.",
        INVOKES,
        "15.7",
        "Compare what stands before the first semicolon, in lower case.",
        ("payload",),
    ),
    Rule(
        "BYOC-S018",
        WARNING,
        "Accept: */*, and no Accept at all, get the answer in the usual type.",
        INVOKES,
        "15.9",
        "Choose a default content type for the answer.",
        ("payload",),
    ),
    Rule(
        "BYOC-S019",
        WARNING,
        "An unknown content type is refused with a status of 400 to 499, or taken; it is not the server's error.",
        INVOKES,
        "15.5",
        "Answer 415.",
    ),
    Rule(
        "BYOC-S020",
        WARNING,
        "A body that is garbage is refused with a status of 400 to 499, or taken; it is not the server's error.",
        INVOKES,
        "15.5",
        "Catch what reading the body raises, and answer 400.",
    ),
    Rule(
        "BYOC-S021",
        ERROR,
        "The server still answers after everything that it was sent.",
        HOSTS,
        "14.6",
        "See the log below for what ended it.",
    ),
    Rule(
        "BYOC-S022",
        ERROR,
        "A request that is under way when SIGTERM comes is answered.",
        HOSTS,
        "13.2",
        "Pass SIGTERM on, stop to listen, and wait for the requests under way before process 1 ends.",
    ),
    Rule(
        "BYOC-S023",
        ERROR,
        "The server ends within 30 seconds of SIGTERM.",
        HOSTS,
        "13.2",
        "Handle SIGTERM in process 1; keep time-outs for draining below 30 s.",
    ),
    Rule(
        "BYOC-S024",
        ADVICE,
        "After SIGTERM the exit code is 0.",
        HOSTS,
        "13.2",
        "End with 0, so that a clean stop can be told from a crash.",
    ),
    Rule(
        "BYOC-S025",
        ERROR,
        "When a process of the server is killed, the server recovers or the container ends, not with 0.",
        HOSTS,
        "13.3",
        "Watch the processes in process 1; start the one that died again, or end with its failure.",
    ),
    Rule(
        "BYOC-S026",
        WARNING,
        "What the server logs goes to standard output or standard error.",
        "Log Amazon SageMaker Events with Amazon CloudWatch",
        "13.12",
        "Write access and error logs to /dev/stdout and /dev/stderr.",
    ),
    Rule(
        "BYOC-S027",
        ADVICE,
        "A connection serves more than one request.",
        HOSTS,
        "14.4",
        "Speak HTTP/1.1 and keep connections open.",
    ),
    Rule(
        "BYOC-S028",
        WARNING,
        "GET /execution-parameters answers 404, or 200 with parameters of batch transform.",
        TRANSFORMS,
        "15.35",
        'Answer {"MaxConcurrentTransforms": 4, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}, or 404.',
    ),
    Rule(
        "BYOC-S029",
        WARNING,
        "GET /metrics answers 404, or 200 within 2 s: the platform asks each minute.",
        "API reference, MetricsConfig",
        "15.14",
        "Answer unknown paths with 404.",
    ),
    Rule(
        "BYOC-S030",
        WARNING,
        "Headers of the platform, known or not, do not change the answer.",
        INVOKES,
        "15.6, 15.7",
        "Ignore headers that you do not know; take custom attributes of 1,024 characters.",
        ("payload",),
    ),
    Rule(
        "BYOC-S031",
        ERROR,
        "Sixteen requests at once are all answered.",
        HOSTS,
        "15.1",
        "Let requests wait in a queue, and make the model safe for threads.",
        ("payload",),
    ),
    Rule(
        "BYOC-S032",
        WARNING,
        "With an empty /opt/ml/model the server works, or does not say that it is well.",
        HOSTS,
        "13.6, 14.8",
        "Do not answer /ping with 200 when there is no model.",
        ("payload",),
    ),
    Rule(
        "BYOC-S033",
        ERROR,
        "Models are loaded, listed, invoked and unloaded as the label multi-models promises.",
        MULTI_MODEL,
        "15.23 to 15.27",
        "Implement the routes below /models, or remove the label.",
        ("multi-models", "model data"),
    ),
    Rule(
        "BYOC-S034",
        ERROR,
        "/invocations-bidirectional-stream accepts a WebSocket, as the label promises.",
        "API reference, InvokeEndpointWithBidirectionalStream",
        "15.19",
        "Serve WebSockets there, or remove the label.",
        ("bidirectional-streaming",),
    ),
    Rule(
        "BYOC-S035",
        WARNING,
        "Where containers share a host, the server listens on no other TCP port.",
        "Deploy Multi-Container Endpoints",
        "15.31",
        "Connect nginx and the application server by a UNIX socket.",
        ("accept-bind-to-port",),
    ),
)
BY_ID: Mapping[str, Rule] = {rule.id: rule for rule in RULES}


def choose_rules(groups: Iterable[str] = (), ids: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The rules of some groups, or of some ids; all without either. An id may lack its ``BYOC-``.

    Raises:
        UsageError: if there is no such group or rule.
    """
    wanted_groups, wanted = set(groups), {one if "-" in one else f"BYOC-{one}" for one in ids}
    unknown = sorted((wanted_groups - set(GROUPS)) | (wanted - set(BY_ID)))
    if unknown:
        raise UsageError(
            f"there is no rule or group {', '.join(unknown)}",
            f"expected groups of {', '.join(GROUPS)}, or ids such as BYOC-S015",
            "see them with `byoc check --list`",
        )
    return tuple(
        rule
        for rule in RULES
        if (not wanted_groups or rule.group in wanted_groups) and (not wanted or rule.id in wanted)
    )
