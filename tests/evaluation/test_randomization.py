"""Maps before and after randomization: closed forms, and other libraries' measures."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from skimage.feature import hog
from skimage.metrics import structural_similarity

from lib.attribution import gradient
from lib.core import runtime, store
from lib.data.images import load_images
from lib.evaluation.correlation import ranks
from lib.evaluation.maps import magnitude, signed
from lib.evaluation.randomization import MEASURES, randomization, similarity, views
from lib.networks.randomize import weighted_layers

METHODS = {"gradient": {}, "smoothgrad": {"samples": 2}, "edges": {}, "random": {}}
CONTROLS = ["class", "step", "chance"]


@pytest.fixture(scope="module")
def two():
    return load_images(limit=2, size=32)


@pytest.fixture
def rows(small, two):
    """``rows(**parameters)`` for two photos of four classes, by the small network."""

    class Photos:
        targets = torch.tensor([1, 3])

    def compute(**parameters):
        given = {"methods": METHODS, "seed": 0, **parameters}
        return randomization(small, Photos, two.pixels(), given)

    return compute


def test_randomizing_nothing_gives_1(rows):
    found = rows(ranges=[[0, 0], [1, 1]])
    assert len(found) == 2 * 2 * len(METHODS)
    np.testing.assert_allclose(found[list(MEASURES)], 1, atol=1e-9)


def test_what_depends_on_the_weights_changes_and_edges_do_not(rows):
    found = rows(ranges=[[0, 1], [0, 2], [1, 2]], controls=CONTROLS).set_index("method")
    layers = found[found["change"] == "layers"]
    np.testing.assert_allclose(layers.loc["edges", list(MEASURES)], 1, atol=1e-9)
    assert (layers.loc["gradient", list(MEASURES)] < 0.999).all(axis=None)
    by_class = found[found["change"] == "class"]
    assert (by_class.loc["gradient", "signed"] < 0.999).all() and by_class.loc["edges"].signed.eq(
        by_class.loc["edges"].absolute
    ).all()
    chance = found[found["change"] == "chance"]
    assert chance[["absolute", "signed"]].abs().max(axis=None) < 0.15  # 1 / sqrt(32 * 32) = 0.03
    step = found[found["change"] == "step"]
    assert (step.loc["edges", "absolute"] < 0.9999).all()  # the photo did move


def test_draws_are_seeded_and_cascades_contain_one_another(rows):
    one = rows(ranges=[[0, 2]], controls=CONTROLS)
    again, other = rows(ranges=[[0, 2]], controls=CONTROLS), rows(ranges=[[0, 2]], seed=1)
    measures = list(MEASURES)
    np.testing.assert_allclose(one[measures], again[measures], atol=1e-5)
    assert abs(one[measures].iloc[:2] - other[measures].iloc[:2]).max(axis=None) > 1e-3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ranges": [[0, 99]]}, r"^range \[0, 99\) does not lie in \d+ layers$"),
        ({"controls": ["clas"]}, r"^control 'clas' is unknown; choose of: class, step, chance$"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(rows, given, said):
    with pytest.raises(ValueError, match=said):
        rows(**given)


def test_the_network_is_untouched_even_when_a_method_fails(small, rows):
    before = store.digest(small.state_dict())
    rows(ranges=[[0, 2]], controls=CONTROLS)
    with pytest.raises(ValueError, match="steps"):
        rows(ranges=[[0, 2]], methods={"integrated_gradients": {"steps": 0}})
    assert store.digest(small.state_dict()) == before


@pytest.mark.parametrize("side", [28, 32, 45])
def test_the_measures_are_other_libraries_measures(side):
    torch.manual_seed(0)
    a = torch.randn(3, 3, side, side)
    b = a + torch.randn(3, 3, side, side)
    b[0, :, : side // 2] = 0  # ties
    found = similarity(views(a), views(b))
    for k in range(3):
        for name, reduced in (("absolute", magnitude), ("signed", signed)):
            theirs = spearmanr(reduced(a)[k].flatten(), reduced(b)[k].flatten()).statistic
            assert found[name][k] == pytest.approx(theirs, abs=1e-6)
        pictures = [scaled(signed(x)[k].numpy()) for x in (a, b)]
        theirs = structural_similarity(*pictures, data_range=2.0)
        assert found["ssim"][k] == pytest.approx(theirs, abs=1e-6)
        hogs = [hog(picture, pixels_per_cell=2 * [max(side // 14, 1)]) for picture in pictures]
        assert found["hog"][k] == pytest.approx(np.corrcoef(hogs)[0, 1], abs=1e-6)


def scaled(map_):
    return np.clip(map_ / np.percentile(np.abs(map_), 99), -1, 1)


def test_sign_and_scale():
    torch.manual_seed(0)
    a = torch.randn(1, 1, 32, 32)
    turned = similarity(views(a), views(-3 * a))
    assert turned["absolute"] == pytest.approx(1) and turned["signed"] == pytest.approx(-1)
    assert turned["hog"] == pytest.approx(1) and turned["ssim"] < 0.9
    scale = similarity(views(a), views(7 * a))
    assert all(scale[name] == pytest.approx(1) for name in MEASURES)


def test_a_constant_map_is_like_none():
    torch.manual_seed(0)
    a, flat = torch.randn(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    found = similarity(views(a), views(flat))
    assert [found[name][0] for name in ("absolute", "signed", "hog")] == [0, 0, 0]


def test_ranks_are_scipys_along_any_axis():
    values = np.random.default_rng(0).integers(0, 5, (4, 6, 2)).astype(np.float32)
    for axis in (0, 1, 2, -1):
        np.testing.assert_array_equal(ranks(values, axis) + 1, rankdata(values, axis=axis))


def test_quantus_agrees_layer_by_layer(small, two):
    """Its layers in its order, and its correlation of our maps, whatever it averages later on."""
    runtime.torchvision()  # quantus imports it, and cannot where it was built for CUDA
    quantus = pytest.importorskip("quantus")
    from quantus.functions.similarity_func import correlation_spearman

    pixels, targets = two.pixels(), torch.tensor([1, 3])

    def explain(model, inputs, targets, **_):
        maps = gradient(model, torch.as_tensor(inputs), torch.as_tensor(targets))
        return signed(maps)[:, None].numpy()

    options = {"disable_warnings": True, "normalise": False, "abs": False}
    test = quantus.MPRT(similarity_func=correlation_spearman, **options)
    given = {"explain_func": explain, "channel_first": True, "device": "cpu"}
    theirs = test(small, pixels.numpy(), targets.numpy(), **given)
    names = weighted_layers(small)[::-1]
    assert list(theirs) == ["original", *names]
    before, broken = views(gradient(small, pixels, targets)), copy.deepcopy(small)
    for name in names:
        torch.manual_seed(43)  # its seed, plus 1: the network that it drew
        broken.get_submodule(name).reset_parameters()
        ours = similarity(before, views(gradient(broken, pixels, targets)))["signed"]
        np.testing.assert_allclose(ours, theirs[name], atol=1e-4)
