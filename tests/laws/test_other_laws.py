"""The rivals of the QAT law against published numbers and their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from qatplan.errors import UsageError
from qatplan.laws import Chen2025, Chinchilla, ChinchillaPerBits, Effective, Inputs, Ouyang, Precision


def _error(law: Chen2025, x: Inputs) -> np.ndarray:
    return np.sum([v for name, v in law.components(x).items() if name.startswith("quantization error")], axis=0)


@pytest.mark.parametrize(("precision", "error"), [("W4A4", 0.057), ("W4A16", 0.021), ("W16A4", 0.040)])
def test_chen_published_error_at_595m(precision: str, error: float) -> None:
    """arXiv 2505.14302's constants at N 594e6, D 100e9, G 128."""
    law = Chen2025.published(precision)  # type: ignore[arg-type]
    x = Inputs.of(n=594e6, d_total=100e9, bits=4, fraction=1.0, group_size=128)
    assert _error(law, x)[0] == pytest.approx(error, abs=5e-4)


def test_chen_error_grows_with_tokens_and_groups() -> None:
    law = Chen2025.published()
    x = Inputs.of(n=594e6, d_total=[1e10, 1e11, 1e11], bits=4, fraction=1.0, group_size=[128, 128, 256])
    error = _error(law, x)
    assert error[0] < error[1] < error[2]


def test_chen_without_group_sizes_has_no_group_exponent() -> None:
    x = Inputs.of(n=1e8, d_total=1e10, bits=[2, 4, np.nan], fraction=[1, 1, 0])
    names = [p.name for p in Chen2025.for_inputs(x).parameters()]
    assert names == ["E", "A", "alpha", "C", "beta", "k_2", "gN_2", "gD_2", "k_4", "gN_4", "gD_4"]
    assert "no group size" in str(Chen2025.published().outside(x)[1])


def test_precision_is_its_formula() -> None:
    law = Precision.published()
    n, d, bits = 1e8, 5e9, 3.0
    size = n * (1 - np.exp(-bits / 2.6745))
    trained = 2.7648 + 4299 / size**0.4965 + 18060 / d**0.4965
    rounded = 2.7648 + 4299 / n**0.4965 + 18060 / d**0.4965
    rounded += 0.0598 * d**0.5068 / n**0.3439 * np.exp(-bits / 0.5907)
    x = Inputs.of(n=n, d_total=d, bits=bits, fraction=[1.0, 0.0])
    np.testing.assert_allclose(law.predict(x), [trained, rounded], rtol=1e-12)


def test_effective_is_its_formula_and_knows_its_bit_widths() -> None:
    law = Effective.published()
    x = Inputs.of(n=1e9, d_total=2e10, bits=[2, np.nan, 5], fraction=[1, 0, 1])
    rest = 1.8172 + 2085.43 / 2e10**0.3658
    value = law.predict(x)
    np.testing.assert_allclose(value[:2], [rest + 482.01 / (0.414e9) ** 0.3478, rest + 482.01 / 1e9**0.3478])
    assert np.isnan(value[2])
    assert "5 bits" in str(law.outside(x)[2])


def test_ouyang_adds_to_any_full_precision_law() -> None:
    x = Inputs.of(n=1e9, d_total=3e11, bits=4, fraction=0.0)
    added = 0.017 * 3e11**0.5251 / (1e9**0.2261 * 4**5.4967)
    assert Ouyang.published().predict(x)[0] == pytest.approx(added, rel=1e-12)
    base = Chinchilla.published()
    assert Ouyang.published(base).predict(x)[0] == pytest.approx(added + base.predict(x)[0], rel=1e-12)


def test_one_law_per_bit_width_predicts_nothing_elsewhere() -> None:
    law = ChinchillaPerBits.published()
    x = Inputs.of(n=1e9, d_total=2e10, bits=[np.nan, 4], fraction=[0, 1])
    value = law.predict(x)
    assert value[0] == pytest.approx(Chinchilla.published().predict(x)[0], rel=1e-14)
    assert np.isnan(value[1])


@pytest.mark.parametrize("law", [Effective.published(), Chen2025.published(), ChinchillaPerBits.published()])
def test_rounded_models_are_outside_qat_laws(law: Effective | Chen2025 | ChinchillaPerBits) -> None:
    x = Inputs.of(n=1e9, d_total=2e10, bits=4, fraction=0.0, group_size=128)
    assert "rounded after training" in str(law.outside(x)[0])


def test_unknown_published_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="W4A4, W4A16, W16A4"):
        Chen2025.published("W2A2")  # type: ignore[arg-type]


def test_bad_bit_width_in_a_name_is_refused() -> None:
    values = {**Effective.published().params(), "eff_x": 0.5}
    with pytest.raises(UsageError, match="x is no bit width"):
        Effective.from_params(values)


def test_domains_of_rounding_laws_are_told() -> None:
    x = Inputs.of(n=1e9, d_total=2e10, bits=[4, 4, np.nan], fraction=[0.0, 0.5, 0.0])
    ouyang = Ouyang.published(Chinchilla.published()).outside(x)
    assert ouyang[0] is None
    assert "not QAT" in str(ouyang[1])
    assert ouyang[2] is None
    mixed = Inputs.of(n=1e9, d_total=2e10, bits=4, fraction=[0.0, 0.5, 1.0])
    assert Precision.published().outside(mixed)[0] is None
    for law in (Ouyang.published(Chinchilla.published()), Precision.published()):
        assert {"compute_exponent_n", "compute_exponent_d"} <= set(law.derived())
