"""Packed codes against Python's own big integers, and stored weights against the fake-quantized ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qatplan.errors import DataError, UsageError
from qatplan.quant.registry import create
from qatplan.quant.stored import MixedWeight, StoredWeight, pack, packed_bytes, store, unpack
from qatplan.quant.weight import GroupSize, QuantizedWeight


@settings(max_examples=60, deadline=None)
@given(data=st.data(), levels=st.sampled_from([2, 4, 8, 16, 32, 64, 128, 256]))
def test_packed_codes_are_one_little_endian_number(data: st.DataObject, levels: int) -> None:
    codes = data.draw(st.lists(st.integers(0, levels - 1), max_size=40))
    bits = levels.bit_length() - 1
    number = sum(code << (bits * place) for place, code in enumerate(codes))
    packed = pack(torch.tensor(codes, dtype=torch.long), levels)
    assert bytes(packed.tolist()) == number.to_bytes(packed_bytes(len(codes), levels), "little")
    assert unpack(packed, levels, len(codes)).tolist() == codes


@given(codes=st.lists(st.integers(0, 2), max_size=23))
def test_five_ternary_codes_share_a_byte(codes: list[int]) -> None:
    packed = pack(torch.tensor(codes, dtype=torch.long), 3)
    groups = [codes[i : i + 5] for i in range(0, len(codes), 5)]
    assert packed.tolist() == [sum(code * 3**place for place, code in enumerate(group)) for group in groups]
    assert unpack(packed, 3, len(codes)).tolist() == codes


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(UsageError, match="5 levels cannot be packed"):
        pack(torch.tensor([4]), 5)
    with pytest.raises(DataError, match="9 codes of 16 levels take 5 bytes, not 4"):
        unpack(torch.zeros(4, dtype=torch.uint8), 16, 9)


def stored(bits: float, group_size: GroupSize) -> tuple[StoredWeight | MixedWeight, torch.Tensor]:
    weight = torch.randn(12, 40, generator=torch.Generator().manual_seed(3))
    quantized = QuantizedWeight(weight, create("paretoq", bits), group_size)
    return store(quantized.rounded(weight)), quantized.fake(weight).detach()


@pytest.mark.parametrize("bits", [1, 1.58, 2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [None, 8, "tensor"])
def test_a_stored_weight_is_the_fake_quantized_one_in_as_few_bytes_as_it_says(
    bits: float, group_size: GroupSize
) -> None:
    kept, fake = stored(bits, group_size)
    torch.testing.assert_close(kept.weight(), fake, rtol=1e-6, atol=1e-7)
    rows = {None: 12, 8: 60, "tensor": 1}[group_size]
    code_bits = 1.6 if bits == 1.58 else bits
    assert kept.bytes == 12 * 40 * code_bits / 8 + 4 * rows + 4
