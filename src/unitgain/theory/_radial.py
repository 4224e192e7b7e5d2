r"""The part of a gradient that changes the length of a layer's outputs, in a layer without a skip and without a norm.

Given $z_{l+1} = W h + b$, the matrix W is random but for its part along h, so with $c = \sigma_w^2 / q_{l+1}$

$W^T \delta_{l+1} = r + \frac{c}{n} h \, (z_{l+1} \cdot \delta_{l+1})$, r without preferred direction.

Behind the activation, $T_l = E|\delta_l|^2$ and $R_l = E(z_l \cdot \delta_l)^2$ follow

$T_l = \sigma_w^2 (E[\phi'^2] - \frac{c}{n} E[\phi^2 \phi'^2]) T_{l+1} + \frac{c^2}{n} E[\phi^2 \phi'^2] R_{l+1}$,

$R_l = \sigma_w^2 (E[z^2 \phi'^2] - c E[z \phi \phi']^2) T_{l+1} + c^2 E[z \phi \phi']^2 R_{l+1}$.

The loss depends on the length, and a change of the length grows by $V'(q)$ a layer: where $V'^2$ is greater than
$\chi_1$, as in networks of softplus, R starts at 1 / n of the whole and outgrows the rest. In ReLU networks the two
terms of 1 / n cancel: there the squared gradient is kept at any width. Where R shrinks, T loses less than 1 / n of
itself a layer, which is left out, as what else is linear in 1 / n.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import final

from unitgain.theory.activations import Activation
from unitgain.theory.gaussian import nodes


@final
@dataclass(frozen=True)
class Radial:
    """R over T at the pre-activations of a layer.

    Attributes:
        ratio: R / T.
        variance: of the pre-activations over weights and biases.
    """

    ratio: float
    variance: float

    @classmethod
    def of_output(cls, variance: float) -> "Radial":
        """At the outputs, whose gradient has no preferred direction."""
        return cls(variance, variance)

    def back(
        self, activation: Activation, variance: float, keep: float, sigma_w: float, width: int
    ) -> "tuple[Radial, float]":
        """To the layer in front.

        Args:
            activation: phi, moved by the mean of the biases.
            variance: of its pre-activations.
            keep: the share of its units that dropout keeps.
            sigma_w: of the weights between the layers.
            width: its units.

        Returns:
            The same there, and T there over T here.
        """
        slopes, tilted, along, joint = _moments(activation, variance)
        coefficient = sigma_w**2 / max(self.variance, 1e-280)
        back = sigma_w**2 / keep
        shared = coefficient * joint / (width * keep**3)
        # What is below one part in n is left to the spread of a finite width.
        grown = back * slopes + shared * max(coefficient * self.ratio - sigma_w**2, 0.0)
        turned = along / keep * (along / keep) * coefficient
        radial = back * tilted + turned * (coefficient * self.ratio - sigma_w**2)
        if not (math.isfinite(radial) and math.isfinite(grown)):
            return Radial(0.0, variance), back * slopes
        return Radial(max(radial, 0.0) / grown if grown > 0 else 0.0, variance), grown


@lru_cache(maxsize=4096)
def _moments(activation: Activation, variance: float) -> tuple[float, float, float, float]:
    """E[phi'^2], E[z^2 phi'^2], E[z phi phi'] and E[phi^2 phi'^2]."""
    at = nodes(activation, variance)
    slope = at.slope_M
    return (
        math.fsum(at.weights_M * slope**2),
        math.fsum(at.weights_M * (at.x_M * slope) ** 2),
        math.fsum(at.weights_M * at.x_M * at.value_M * slope),
        math.fsum(at.weights_M * (at.value_M * slope) ** 2),
    )
