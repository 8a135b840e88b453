"""oneDNN's products: their numbers, when they are used, and that a network is the same with them."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from palaestra.agents import PPO
from palaestra.agents.networks import onednn
from palaestra.envs import make


def randoms(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(8192, 64, 64), (1024, 256, 128), (64, 3, 100), (256, 150, 1)])
def test_products_are_those_of_float64(rows: int, inputs: int, outputs: int) -> None:
    x, weight, bias, grad = randoms((rows, inputs), (outputs, inputs), (outputs,), (rows, outputs))
    exact = torch.addmm(bias.double(), x.double(), weight.double().t())
    for name, function in (("none", lambda y: y), ("tanh", Tensor.tanh), ("relu", Tensor.relu)):
        torch.testing.assert_close(
            onednn.linear(x, weight, bias, name).double(), function(exact), rtol=1e-5, atol=3e-6 * inputs**0.5
        )
    grad_input = onednn.linear(grad, weight.t())
    torch.testing.assert_close(
        grad_input.double(), grad.double() @ weight.double(), rtol=1e-5, atol=3e-6 * outputs**0.5
    )
    grad_weight, grad_bias = onednn.gradients(grad, x, weight)
    torch.testing.assert_close(grad_weight.double(), grad.double().t() @ x.double(), rtol=1e-4, atol=1e-5 * rows**0.5)
    torch.testing.assert_close(grad_bias.double(), grad.double().sum(0), rtol=1e-4, atol=1e-5 * rows**0.5)


def test_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the form of the matrices alone: large, not narrow, a multiple of 64 rows, float32 on a CPU."""
    x, odd = torch.zeros(8192, 64), torch.zeros(8191, 64)
    monkeypatch.setattr(onednn, "is_faster", lambda: True)
    monkeypatch.setattr(onednn, "least_width", lambda: 0)
    assert onednn.multiplies(x, 64)
    assert onednn.sums(x, x)
    for other, columns in ((x, 4), (x[:64], 64), (odd, 64), (x.double(), 64), (x.to("meta"), 64)):
        assert not onednn.multiplies(other, columns)
    for a, b in ((x, x[:, :4]), (x[:, :4], x), (x[:64], x[:64]), (odd, odd), (x.double(), x.double())):
        assert not onednn.sums(a, b)
    monkeypatch.setattr(onednn, "least_width", lambda: 256)
    wide = torch.zeros(2048, 256)
    assert onednn.multiplies(wide, 256)
    assert onednn.sums(wide, wide)
    assert not any((onednn.multiplies(x, 256), onednn.multiplies(wide, 64), onednn.sums(x, x)))
    monkeypatch.setattr(onednn, "is_faster", lambda: False)
    assert not onednn.multiplies(wide, 256)
    assert not onednn.sums(wide, wide)


@pytest.mark.parametrize(
    ("vendor", "family", "capability", "faster", "width"),
    [
        ("AuthenticAMD", "cpu family\t: 26", "AVX512", True, 0),
        ("AuthenticAMD", "cpu family\t: 25", "AVX512", True, 256),  # computes it in two halves
        ("AuthenticAMD", "", "AVX512", True, 256),
        ("AuthenticAMD", "cpu family\t: 25", "AVX2", False, 256),
        ("GenuineIntel", "cpu family\t: 6", "AVX512", False, 256),
    ],
)
def test_it_is_for_amds_avx512(
    vendor: str, family: str, capability: str, faster: bool, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.backends.mkl.is_available():
        pytest.skip("a PyTorch without MKL")
    text = f"processor : 0\nvendor_id : {vendor}\n{family}\nmodel\t: 17\n"
    monkeypatch.setattr(pathlib.Path, "exists", lambda self: True)
    monkeypatch.setattr(pathlib.Path, "read_text", lambda self, **kwargs: text)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert onednn.is_faster.__wrapped__() == faster
    assert onednn.least_width.__wrapped__() == width
    assert onednn.has_fast_tanh.__wrapped__() == (vendor == "GenuineIntel")


def test_windows_names_the_family_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pathlib.Path, "exists", lambda self: False)
    monkeypatch.setattr(onednn.platform, "processor", lambda: "AMD64 Family 26 Model 68 Stepping 0, AuthenticAMD")
    assert onednn._family() == 26


@pytest.mark.parametrize("layers", [{"activation_fn": nn.Tanh}, {"activation_fn": nn.ReLU}])
def test_an_update_is_the_same_with_it(layers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollout and update of networks that are large enough, to within float32's rounding."""
    found = []
    used: list[str] = []
    for faster in (True, False):
        monkeypatch.setattr(onednn, "is_faster", lambda faster=faster: faster)
        monkeypatch.setattr(onednn, "least_width", lambda: 0)
        for name in ("linear", "gradients"):
            real = getattr(onednn, name)
            monkeypatch.setattr(onednn, name, lambda *a, n=name, r=real, **k: (used.append(n), r(*a, **k))[1])
        kwargs = {"net_arch": [128, 128], **layers}
        model = PPO("MlpPolicy", make("reach", 128, "cpu"), n_steps=8, batch_size=1024, seed=0, policy_kwargs=kwargs)
        model.learn(1024)
        found.append({name: p.detach().clone() for name, p in model.policy.named_parameters()})
        assert set(used) == {"linear", "gradients"} if faster else not used
        monkeypatch.undo()
        used.clear()
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)
