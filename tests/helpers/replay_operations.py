"""Operations of many kinds on odd numbers, each of which a replay has to give the bits of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from palaestra.envs.core.replay.recording import host_call

SPECIAL = [0.0, -0.0, 1.0, -1.5, 1e-42, -1e-42, 3e38, -3e38, float("inf"), float("-inf"), float("nan"), 2.0**-126]
F = torch.cat((torch.tensor(SPECIAL), torch.linspace(-3, 3, 101)))
G = F.roll(5)
N = torch.cat((torch.tensor([0, 1, -1, 2**62, -(2**63), 2**63 - 1]), torch.arange(-50, 57)))
SMALL = (N % 61).to(torch.int16)
B = F > 0.5
GAMMA = torch.tensor(-7046029254386353131)
SHIFT, LEFT = torch.tensor(30), torch.tensor((1 << 34) - 1)
HALF, ZERO = torch.tensor(0.3), torch.tensor(0.0)

OPERATIONS: dict[str, Callable[[], Tensor]] = {
    "sums": lambda: F + G - 0.1,
    "products": lambda: (F * G) * 0.7 * HALF,
    "quotients": lambda: F / G / 3.0,
    "squares": lambda: F.square() + F**2,
    "roots": lambda: F.abs().sqrt(),
    "sines": lambda: F.sin() + F.cos().exp(),
    "reversed": lambda: 1.0 - F,
    "scaled": lambda: torch.add(F, G, alpha=0.3) + torch.addcmul(F, G, F, value=0.3),
    "scaled product": lambda: torch.addcmul(ZERO, F, G, value=0.3),
    "scaled quotient": lambda: torch.addcdiv(F, G, F, value=-0.3) + torch.addcdiv(HALF, F, G, value=0.1),
    "signed quotient": lambda: torch.addcdiv(F, G, F, value=-1) + torch.addcdiv(HALF, F, G),
    "signed product": lambda: torch.addcmul(ZERO, F, G, value=-1.0) + torch.addcmul(ZERO, G, G),
    "scaled in place": lambda: F.clone().addcdiv_(G, F, value=0.2).addcmul_(G, G, value=0.1),
    "in place": lambda: F.clone().mul_(G).add_(0.1).sub_(HALF).div_(3.0).clamp_(-1.0, 1.0),
    "minima": lambda: torch.minimum(F, G) + torch.maximum(F, -G) + F.clamp(max=0.0),
    "integers": lambda: (N * GAMMA + 7 - N * 3).bitwise_xor(N >> SHIFT).bitwise_and_(LEFT) | 5,
    "mixing": lambda: (N >> SHIFT).bitwise_and_(LEFT).bitwise_xor_(N).mul_(GAMMA),
    "integers scaled": lambda: torch.add(N, N.roll(1), alpha=-7046029254386353131),
    "least integers": lambda: torch.minimum(N, N.flip(0)) + torch.maximum(SMALL, SMALL.flip(0)),
    "small integers": lambda: SMALL + B + SMALL * 2,
    "small integers and a fraction": lambda: SMALL * 0.5 + SMALL / 7,
    "mixed": lambda: N + B,
    "comparisons": lambda: (F < G) | (F >= 0.1) & (N == 3) ^ (N != SMALL),
    "comparison with a fraction": lambda: (SMALL > 1.5) | (N <= 2.5),
    "truths": lambda: torch.logical_and(B, F > 0).logical_or_(G > 0).logical_not(),
    "truths greater": lambda: (N > 3).gt(B),
    "negated": lambda: -F + (-N).abs(),
    "filled": lambda: torch.zeros_like(F) + torch.ones_like(F) + torch.full_like(F, 2.5) + torch.zeros(113).fill_(3.0),
    "cast": lambda: N.float() + B.float() + SMALL.double().float() + N.to(torch.int16).float(),
    "cast down": lambda: F.clamp(-100.0, 100.0).nan_to_num().long(),
    "stacked": lambda: torch.stack((F, G, F * G)),
    "stacked in columns": lambda: torch.stack((F, G, F * G), 1),
    "views stacked": lambda: torch.stack([*torch.stack((F, G, F * G)).unbind(0)], 1),
    "joined": lambda: torch.cat((F.unsqueeze(1), torch.stack((F, G), 1)), 1),
    "chosen": lambda: torch.where(B, F, G) + F.masked_fill(B, 2.0) + F.clone().masked_fill_(B, 3.0),
    "gathered": lambda: F.index_select(0, N.abs() % 100) + F[N.abs() % 100] + F.gather(0, N.abs() % 100),
    "written": lambda: torch.zeros(113).index_copy(0, torch.arange(113).flip(0), F).scatter_(0, N.abs() % 100, 1.0),
    "reduced": lambda: torch.stack((F, G)).sum(0) + torch.stack((B, B)).any(0) + torch.stack((F, G)).amax(0),
    "searched": lambda: torch.searchsorted(torch.linspace(-2, 2, 9), F.nan_to_num(), right=True),
    "two results": lambda: torch.stack((F, G)).max(0).values + torch.stack((F, G)).max(0).indices,
    "parts": lambda: _parts(),
    "a call of the host": lambda: host_call(_of_rows, F, B) * 2.0,
}


def _parts() -> Tensor:
    whole = torch.empty(3, 113)
    torch.add(F, G, out=whole[0])
    torch.gt(whole[0], 0.5, out=whole[1])
    torch.div(SMALL, 60, out=whole[2])
    return whole[:, ::2]


def _of_rows(values: Tensor, where: Tensor) -> Tensor:
    rows = where.nonzero().squeeze(1)
    return values.index_fill(0, rows, 5.0)
