"""Rules of the forward Laplacian: the jet of an operation's output from the jets of its inputs.

D is the number of electron coordinates, B that of walkers. With primes for derivatives with respect to the argument,
every rule is the chain rule of the package's docstring.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusion.wavefunctions.jets.jet import Jet


def linear(jet: Jet, weight: Tensor, bias: Tensor | None = None) -> Jet:
    """``x @ weight.T + bias``: derivatives transform like the value, without the bias."""
    data = jet.data @ weight.T
    if bias is not None:
        data[:, -1] += bias
    return Jet(data)


def tanh_residual_(pre: Jet, skip: Jet | None) -> Jet:
    """``tanh(pre)``, or ``(skip + tanh(pre)) / sqrt(2)`` with a residual connection; overwrites ``pre``.

    With t = tanh(x): f' = 1 - t^2 and f'' = -2 t f'.
    """
    scale = 1.0 if skip is None else 2.0**-0.5
    value = torch.tanh(pre.value)
    first = 1 - value * value
    curvature = pre.jacobian.square().sum(1).mul_(value).mul_(-2 * scale)
    first_scaled = first * scale
    pre.jacobian.mul_(first_scaled.unsqueeze(1))
    pre.laplacian.mul_(first_scaled).addcmul_(curvature, first)
    pre.value.copy_(value.mul_(scale))
    if skip is not None:
        pre.data.add_(skip.data, alpha=scale)
    return pre


def elementwise(jet: Jet, value: Tensor, first: Tensor, second: Tensor) -> Jet:
    """Function f of every number: J = f' J_x and L = f' L_x + f'' sum_d J_x,d^2, from f, f' and f'' of the value."""
    data = torch.empty_like(jet.data)
    torch.mul(jet.data[:, :-1], first.unsqueeze(1), out=data[:, :-1])
    data[:, -2].addcmul_(second, jet.jacobian.square().sum(1))
    data[:, -1] = value
    return Jet(data)


def tanh(jet: Jet) -> Jet:
    """``tanh(x)``: with t its value, f' = 1 - t^2 and f'' = -2 t f'."""
    value = torch.tanh(jet.value)
    first = 1 - value * value
    return elementwise(jet, value, first, -2 * value * first)


def product(f: Jet, g: Jet) -> Jet:
    """``f g``: L = f L_g + g L_f + 2 sum_d J_f,d J_g,d."""
    data = f.data * g.value.unsqueeze(1) + f.value.unsqueeze(1) * g.data
    data[:, -2].add_((f.jacobian * g.jacobian).sum(1), alpha=2)
    data[:, -1] = f.value * g.value
    return Jet(data)


def layer_norm(jet: Jet, weight: Tensor, bias: Tensor, eps: float) -> Jet:
    """``weight c s + bias`` over the last axis, with c = x - mean(x), v = mean(c^2) and s = (v + eps)^(-1/2).

    With a_d = mean(c J_c,d) and w = sum_d mean(J_c,d^2) + mean(c L_c): s_d = -s^3 a_d,
    lap s = -s^3 w + 3 s^5 sum_d a_d^2, and the product rule gives c s.
    """
    centred = jet.data - jet.data.mean(-1, keepdim=True)
    c = centred[:, -1:]
    s = (c.square().mean(-1, keepdim=True) + eps).rsqrt()  # (B, 1, ..., 1)
    slopes = (centred[:, :-1] * c).mean(-1, keepdim=True)  # a_d, and mean(c L_c) last
    squares = centred[:, :-2].square().mean(-1, keepdim=True).sum(1, keepdim=True)
    s_d = -(s**3) * slopes[:, :-1]
    lap = -(s**3) * (squares + slopes[:, -1:]) + 3 * s**5 * slopes[:, :-1].square().sum(1, keepdim=True)
    data = centred * s
    data[:, :-2] += c * s_d
    data[:, -2:-1] += 2 * (centred[:, :-2] * s_d).sum(1, keepdim=True) + c * lap
    data *= weight
    data[:, -1] += bias
    return Jet(data)


def softmax(jet: Jet) -> Jet:
    """Softmax p over the last axis.

    With m_d = sum_j p_j J_d,j: J_p = p (J - m); with w = L + sum_d (J_d - m_d)^2: L_p = p (w - sum_j p_j w_j).
    """
    p = torch.softmax(jet.value, dim=-1).unsqueeze(1)
    data = torch.empty_like(jet.data)
    centred = jet.jacobian - (p * jet.jacobian).sum(-1, keepdim=True)
    curvature = jet.data[:, -2:-1] + centred.square().sum(1, keepdim=True)
    torch.mul(p, centred, out=data[:, :-2])
    data[:, -2:-1] = p * (curvature - (p * curvature).sum(-1, keepdim=True))
    data[:, -1:] = p
    return Jet(data)


def matmul(f: Jet, g: Jet) -> Jet:
    """Matrix products of the last two axes, (B, D + 2, H, n, k) with (B, D + 2, H, k, m).

    The sum over d of the Laplacian's mixed term is part of one contraction over (d, k).
    """
    f_value, g_value = f.value.unsqueeze(1), g.value.unsqueeze(1)
    data = f.data @ g_value
    data[:, :-1] += f_value @ g.data[:, :-1]
    left = f.jacobian.permute(0, 2, 3, 1, 4).flatten(3)
    right = g.jacobian.permute(0, 2, 1, 3, 4).flatten(2, 3)
    data[:, -2].add_(left @ right, alpha=2)
    return Jet(data)


def attention(query: Jet, key: Jet, value: Jet, heads: int) -> Jet:
    """Multi-head attention without mask: concat_h softmax(q_h k_h^T / sqrt(width)) v_h.

    Jets (B, D + 2, N, heads * width).
    """
    q, k, v = (Jet(x.data.unflatten(-1, (heads, -1)).transpose(-2, -3)) for x in (query, key, value))
    logits = matmul(Jet(q.data * q.data.shape[-1] ** -0.5), Jet(k.data.mT))
    return Jet(matmul(softmax(logits), v).data.transpose(-2, -3).flatten(-2))
