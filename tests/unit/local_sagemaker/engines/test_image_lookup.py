"""Which of this machine's images a document means."""

import pytest
from local_sagemaker.engines.image_lookup import find_image
from local_sagemaker.errors import EngineMissingError

ECR = "000000000000.dkr.ecr.us-east-1.amazonaws.com/digits:latest"


def test_exactly_this_reference_comes_first():
    assert find_image(ECR, {ECR, "digits:latest"}.__contains__) == ECR


def test_else_the_same_name_without_the_registry():
    assert find_image(ECR, {"digits:latest"}.__contains__) == "digits:latest"


@pytest.mark.parametrize("reference", [ECR, "team/digits", "digits"])
def test_an_image_that_is_not_here_is_named_with_what_to_do(reference):
    with pytest.raises(EngineMissingError, match="there is no image") as caught:
        find_image(reference, {"other"}.__contains__)
    assert "byoc build --tag" in caught.value.next_step


def test_a_folder_of_names_is_no_registry():
    with pytest.raises(EngineMissingError, match=r"there is no image team/digits\n"):
        find_image("team/digits", {"digits"}.__contains__)
