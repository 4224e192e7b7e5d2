"""MNIST-1D by its published recipe."""

import numpy as np

from unitgain.data._table import Floats, Table, table_from_arrays

# One row of points a digit, as published.
_TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)
_CORRELATION_LENGTH = 2
# Keeps the template's own zeros apart from the padding, which alone gets the correlated noise.
_OFFSET = 1e-8


def mnist1d(
    n: int = 5000,
    noise: float = 0.02,
    seed: int = 42,
    correlated_noise: float = 0.25,
    padding: tuple[int, int] = (36, 60),
    max_translation: int = 48,
    scale_range: float = 0.4,
    shear: float = 0.75,
    length: int = 40,
) -> Table:
    """Ten one-dimensional digits, padded, dilated, scaled, shifted, blurred by noise and sheared.

    Rows are drawn in the order of the recipe from its generator (numpy's MT19937), so that the
    defaults give the published table: its first 4000 rows are the published training part, the
    other 1000 the test part.

    Args:
        n: Rows, ten classes of ``n // 10`` each.
        noise: Standard deviation of the independent noise.
        seed: Decides the draw.
        correlated_noise: Standard deviation, before smoothing, of the noise off the digit.
        padding: Least and most zeros appended to the 12 points of a template.
        max_translation: The digit is rolled by 0 to this many points, exclusive.
        scale_range: The amplitude is 1 +- half of this.
        shear: The slope is at most half of this.
        length: Points a row after subsampling, the number of features.

    Reference: Greydanus (2020), Scaling down deep learning, arXiv 2011.14439, section 2.
    """
    draw = np.random.RandomState(seed)
    whitened = _TEMPLATES - _TEMPLATES.mean(axis=1, keepdims=True)
    whitened /= _TEMPLATES.std(axis=1, keepdims=True)
    templates = (whitened - whitened[:, :1]) / 6
    y_N = np.repeat(np.arange(len(templates)), n // len(templates))
    rows = [
        _distorted(
            templates[label],
            draw,
            noise=noise,
            correlated_noise=correlated_noise,
            padding=padding,
            max_translation=max_translation,
            scale_range=scale_range,
            shear=shear,
            length=length,
        )
        for label in y_N
    ]
    order = draw.permutation(len(y_N))
    x_ND = np.stack(rows)[order]
    return table_from_arrays(
        "mnist1d",
        (x_ND - x_ND.mean()) / x_ND.std(),
        y_N[order],
        task="classification",
        class_names=[str(digit) for digit in range(10)],
    )


def _distorted(
    template: Floats,
    draw: np.random.RandomState,
    *,
    noise: float,
    correlated_noise: float,
    padding: tuple[int, int],
    max_translation: int,
    scale_range: float,
    shear: float,
    length: int,
) -> Floats:
    """One row of the recipe; the order of the draws is part of it."""
    from scipy.ndimage import gaussian_filter  # type: ignore[attr-defined]

    low, high = padding
    zeros = low + int(draw.random_sample() * (high - low + 1))
    signal = np.append(template + _OFFSET, np.zeros(zeros))
    signal = _resampled(signal, len(template) + high)
    signal *= 1 + scale_range * (draw.random_sample() - 0.5)
    signal = np.roll(signal, draw.choice(max_translation))
    smooth = gaussian_filter(
        correlated_noise * draw.standard_normal(len(signal)), _CORRELATION_LENGTH
    )
    signal = np.where(signal != 0, signal, smooth)
    signal += noise * draw.standard_normal(len(signal))
    slope = shear * (draw.random_sample() - 0.5)
    signal -= slope * np.linspace(-0.5, 0.5, len(signal))
    return _resampled(signal, length)


def _resampled(signal: Floats, length: int) -> Floats:
    """The signal at ``length`` points, linearly interpolated."""
    return np.interp(np.linspace(0, 1, length), np.linspace(0, 1, len(signal)), signal)
