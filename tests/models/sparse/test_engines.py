"""Which engine `auto` takes, and what it says where it must do without the fastest."""

import pytest
import torch

from cosmictagger.errors import UserError
from cosmictagger.models.sparse import cpu_engine, engines, spconv_engine
from cosmictagger.models.sparse.engines import choose_engine

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def said():
    return []


def test_auto_takes_the_compiled_kernels_on_a_cpu(said):
    engine = cpu_engine.load(CPU)
    if isinstance(engine, str):
        pytest.skip(engine)
    assert choose_engine("auto", CPU, said.append).name == "cpu"
    assert said == []


@pytest.mark.parametrize(("device", "module"), [(CPU, cpu_engine), (GPU, spconv_engine)])
def test_auto_falls_back_on_torch_and_says_why(monkeypatch, said, device, module):
    monkeypatch.setattr(module, "load", lambda device: "there is no compiler")
    assert choose_engine("auto", device, said.append).name == "torch"
    assert said == ["Sparse engine: torch, because there is no compiler."]
    assert choose_engine("auto", device).name == "torch"


@pytest.mark.parametrize(("name", "module"), [("cpu", cpu_engine), ("spconv", spconv_engine)])
def test_an_engine_asked_for_by_name_must_work(monkeypatch, name, module):
    monkeypatch.setattr(module, "load", lambda device: "it is not here")
    with pytest.raises(UserError, match=rf"^--sparse-engine {name}: it is not here; take --sparse-engine auto\.$"):
        choose_engine(name, CPU)


def test_the_cpu_engine_does_not_compute_on_a_gpu():
    with pytest.raises(UserError, match=r"^--sparse-engine cpu: .* not on a GPU"):
        choose_engine("cpu", GPU)


def test_torch_always_works():
    assert engines.choose_engine("torch", CPU).name == "torch"
