"""The oracle: every function of fastrnn in plain Python over NumPy, one line per equation.

Written to be read, and to be compared with: no threads, no blocking, no compiled code. Functions, signatures and the
fields of results are those of :mod:`fastrnn`; the arithmetic is done in the dtype of the arrays that come in. Arguments
are not checked: that is the job of the real functions.

Shapes, in every file here: T steps, B batch, I input size, H hidden size, G gates of the cell (RNN 1, LSTM 4, GRU 3).
"""

from .gru import GruGradients, GruOutput, GruTape, gru_backward, gru_forward, gru_step
from .lstm import LstmGradients, LstmOutput, LstmTape, lstm_backward, lstm_forward, lstm_step
from .rnn import RnnGradients, RnnOutput, RnnTape, rnn_backward, rnn_forward, rnn_step

__all__ = [
    "GruGradients",
    "GruOutput",
    "GruTape",
    "LstmGradients",
    "LstmOutput",
    "LstmTape",
    "RnnGradients",
    "RnnOutput",
    "RnnTape",
    "gru_backward",
    "gru_forward",
    "gru_step",
    "lstm_backward",
    "lstm_forward",
    "lstm_step",
    "rnn_backward",
    "rnn_forward",
    "rnn_step",
]
