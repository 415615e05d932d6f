"""What becomes of gradients on their way back, and ``fastrnn gradients``."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn import Layer
from fastrnn.command.main import main
from fastrnn.course import gradients
from fastrnn.losses import mean_squared_error

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("net", gradients.NETS)
def test_the_gradient_is_that_of_the_loss_by_the_state(net: str) -> None:
    T, t, eps = 12, 4, 1e-6
    layer, decoder, x, target = gradients.start(net, 1.2, 1.0, T, seed=1)
    loss = gradients.there_and_back(layer, decoder, x, target, trace=True)
    assert loss == pytest.approx(1)
    trace = layer.trace
    direction = np.random.default_rng(0).standard_normal(trace["h_l0"][t].shape)

    def loss_from(h: np.ndarray[Any, Any]) -> float:
        state = (h[None], trace["c_l0"][t][None]) if net == "LSTM" else h[None]
        last, _ = layer(x[t + 1 :], state, return_sequence=False)
        return mean_squared_error(decoder(last), target)[0]

    h = trace["h_l0"][t]
    slope = (loss_from(h + eps * direction) - loss_from(h - eps * direction)) / (2 * eps)
    assert slope == pytest.approx(float(np.vdot(trace["dh_l0"][t], direction)), rel=1e-5)


def test_every_net_starts_at_the_same_loss() -> None:
    for net in gradients.NETS:
        for radius in (0.5, 1.0, 2.0):
            assert gradients.there_and_back(*gradients.start(net, radius, 4.0, 60, seed=2)) == pytest.approx(1)


def test_curves_follow_theory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    backward = Layer.backward
    monkeypatch.setattr(Layer, "backward", lambda *args, **kw: calls.append(args) or backward(*args, **kw))
    found = {(c.net, c.radius): c for c in gradients.by_radius(60, (0.7, 1.0, 2.0))}
    assert len(calls) == len(found) == 12
    assert all(c.norms.shape == (60,) and c.norms[0] == 1 for c in found.values())
    assert found["RNN tanh", 0.7].theory == 0.7
    assert found["RNN tanh", 0.7].measured == pytest.approx(0.7, abs=0.005)
    assert found["RNN tanh", 1.0].measured == pytest.approx(1.0, abs=0.01)
    assert 1.1 < found["RNN tanh", 2.0].measured < 2
    assert found["RNN tanh", 2.0].total > 1e3
    for radius in (0.7, 1.0, 2.0):
        relu = found["RNN relu", radius]
        assert relu.theory == pytest.approx(radius / math.sqrt(2))
        assert relu.measured == pytest.approx(relu.theory, rel=0.15)  # half of the units are off, more or less
        for net in gradients.GATED:
            assert 0.2 < found[net, radius].total < 1
            assert found[net, radius].measured == pytest.approx(found[net, radius].theory, rel=0.02)


def test_a_bias_keeps_the_gradient() -> None:
    for net in gradients.GATED:
        found = [c for c in gradients.by_bias(60, (-1.0, 0.0, 2.0, 4.0)) if c.net == net]
        assert found[1].theory == 0.75
        assert [c.measured for c in found] == pytest.approx([c.theory for c in found], rel=0.04)
        assert found[0].total < 1e-6 < 0.3 < found[-1].total


def test_clipping() -> None:
    found = {net: gradients.clipping(net, 2.0, 60) for net in gradients.NETS}
    tanh, relu, gru = found["RNN tanh"], found["RNN relu"], found["GRU"]
    assert tanh.norm > 1e3
    assert tanh.clipped_norm == 1
    assert tanh.losses[1] is not None
    assert tanh.clipped_losses[1] is not None
    # How far it gets in 30 updates is chaos, which the last bit of a product decides: from 0.2 to 1.1.
    assert tanh.losses[1] > 1e3 > 2 > tanh.clipped_losses[1]
    assert relu.losses[1] is None  # and its states are as large as its gradients, which clipping does not change
    assert gru.norm < 10
    assert gru.losses[1] == pytest.approx(gru.clipped_losses[1], rel=0.1)


def test_the_adding_problem() -> None:
    x, target = gradients.adding_problem(np.random.default_rng(0), 10, 500)
    assert x.shape == (10, 500, 2)
    assert (x[:5, :, 1].sum(axis=0) == 1).all()
    assert (x[5:, :, 1].sum(axis=0) == 1).all()
    np.testing.assert_allclose((x[..., 0] * x[..., 1]).sum(axis=0)[:, None], target)
    assert target.var() == pytest.approx(gradients.CHANCE, rel=0.1)


def test_a_net_learns_to_add() -> None:
    learnt = gradients.learn("GRU", 20, 0, updates=500)
    assert learnt.learnt_after is not None
    assert learnt.error < gradients.LEARNT
    assert gradients.learn("GRU", 20, 0, updates=500) == learnt
    early = gradients.learn("GRU", 20, 0, updates=learnt.learnt_after // 2)
    assert early.learnt_after is None
    assert early.error > gradients.LEARNT


SMALL = ("gradients", "--steps", "20")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "curves.png"
    options = ("--radius", "0.5", "2", "--bias", "-1", "3", "--out", str(path))
    assert main([*SMALL, *options, "--learn", "10", "--updates", "3", "--seeds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith(("vanishes", "holds", "explodes")) for line in lines) == 4 * 2 + 2 * 2
    assert [line.split()[:2] for line in lines[-2:]] == [["10", "0"], ["10", "1"]]
    assert all(line.count("- (") == 4 for line in lines[-2:])
    assert path.read_bytes().startswith(b"\x89PNG")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--json", "--radius", "3", "--learn", "10", "--updates", "2", "--seeds", "1"]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    result = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert [(c["net"], c["radius"]) for c in result["curves"][:4]] == [(net, 3) for net in gradients.NETS]
    assert len(result["curves"][0]["norms"]) == 20
    assert result["clipping"][0]["clipped_norm"] == 1
    assert [lesson["net"] for lesson in result["lessons"]] == list(gradients.NETS)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--steps", "2"], "--steps must be at least 3"),
        (["--learn", "2"], "--learn must be at least 3"),
        (["--steps", "2000", "--radius", "4"], "RNN tanh: with spectral radius 4, numbers overflow"),
        (["--steps", "800", "--radius", "2.5"], "RNN relu: with spectral radius 2.5, numbers overflow"),
        (["--out", "curves.txt"], ".png"),
        (["--out", "no/such/curves.png"], "no folder"),
    ],
)
def test_mistakes(
    options: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["gradients", *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert part in shown.err
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("options", [["--bias", "nan"], ["--bias", "21"], ["--radius", "0"], ["--learn", "x"]])
def test_numbers_that_make_no_sense(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["gradients", *options])
    assert options[0] in capsys.readouterr().err
