// What a kernel is asked to do: plain structs of named pointers and sizes.
//
// Shape legend, everywhere in csrc: T steps, B batch, I input size, H hidden size, G gates of the cell, R its blocks of
// rows in w_hh (list.h), D distinct tokens. Arrays are row-major and contiguous; a null pointer means what its comment
// says. Nothing here owns memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cells/activation_list.h"
#include "cells/list.h"
#include "product/list.h"

namespace fastrnn {

using Index = std::ptrdiff_t;

enum class Cell : int {
#define FASTRNN_ENUMERATOR(enumerator, ...) enumerator,
    FASTRNN_CELLS(FASTRNN_ENUMERATOR)
#undef FASTRNN_ENUMERATOR
};

struct CellInfo {
    const char* name;
    const char* family;
    int gates;
    int states;
    const char* planes;
    int recurrent;
    int vectors, learned;
    int activations;
};

inline constexpr CellInfo kCells[] = {
#define FASTRNN_INFO(enumerator, arithmetic, ...) {#enumerator, __VA_ARGS__},
    FASTRNN_CELLS(FASTRNN_INFO)
#undef FASTRNN_INFO
};
inline constexpr int kCellCount = static_cast<int>(sizeof kCells / sizeof kCells[0]);
inline constexpr int kMaxStates = 2;
inline constexpr int kMaxGates = 4;
inline constexpr int kH = 0;  // index of the hidden state in every array of states
inline constexpr int kC = 1;  // index of the cell state

enum class ActivationKind : int {
#define FASTRNN_ENUMERATOR(enumerator, ...) enumerator,
    FASTRNN_ACTIVATIONS(FASTRNN_ENUMERATOR)
#undef FASTRNN_ENUMERATOR
};
inline constexpr int kMostActivations = 3;  // of any cell

// A function of the list of activations.
template <class Real>
struct Activation {
    ActivationKind kind;
    Real alpha, beta;
};

// What a cell does with its sums, as data, where the list of cells says that it has activations: of an RNN (f,), of a
// GRU (f, g) and of an LSTM (f, g, h) as ONNX has them, f being that of the gates and h that of c.
template <class Real>
struct CellOptions {
    Activation<Real> activation[kMostActivations];
    bool limits_gates, limits_cell;    // whether there is a largest absolute value of what goes into the activations of
    Real gate_limit, cell_limit;       // gates, or of c; and which
    Real gate_least[2], gate_most[2];  // for backward: what f and g make of the limits
    bool coupled, peepholes;           // f = 1 - i; whether gates look at c
};

enum class WeightFormat : int {
#define FASTRNN_ENUMERATOR(name) name,
    FASTRNN_WEIGHT_FORMATS(FASTRNN_ENUMERATOR)
#undef FASTRNN_ENUMERATOR
};
static_assert(static_cast<int>(WeightFormat::plain) == 0, "what is not said is plain");
#define FASTRNN_COUNT(name) +1
inline constexpr int kWeightFormatCount = FASTRNN_WEIGHT_FORMATS(FASTRNN_COUNT);
#undef FASTRNN_COUNT

// D is 0 for a dense input, and the number of distinct tokens for a token input.
//
// With a projection h has only P of the H units, and zeros in the place of the others; P of 0 stands for H.
//
// Sequences may have lengths of their own. Then they are sorted, the longest first, so that step t works on the first
// of them only, and arrays over (T, B) have these rows without gaps: those of step t from first_row[t] to first_row[t +
// 1]. Every step has at least one, and step 0 has B.
struct Sizes {
    Index T, B, I, H, D;
    const Index* first_row = nullptr;  // (T + 1,); null is t * B
    Index P = 0;
};

// Static, for the kernels' objects to share no symbol.
static inline Index units_of_h(const Sizes& size) { return size.P > 0 ? size.P : size.H; }

// How a team shares one problem: thread `rank` owns batch part rank / unit_parts and hidden-unit part rank % unit_parts
// of every step. Batch parts never wait for each other; unit parts meet at a barrier after each step.
struct Split {
    int batch_parts;
    int unit_parts;
};

// One-hot input by index. The kernels project each distinct token once.
struct Tokens {
    const std::int32_t* slot;  // (T, B): which of the distinct tokens stands here
    const std::int64_t* id;    // (D,): the column of w_ih that each distinct token selects
    // (D,): the place of each among the `frequent` ones, or -1: of the sums over these, backward keeps what rounding
    // leaves out. Null: all are.
    const std::int32_t* frequent_place = nullptr;
    Index frequent = 0;
};

// What is done to the states against overfitting, the same forward and backward. With no pointer nothing is done.
template <class Real>
struct Regularisation {
    const Real* mask;              // (B, H): what h is multiplied with before W_hh (Gal and Ghahramani, 2016)
    const Real* keep[kMaxStates];  // (T, B, H) each, or (H,) for all rows: how much of its change a state takes over,
    Index keep_pitch;              // 0 to 1 (zoneout of Krueger et al., 2017). From row to row: H, or 0
};

// Rows of a matrix of weights as a format other than plain has them: bfloat16 the upper 16 bits of each number, int8
// integers, and for each row what they are multiples of.
struct Matrix {
    const void* numbers;
    const float* scales;
};

// What of them a number takes.
static inline Index bytes_of_number(WeightFormat format) { return format == WeightFormat::int8 ? 1 : 2; }

template <class Real>
struct ForwardArgs {
    Sizes size;
    Split split;
    const Real* x;         // (T, B, I); null with tokens
    Tokens tokens;         // null pointers with x
    const Real* w_ih;      // (G*H, I)
    bool transposed_w_ih;  // whether it is (I, G*H) instead, for tokens
    const Real* w_hh;      // (R*H, H), or (G*H, P) and then W_hr (P, H); null where a cell has none, here and below
    const Real* b_ih;      // (G*H,); null is zeros
    const Real* b_hh;      // (G*H,); null is zeros
    const Real* vectors;   // (V, H): the parameters that each unit has for itself
    const CellOptions<Real>* options;  // null where a cell has no activations, here and below
    Regularisation<Real> regularisation;
    const Real* state_0[kMaxStates];  // (B, H) each: h0, c0; null is zeros
    Real* y;                          // (T, B, H); null: only the last states are wanted
    Real* state_n[kMaxStates];        // (B, H) each: h_n, c_n; may be state_0
    bool turned;                      // whether the first step goes through W_hh from its end
    WeightFormat format;              // of the packed weights
    Matrix in_format[2];              // w_ih and w_hh in another format than plain, in the place of those; to pack
    Real* packed;       // packed_size() elements, the weights as the same table packs them; null: it packs
    bool fills_packed;  // into the workspace. Whether `packed` is still to be filled.
    Real* tape;         // tape_size() elements, filled for backward and traces; null: for neither
    Real* workspace;    // forward_workspace() elements, uninitialised, 64-byte aligned
    Real* ready;        // likewise, for rows as the format takes them, for each part of the units; null if as they are
};

// Where numbers and scales go; both null: they are not wanted.
struct UnpackedMatrix {
    void* numbers;
    float* scales;
};

// Weights in another format than plain, of one layer, that are to be unpacked.
struct UnpackArgs {
    WeightFormat format;
    Index I, H, P;
    const void* packed;        // as ForwardArgs::packed of the same table
    UnpackedMatrix matrix[2];  // w_ih and w_hh
};

template <class Real>
struct BackwardArgs {
    Sizes size;
    Split split;
    const Real* tape;                  // as the forward kernel of the same table filled it, with plain weights
    Tokens tokens;                     // as given to forward
    const CellOptions<Real>* options;  // likewise, as what follows
    Regularisation<Real> regularisation;
    const Real* dy;                    // (T, B, H); null is zeros
    const Real* dstate_n[kMaxStates];  // (B, H) each; null is zeros
    Real* dx;                          // (T, B, I); null with tokens
    Real* dh;                          // (T, B, H): dL/dh of every step, whole; null: not wanted
    Real* dw_ih;                       // (G*H, I)
    Real* dw_hh;                       // that of w_hh
    Real* db_ih;                       // (G*H,)
    Real* db_hh;                       // (G*H,)
    Real* dvectors;                    // (L, H): of the learned ones
    bool adds;   // whether these are added to what they and `rest` hold. What rounding leaves out of long sums: of
    Real* rest;  // db_ih, db_hh, dvectors and, with tokens, dw_ih, one after the other; null: they include it
    Real* dstate_0[kMaxStates];  // (B, H) each
    Real* workspace;             // backward_workspace() elements, uninitialised, 64-byte aligned
};

// What a tape has, laid out for looking at.
template <class Real>
struct TraceArgs {
    Sizes size;
    const Real* tape;
    WeightFormat format;               // of the weights that forward had
    const CellOptions<Real>* options;  // as given to forward, and what follows
    Regularisation<Real> regularisation;
    Real* state[kMaxStates];  // (T, B, H) each: after every step
    Real* gate[kMaxGates];    // (T, B, H) each, those that the list of cells names
};

// One step from the plain, unpacked weights, for cells with such weights only: made for small B, where packing would
// cost more than the step.
template <class Real>
struct StepArgs {
    Sizes size;                     // T is 1; D is B with tokens, as if all were distinct
    Split split;                    // of the units
    const Real* x;                  // (B, I); null with tokens
    const std::int64_t* token;      // (B,); null with x
    const Real* w_ih;               // (G*H, I)
    const Real* w_hh;               // (G*H, H)
    const Real* b_ih;               // (G*H,); null is zeros
    const Real* b_hh;               // (G*H,); null is zeros
    const Real* state[kMaxStates];  // (B, H) each; null is zeros
    Real* next_state[kMaxStates];   // (B, H) each; may not overlap any input
    Real* workspace;                // step_workspace() elements
};

// What often follows a step: y = x W^T + b of a few rows.
template <class Real>
struct LinearArgs {
    Index B, I, O;
    const Real* x;       // (B, I)
    const Real* weight;  // (O, I)
    const Real* bias;    // (O,); null is zeros
    Real* y;             // (B, O); may not overlap any input
};

}  // namespace fastrnn
