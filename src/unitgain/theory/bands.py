"""What a change of the gradient over depth means for training, in decades of its norm."""

HEALTHY_DECADES = 1.3
"""Decades of gradient across depth that do no harm: 6 correlation depths, since 6 / log(1 / chi_1) layers change the
norm by 10^(6 / (2 ln 10)) = 10^1.30 (Schoenholz et al. 2017, arXiv 1611.01232, section 5)."""

SEVERE_DECADES = 3.0
"""Decades beyond which none of the labelled runs learned, unless the gradient came back later."""
