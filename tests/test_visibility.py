"""How plainly something is seen, against closed forms."""

import numpy as np
import pytest
from visibility import contrast, detectability, radial_spectrum

RNG = np.random.default_rng(0)
MASK = np.zeros((20, 20), bool)
MASK[5:9, 5:9] = True


def test_contrast_is_the_step_whatever_the_background_and_the_shift():
    absent = RNG.normal(100, 20, (20, 20))
    assert contrast(absent + 7 * MASK, absent, MASK) == pytest.approx(7)
    assert contrast(absent - 7 * MASK + 30, absent, MASK) == pytest.approx(-7)
    for mask in (np.zeros((20, 20)), np.ones((20, 20))):
        with pytest.raises(ValueError, match="a part of the film"):
            contrast(absent, absent, mask)


@pytest.mark.parametrize("sigma", [1.0, 5.0])
def test_detectability_in_white_noise_is_the_signals_energy(sigma):
    backgrounds = RNG.normal(0, sigma, (4000, 20, 20))
    expected = np.sqrt((3.0 * MASK**2).sum() * 3) / sigma
    assert detectability(3 * MASK, backgrounds) == pytest.approx(expected, rel=0.05)


def test_detectability_refuses_what_does_not_fit():
    for backgrounds in (np.zeros((1, 20, 20)), np.zeros((5, 10, 10)), np.zeros((20, 20))):
        with pytest.raises(ValueError, match="at least two backgrounds"):
            detectability(MASK, backgrounds)


def test_spectrum_of_a_wave_peaks_at_its_frequency():
    x = np.arange(128)
    wave = np.sin(2 * np.pi * 17 * x / 128)[None, None].repeat(128, axis=1)
    frequency, power = radial_spectrum(wave)
    assert frequency[np.nanargmax(power)] == pytest.approx(17, rel=0.12)


def test_spectrum_of_white_noise_is_flat_and_knows_no_exposure():
    noise = RNG.normal(50, 9, (60, 64, 64))
    frequency, power = radial_spectrum(noise, bins=8)
    assert np.nanmax(power) / np.nanmin(power) < 1.3
    assert frequency[0] >= 2
    assert frequency[-1] <= 32
    np.testing.assert_allclose(radial_spectrum(noise * 3 + 1, bins=8)[1], power)
    with pytest.raises(ValueError, match=r"Expected images"):
        radial_spectrum(noise[0])
