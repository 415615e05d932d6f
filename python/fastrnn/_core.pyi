"""The compiled part of fastrnn. Use the functions of fastrnn, which stand on it."""

from typing import Any, Literal, TypeVar, final

import numpy as np
from numpy.typing import NDArray

__version__: str

_Array = NDArray[Any]
_Float = TypeVar("_Float", np.float32, np.float64)

@final
class Tape:
    """What a forward call with training=True leaves for the backward call of the same family."""

    @property
    def nbytes(self) -> int: ...
    def __reduce__(self) -> Any: ...

@final
class KeptWeights:
    """Packed weights of one layer, kept from call to call while they are the same; or, if frozen, for good."""

    def __new__(cls, frozen: bool, /) -> KeptWeights: ...
    @property
    def nbytes(self) -> int: ...
    def expect_the_same(self) -> None: ...

@final
class FormatWeights:
    """The weights of a layer in another format than "float32", packed, for calls and streams."""

    def __new__(
        cls,
        cell: str,
        kept_as: str,
        w_ih: _Array,
        ih_scales: _Array | None,
        w_hh: _Array | None,
        hh_scales: _Array | None,
        b_ih: _Array | None,
        b_hh: _Array | None,
        vectors: _Array | None,
        /,
    ) -> FormatWeights: ...
    @property
    def nbytes(self) -> int: ...
    def unpack(self, hidden: bool, /) -> Any: ...

@final
class CellOptions:
    """What a cell does with its sums, where that is data: activations, limits and coupled gates."""

    def __new__(
        cls,
        cell: str,
        activations: tuple[tuple[str, float, float], ...],
        gate_limit: float | None,
        cell_limit: float | None,
        coupled: bool,
        peepholes: bool,
        /,
    ) -> CellOptions: ...

@final
class Sums:
    """Gradients of the weights of one layer, summed over backward calls for parts of a sequence."""

    def __new__(cls) -> Sums: ...
    def finish(self) -> tuple[_Array | None, ...]: ...

@final
class Stream:
    """Steps of a stack of layers. See fastrnn.layers."""

    def __new__(
        cls,
        cell: str,
        options: CellOptions | None,
        weights: list[tuple[Any, ...]],
        batch: int,
        tokens: bool,
        outputs: int,
        /,
    ) -> Stream: ...
    @property
    def state(self) -> tuple[_Array, ...]: ...
    @state.setter
    def state(self, state: tuple[_Array | None, ...], /) -> None: ...
    def step(self, /, x: _Array, out: _Array | None = None) -> _Array: ...
    def reset(self, rows: NDArray[np.bool_], /) -> None: ...
    def copy(self) -> Stream: ...

def forward(
    cell: str,
    training: bool,
    sequence: bool,
    kept: KeptWeights | FormatWeights | None,
    row_counts: NDArray[np.int64] | None,
    x: _Array,
    w_ih: _Array | None,
    w_hh: _Array | None,
    b_ih: _Array | None,
    b_hh: _Array | None,
    h0: _Array | None,
    c0: _Array | None,
    vectors: _Array | None,
    options: CellOptions | None,
    regularised: tuple[_Array | None, ...] | None,
    /,
) -> tuple[Any, ...]: ...
def backward(
    family: str,
    tape: Tape | None,
    sums: Sums | None,
    wants_dh: bool,
    dy: _Array | None,
    dh_n: _Array | None,
    dc_n: _Array | None,
    /,
) -> tuple[Any, ...]: ...
def activations() -> dict[str, tuple[float, ...]]: ...
def addressable(cell: str, T: int, B: int, I: int, H: int, /) -> bool: ...
def block_steps(batch: int, hidden_size: int, /) -> int: ...
def trace(tape: Tape, /) -> dict[str, _Array]: ...
def column_sums(rows: _Array, /) -> _Array: ...
def fingerprint(array: _Array, /) -> bytes: ...
def linear(x: _Array, weight: _Array, bias: _Array | None = None, out: _Array | None = None) -> _Array: ...
def lstm_step(
    x: _Array,
    w_ih: _Array,
    w_hh: _Array,
    b_ih: _Array | None = None,
    b_hh: _Array | None = None,
    h: _Array | None = None,
    c: _Array | None = None,
) -> tuple[_Array, _Array]: ...
def gru_step(
    x: _Array,
    w_ih: _Array,
    w_hh: _Array,
    b_ih: _Array | None = None,
    b_hh: _Array | None = None,
    h: _Array | None = None,
    *,
    reset_after: bool = True,
) -> _Array: ...
def rnn_step(
    x: _Array,
    w_ih: _Array,
    w_hh: _Array,
    b_ih: _Array | None = None,
    b_hh: _Array | None = None,
    h: _Array | None = None,
    *,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
) -> _Array: ...
def isa() -> str: ...
def available_isas() -> tuple[str, ...]: ...
def set_isa(isa: str) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def _product_flops(iterations: int, weights: str = "float32") -> float | None: ...
def _read_bytes(array: NDArray[np.float32], repeats: int = 1) -> float: ...
def _math(name: str, array: NDArray[_Float]) -> NDArray[_Float]: ...
def _activation(activation: tuple[str, float, float], array: NDArray[_Float]) -> tuple[Any, ...]: ...
def _fp_control(flags: bool = False) -> int: ...
def _fail_in_worker(rank: int, threads: int) -> None: ...
