"""What the service checks of a tuning job beyond the model of its request."""

import pytest
from local_sagemaker.errors import ResourceLimitExceededError, ServiceError, ValidationError
from local_sagemaker.tuning.definitions import check_limits, number_of_jobs, read_definitions

CATEGORIES = {
    "CategoricalParameterRanges": [
        {"Name": "act", "Values": ["relu", "tanh"]},
        {"Name": "opt", "Values": ["sgd", "adam", "lion"]},
    ]
}
CRITERIA = {"TargetObjectiveMetricValue": 0.1}


def check(request):
    definitions = read_definitions(request)
    check_limits(request, definitions)
    return definitions


def objective(name):
    return {"Type": "Minimize", "MetricName": name}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"HyperParameterTuningJobObjective": objective("accuracy")}, "'accuracy' is not among the MetricDefinitions"),
        ({"HyperParameterTuningJobObjective": None}, "no tuning objective"),
        ({"static": {"lr": "1"}}, "lr is static and has a range"),
        ({"static": {"_tuning_objective_metric": "loss"}}, "is set by the tuning job"),
        ({"ranges": {"IntegerParameterRanges": []}}, "nothing to search"),
        ({"strategy": "Grid"}, "lr is not categorical"),
        ({"strategy": "Grid", "ranges": CATEGORIES, "jobs": 5}, "number of combinations, which is 6"),
        ({"strategy": "Hyperband"}, "none of epochs, numepochs, n-epochs, n_epochs, num_epochs"),
        ({"strategy": "Hyperband", "static": {"epochs": "1"}}, "MinResource must be less than MaxResource"),
        (
            {"strategy": "Hyperband", "static": {"epochs": "9"}, "TrainingJobEarlyStoppingType": "Auto"},
            "must be Off with the strategy Hyperband",
        ),
        ({"StrategyConfig": {"HyperbandStrategyConfig": {"MaxResource": 9}}}, "is for the strategy Hyperband"),
        ({"jobs": None}, "would not end"),
        ({"members": {"TrainingJobDefinition": None}}, "Exactly one of TrainingJobDefinition"),
        ({"ranges": {"AutoParameters": [{"Name": "x", "ValueHint": "1"}]}}, "AutoParameters need Autotune"),
    ],
)
def test_what_the_service_refuses_is_refused_by_name(make_request, options, message):
    """24.3, 24.4, 24.6."""
    with pytest.raises(ValidationError) as error:
        check(make_request(**options))
    assert message in str(error.value)


@pytest.mark.parametrize(("options"), [{"jobs": 751, "strategy": "Bayesian"}, {"parallel": 101}, {"jobs": 10_001}])
def test_more_than_the_services_limits_is_refused(make_request, options):
    """24.2."""
    with pytest.raises(ResourceLimitExceededError):
        check(make_request(**options))


def test_a_grid_has_as_many_training_jobs_as_combinations(make_request):
    """24.4."""
    for jobs in (None, 6):
        request = make_request(strategy="Grid", ranges=CATEGORIES, jobs=jobs)
        assert number_of_jobs(request, check(request)) == 6


@pytest.mark.parametrize(
    ("static", "config", "expected"),
    [
        ({"n-epochs": "27"}, {}, (1, 27)),
        ({"num_epochs": "27"}, {"MinResource": 3}, (3, 27)),
        ({"epochs": "27"}, {"MinResource": 2, "MaxResource": 9}, (2, 9)),
    ],
)
def test_hyperband_infers_its_resource_from_the_number_of_epochs(make_request, static, config, expected):
    """24.6."""
    config = {"StrategyConfig": {"HyperbandStrategyConfig": config}} if config else {}
    (definition,) = check(make_request(strategy="Hyperband", static=static, **config))
    assert (definition.resources.low, definition.resources.high) == expected


def test_a_tuning_job_may_end_by_its_criteria_or_its_time_alone(make_request):
    """24.2, 24.7."""
    check(make_request(jobs=None, TuningJobCompletionCriteria=CRITERIA))
    check(make_request(jobs=None, ResourceLimits={"MaxParallelTrainingJobs": 1, "MaxRuntimeInSeconds": 120}))


def test_several_definitions_each_have_an_objective_and_ranges_of_their_own(make_request):
    """24.5."""
    request = make_request()
    single = request.pop("TrainingJobDefinition")
    ranges = request["HyperParameterTuningJobConfig"].pop("ParameterRanges")
    request["HyperParameterTuningJobConfig"].pop("HyperParameterTuningJobObjective")
    own = {"TuningObjective": objective("loss"), "HyperParameterRanges": ranges}
    request["TrainingJobDefinitions"] = [{**single, **own, "DefinitionName": name} for name in ("one", "two")]
    assert [one.name for one in check(request)] == ["one", "two"]
    request["TrainingJobDefinitions"][1]["DefinitionName"] = "one"
    with pytest.raises(ServiceError, match="must be unique"):
        check(request)
    del request["TrainingJobDefinitions"][1]["DefinitionName"]
    with pytest.raises(ServiceError, match="must have a DefinitionName"):
        check(request)
