"""Weights come memory-mapped, and nothing is unpickled that is not weights."""

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sagemaker_byoc.weights import WeightsError, assign_weights, load_weights
from torch import nn


class Network(nn.Module):
    """One layer, and a buffer that is not saved where that is asked for."""

    def __init__(self, scale: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)
        if scale:
            self.register_buffer("scale", torch.ones(4), persistent=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(rows)
        return output


class RunsCode:
    """What a pickle may do to whoever opens it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.trace,)


def is_mapped_from(path: Path, tensor: torch.Tensor) -> bool:
    """Whether the kernel says that a tensor's bytes are pages of this file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, _, last = line.split(" ")[0].partition("-")
        if int(first, 16) <= tensor.data_ptr() < int(last, 16):
            return line.endswith(str(path))
    return False


@pytest.fixture
def trained() -> Network:
    torch.manual_seed(0)
    return Network().eval()


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model.pth", "pytorch_model.bin", "last.ckpt"])
def test_weights_stay_in_their_file(tmp_path: Path, trained: Network, name: str) -> None:
    """13.6: loaded, assigned and used without a copy: workers share the pages."""
    path = tmp_path / name
    save = save_file if name.endswith("safetensors") else torch.save
    save(trained.state_dict(), path)
    with torch.device("meta"):
        empty = Network()
    model = assign_weights(empty, load_weights(path))
    assert all(is_mapped_from(path, parameter) for parameter in model.parameters())
    rows = torch.ones(2, 8)
    assert torch.equal(model(rows), trained(rows))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_an_old_checkpoint_is_read_and_the_log_says_that_it_is_a_copy(
    tmp_path: Path, trained: Network, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "old.pt"
    torch.save(trained.state_dict(), path, _use_new_zipfile_serialization=False)
    with caplog.at_level(logging.INFO, "sagemaker_byoc"):
        assert torch.equal(load_weights(path)["layer.bias"], trained.layer.bias)
    assert f"{path} has the format from before PyTorch 1.6, which cannot be memory-mapped" in caplog.text


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "was-run"
    torch.save({"weight": torch.ones(1), "more": RunsCode(trace)}, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"more than weights .*allow_pickle=True"):
        load_weights(tmp_path / "model.pt")
    assert not trace.exists()
    load_weights(tmp_path / "model.pt", allow_pickle=True)
    assert trace.exists()


def test_a_whole_pickled_model_gives_its_weights_when_that_is_allowed(tmp_path: Path, trained: Network) -> None:
    torch.save(trained, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"test_weights\.Network"):
        load_weights(tmp_path / "model.pt")
    loaded = load_weights(tmp_path / "model.pt", allow_pickle=True)
    assert torch.equal(loaded["layer.weight"], trained.layer.weight)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("allow_pickle", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pt", b""),
        ("text.pt", b"version https://git-lfs.github.com/spec/v1\n"),
        ("cut.pt", b"PK\x03\x04 and no more"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{}"),
        ("plain.pt", pickle.dumps({"a": 1})),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, allow_pickle: bool) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        load_weights(tmp_path / name, allow_pickle=allow_pickle)


def test_what_is_no_dictionary_of_weights_is_told(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"holds a list; expected what model\.state_dict\(\) gives"):
        load_weights(tmp_path / "model.pt")


def test_a_missing_file_is_told_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    with pytest.raises(FileNotFoundError, match=r"model\.pt is no file.* holds weights\.pt"):
        load_weights(tmp_path / "model.pt")


def test_an_unknown_suffix_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.h5").touch()
    with pytest.raises(WeightsError, match=r"model\.h5 has an unknown suffix"):
        load_weights(tmp_path / "model.h5")


def test_weights_of_another_model_are_told_by_name(trained: Network) -> None:
    with pytest.raises(WeightsError, match=r"do not fit Network: .*layer\.bias"):
        assign_weights(Network(), {"layer.weight": torch.ones(4, 8)})
    with pytest.raises(WeightsError, match=r"size mismatch for layer\.weight"):
        assign_weights(Network(), {**trained.state_dict(), "layer.weight": torch.ones(4, 9)})


def test_a_buffer_that_no_file_brings_is_told(trained: Network) -> None:
    """It would fail in the first request otherwise."""
    with torch.device("meta"):
        empty = Network(scale=True)
    with pytest.raises(WeightsError, match="Network has scale, which the weights do not bring"):
        assign_weights(empty, trained.state_dict())
