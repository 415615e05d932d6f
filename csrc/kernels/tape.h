// What forward leaves for backward. It is a snapshot: nothing in it refers to the caller's arrays.
//
// Of the states it has only those before the first step of each block of steps, which is what backward works on at a
// time: the rest is restored from `saved`, which costs less than to write, keep and read it.
#pragma once

#include "normalise.h"
#include "pack.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// How many products a sum of a phase of forward has.
inline Index depth_of(Phase phase, const Sizes& size) {
    return phase.operand == kNothing ? 0 : phase.operand == kPreviousH ? units_of_h(size) : size.H;
}

// Of a phase of backward: the units that its sums are for, and how many products each has.
inline Index units_of(Phase phase, const Sizes& size) {
    return phase.operand == kNextGradients ? units_of_h(size) : size.H;
}
template <class Cell>
Index gradient_depth(Phase phase, const Sizes& size) {
    return is_projection<Cell>(phase.first) ? units_of_h(size) : phase.count * size.H;
}

// The rows of W_hh, or of dW_hh, that belong to gate g or to a projection.
template <class Real>
struct HiddenRows {
    Real* first;
    Index rows, length;
};
template <class Cell, class Real>
HiddenRows<Real> hidden_rows(int g, const Sizes& size, Real* w_hh) {
    const Index H = size.H, P = units_of_h(size);
    if (is_projection<Cell>(g)) return {w_hh + g * H * P, P, H};
    return {w_hh + g * H * P, H, P};
}

// For Team::poll(): the operations of so many sums of so many products; and whether a step has so many that asking once
// a step, whether somebody wants to stop, is not often enough.
inline double work_of_sums(Index sums, Index depth) { return 2.0 * static_cast<double>(sums * depth); }
template <class Cell>
bool has_long_steps(const Sizes& size) {
    return work_of_sums(size.B * size.H, Cell::kGates * size.H) > 50e6;
}

constexpr int at_least_one(int n) { return n > 0 ? n : 1; }  // the length of an array

// Whether there is anything to do.
template <class Cell, class Real>
bool regularises(const Regularisation<Real>& regularisation) {
    return regularisation.mask || regularisation.keep[0] || regularisation.keep[Cell::kStates - 1];
}

// How much of its change state `state` takes over from row `row` of all on; null: all.
template <class Real>
const Real* keep_of(const Regularisation<Real>& regularisation, int state, Index row) {
    const Real* const keep = regularisation.keep[state];
    return keep ? keep + row * regularisation.keep_pitch : nullptr;
}

// What zoneout makes of a state's change from `before` to `after`: exactly one of them, where keep is 0 or 1.
template <class V>
FASTRNN_INLINE V zoned_out(V keep, V before, V after) {
    return fma(keep, after, (V::broadcast(1) - keep) * before);
}

// Part of the (B, H) of a step: one block of units of some rows, or some blocks of one row.
struct Blocks {
    Index row, rows;
    Index block, blocks;
};

// The rows of arrays over (T, B) before those of step t; and how many step t works on: none, past the end.
inline Index first_row(const Sizes& size, Index t) { return size.first_row ? size.first_row[t] : t * size.B; }
inline Index step_rows(const Sizes& size, Index t) {
    return t < size.T ? first_row(size, t + 1) - first_row(size, t) : 0;
}

// Rows of gate gradients between two rounds of weight gradients: so many that reading and writing all of those in each
// round costs little beside adding to them.
constexpr Index gradient_rows(Index H) { return smaller(larger(512, 2 * H), 2048); }

// Steps in a block of backward's. At least two: a block's last step reads the gradients of the first step of the block
// after it, in the same memory. Blocks are counted from step 0; the last may be shorter.
inline Index block_steps(const Sizes& size) {
    return smaller(size.T, larger(2, gradient_rows(size.H) / larger(1, size.B)));
}

template <class Cell, class V>
struct Tape {
    using Real = typename V::Real;
    Index state_pitch, saved_pitch;
    Real* x;                         // (T * B, I); absent with tokens
    Real* state[Cell::kStates];      // (blocks of steps * B, state_pitch): before the first step of each
    Real* saved;                     // (T * B, saved_pitch): kSaved planes of Hp
    Real* scale;                     // (T * B, kNormalised): of what was normalised
    Real* vectors;                   // (V, H)
    Real* packed_ih;                 // W_ih for dx, k in the order of the gradients' planes; absent with tokens
    Real* packed_hh[Cell::kPhases];  // W_hh for each phase of backward
    Index total;

    Tape(const Sizes& size, Real* base) {
        const Index T = size.T, B = size.B, I = size.I, H = size.H, rows = first_row(size, T);
        const bool dense = size.D == 0;
        state_pitch = pitch<Real>(H);
        saved_pitch = pitch<Real>(Cell::kSaved * padded<V>(H));
        Carver<Real> carver{base};
        x = carver.take(dense ? rows * I : 0);
        const Index blocks = T > 0 ? ceil_div(T, block_steps(size)) : 0;
        for (Real*& first : state) first = carver.take(blocks * B * state_pitch);
        saved = carver.take(rows * saved_pitch);
        scale = carver.take(rows * Cell::kNormalised);
        vectors = carver.take(Cell::kVectors * H);
        packed_ih = carver.take(dense ? packed_size<V>(I, 1, Cell::kGates * H) : 0);
        for (int p = 0; p < Cell::kPhases; ++p)
            packed_hh[p] = carver.take(
                packed_size<V>(units_of(Cell::kBackward[p], size), 1, gradient_depth<Cell>(Cell::kBackward[p], size)));
        total = carver.used;
    }
};

// The planes of the gradients of the gates' W_ih x sums lie together, from this one on.
template <class Cell>
constexpr int first_input_plane() {
    int first = Cell::kInputGradient[0];
    for (const int plane : Cell::kInputGradient) first = plane < first ? plane : first;
    return first;
}

// The gates whose gradients lie in planes first, first + 1, ... according to `plane_of`.
template <int gates>
void gates_in_order(const int (&plane_of)[gates], int first, int count, int* gate) {
    for (int g = 0; g < gates; ++g) {
        const int place = plane_of[g] - first;
        if (place >= 0 && place < count) gate[place] = g;
    }
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
