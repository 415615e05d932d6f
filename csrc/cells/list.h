// THE list of cells: dispatch, drivers and most of the bindings iterate it. CONTRIBUTING.md tells what else a new cell
// needs.
//
// X(enumerator, arithmetic, family, gates, states, planes)
//   enumerator   name in fastrnn::Cell, and the name by which Python asks for the cell
//   arithmetic   class template in csrc/cells that holds the cell's forward and backward
//   family       prefix of the public functions (<family>_forward ...), which error messages name
//   gates        G, blocks of H rows in w_ih and w_hh
//   states       1: h;  2: h and c
//   planes       the gates by name, as the cell keeps them in the first planes of `saved`
#pragma once

#define FASTRNN_CELLS(X)                                  \
    X(rnn_tanh, RnnTanh, "rnn", 1, 1, "")                 \
    X(rnn_relu, RnnRelu, "rnn", 1, 1, "")                 \
    X(lstm, Lstm, "lstm", 4, 2, "ifgo")                   \
    X(gru_reset_after, GruResetAfter, "gru", 3, 1, "rzn") \
    X(gru_reset_before, GruResetBefore, "gru", 3, 1, "rzn")
