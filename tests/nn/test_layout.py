import itertools
import math

import pytest
import torch

from unitgain.nn.layout import ALIGNMENT, Layout, aligned, row_quantum

TENSORS = (
    ("0.weight", 0, "weight", (5, 7)),
    ("0.bias", 0, "bias", (1, 7)),
    ("1.weight", 0, "norm.weight", (1, 7)),
    ("3.weight", 1, "weight", (7, 64)),
    ("3.bias", 1, "bias", (1, 64)),
    ("5.weight", 2, "weight", (64, 1)),
)


@pytest.fixture
def layout():
    made = Layout()
    assert [made.add(*tensor) for tensor in TENSORS] == list(range(len(TENSORS)))
    return made


def block(layout, members=3):
    numbers = torch.arange(members * layout.total, dtype=torch.float64)
    return numbers.view(members, layout.total)


@pytest.mark.parametrize(("size", "held"), [(0, 0), (1, 32), (31, 32), (32, 32), (33, 64)])
def test_aligned_is_the_next_multiple(size, held):
    assert aligned(size) == held


@pytest.mark.parametrize("widths", list(itertools.combinations((1, 3, 7, 8, 16, 33, 64, 100), 2)))
def test_row_quantum_aligns_every_activation_with_the_fewest_rows(widths):
    quantum = row_quantum(widths)
    assert quantum >= 8
    assert all(quantum * width % ALIGNMENT == 0 for width in widths)
    if quantum > 8:
        assert any(quantum // 2 * width % ALIGNMENT for width in widths)


def test_slots_begin_at_multiples_of_the_alignment_and_do_not_overlap(layout):
    ends = 0
    for slot in layout.slots:
        assert slot.offset % ALIGNMENT == 0
        assert slot.offset >= ends
        ends = slot.offset + slot.size
    assert ends <= layout.total
    assert layout.total % ALIGNMENT == 0
    assert sum(layout.pieces) == layout.total
    assert [slot.size for slot in layout.slots] == [math.prod(t[3]) for t in TENSORS]


def test_views_are_the_slots_of_each_member(layout):
    theta = block(layout)
    views = layout.views(theta)
    for view, slot in zip(views, layout.slots, strict=True):
        part = theta[:, slot.offset : slot.offset + slot.size]
        assert torch.equal(view, part.reshape(3, *slot.shape))
        assert view.untyped_storage().data_ptr() == theta.untyped_storage().data_ptr()


def test_gradients_come_back_to_the_slots_and_padding_gets_none(layout):
    theta = block(layout).requires_grad_()
    sum(i * v.sum() for i, v in enumerate(layout.views(theta), start=1)).backward()
    expected = torch.zeros(layout.total, dtype=torch.float64)
    for i, slot in enumerate(layout.slots, start=1):
        expected[slot.offset : slot.offset + slot.size] = i
    assert torch.equal(theta.grad, expected.expand(3, -1))


def test_a_member_has_torch_s_shapes_and_comes_back(layout):
    theta = block(layout)
    member = layout.member(theta, 1)
    assert {name: tuple(t.shape) for name, t in member.items()} == {
        "0.weight": (7, 5),
        "0.bias": (7,),
        "1.weight": (7,),
        "3.weight": (64, 7),
        "3.bias": (64,),
        "5.weight": (1, 64),
    }
    assert torch.equal(member["0.weight"].T, layout.views(theta)[0][1])
    other = torch.zeros_like(theta)
    layout.load_member(other, 2, member)
    for copied, own in zip(layout.views(other), layout.views(theta), strict=True):
        assert torch.equal(copied[2], own[1])
    assert torch.equal(other[:2], torch.zeros(2, layout.total, dtype=torch.float64))


def test_a_member_is_a_copy(layout):
    theta = block(layout)
    layout.member(theta, 0)["0.bias"].fill_(-1.0)
    assert (theta >= 0).all()


def test_mask_marks_one_kind_and_no_padding(layout):
    for kind in ("weight", "bias", "norm.weight"):
        mask = layout.mask(kind)
        assert int(mask.sum()) == sum(s.size for s in layout.slots if s.kind == kind)
        assert all(mask[s.offset : s.offset + s.size].all() for s in layout.of_kind(kind))
