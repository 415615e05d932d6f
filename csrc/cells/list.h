// THE list of cells: tables, tests and most of the bindings iterate it. CONTRIBUTING.md tells what else a new cell
// needs.
//
// X(enumerator, arithmetic, family, gates, states, planes, recurrent, vectors, learned, activations)
//   enumerator   name in fastrnn::Cell, and the name by which Python asks for the cell
//   arithmetic   class template in csrc/cells that holds the cell's forward and backward
//   family       prefix of the public functions (<family>_forward ...), which error messages name
//   gates        G, blocks of H rows in w_ih
//   states       1: h;  2: h and c
//   planes       the gates by name, as the cell keeps them in the first planes of `saved`
//   recurrent    R, blocks of H rows in w_hh: G, with those of a projection G + 1, or 0, and there is no w_hh
//   vectors      how many parameters each unit has for itself, such as peepholes: arrays (vectors, H)
//   learned      how many of these, the first ones, have gradients
//   activations  how many activations are data, with the other options of CellOptions; 0: none, and no options
#pragma once

#define FASTRNN_CELLS(X)                                                              \
    X(rnn_tanh, RnnTanh, "rnn", 1, 1, "", 1, 0, 0, 0)                                 \
    X(rnn_relu, RnnRelu, "rnn", 1, 1, "", 1, 0, 0, 0)                                 \
    X(rnn_general, RnnGeneral, "rnn", 1, 1, "", 1, 0, 0, 1)                           \
    X(lstm, Lstm, "lstm", 4, 2, "ifgo", 4, 0, 0, 0)                                   \
    X(lstm_general, LstmGeneral, "lstm", 4, 2, "ifgo", 4, 3, 3, 3)                    \
    X(lstm_projected, LstmProjected, "lstm", 4, 2, "ifgo", 5, 0, 0, 0)                \
    X(lstm_general_projected, LstmGeneralProjected, "lstm", 4, 2, "ifgo", 5, 3, 3, 3) \
    X(lstm_normalised, LstmNormalised, "lstm", 4, 2, "ifgo", 4, 8, 8, 0)              \
    X(gru_reset_after, GruResetAfter, "gru", 3, 1, "rzn", 3, 0, 0, 0)                 \
    X(gru_reset_before, GruResetBefore, "gru", 3, 1, "rzn", 3, 0, 0, 0)               \
    X(gru_general_after, GruGeneralAfter, "gru", 3, 1, "rzn", 3, 0, 0, 2)             \
    X(gru_general_before, GruGeneralBefore, "gru", 3, 1, "rzn", 3, 0, 0, 2)           \
    X(gru_normalised, GruNormalised, "gru", 3, 1, "rzn", 3, 8, 8, 0)                  \
    X(indrnn, IndRnn, "indrnn", 1, 1, "", 0, 1, 1, 1)                                 \
    X(mingru, MinGru, "mingru", 2, 1, "zn", 0, 0, 0, 0)
