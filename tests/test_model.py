"""The ConvNet is that of the paper's Table 1."""

import pytest
import torch

from parfocal_training.model import ConvNetConfig, LayerOrder, initialized, parameter_count

ORDERS: tuple[LayerOrder, ...] = ("conv-relu-bn", "conv-bn-relu")


@pytest.mark.parametrize("order", ORDERS)
def test_it_has_the_papers_parameters_maps_and_outputs(order: LayerOrder) -> None:
    model = initialized(ConvNetConfig(classes=2, order=order), seed=0).eval()
    assert parameter_count(model) == 133_026
    sides, x = [], torch.rand(1, 1, 224, 224)
    with torch.no_grad():
        for block in model.blocks:
            x = block(x)
            sides.append(x.shape[-1])
        logits, lca = model(torch.rand(2, 1, 224, 224) * 255)
    assert sides == [112, 56, 28, 14, 7, 3]
    assert logits.shape == (2, 2)
    assert lca.shape == (2, 288)


def test_the_orders_differ_in_what_leaves_a_block() -> None:
    lca = {}
    for order in ORDERS:
        model = initialized(ConvNetConfig(classes=2, order=order), seed=0)
        lca[order] = model(torch.rand(4, 1, 224, 224) * 255)[1]
    assert float(lca["conv-bn-relu"].detach().min()) >= 0  # ReLU is last but for the pooling
    assert float(lca["conv-relu-bn"].detach().min()) < 0  # BN is


def test_weights_come_from_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (initialized(ConvNetConfig(classes=3), seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.head.weight, same.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert one.head.out_features == 3
