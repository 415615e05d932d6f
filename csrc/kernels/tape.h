// What forward leaves for backward. It is a snapshot: nothing in it refers to the caller's arrays.
#pragma once

#include "pack.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Planes of `saved` and rows of states hold whole vectors: Hp is H rounded up to them.
template <class V>
constexpr Index padded(Index H) {
    return ceil_div(H, V::kLanes) * V::kLanes;
}

// Part of the (B, H) of a step: one block of units of some rows, or some blocks of one row.
struct Blocks {
    Index row, rows;
    Index block, blocks;
};

template <class Cell, class V>
struct Tape {
    using Real = typename V::Real;
    Index x_pitch, state_pitch, saved_pitch;
    Real* x;                         // (T * B, x_pitch); absent with tokens
    Real* state[Cell::kStates];      // ((T + 1) * B, state_pitch): the state before each step, then the last
    Real* saved;                     // (T * B, saved_pitch): kSaved planes of Hp
    Real* packed_ih;                 // W_ih for dx, k in the order of the gradients' planes; absent with tokens
    Real* packed_hh[Cell::kPhases];  // W_hh for each phase of backward
    Index total;

    Tape(const Sizes& size, Real* base) {
        const Index T = size.T, B = size.B, I = size.I, H = size.H;
        const bool dense = size.D == 0;
        x_pitch = pitch<Real>(I);
        state_pitch = pitch<Real>(H);
        saved_pitch = Cell::kSaved ? pitch<Real>(Cell::kSaved * padded<V>(H)) : 0;
        Carver<Real> carver{base};
        x = carver.take(dense ? T * B * x_pitch : 0);
        for (int s = 0; s < Cell::kStates; ++s) state[s] = carver.take((T + 1) * B * state_pitch);
        saved = carver.take(T * B * saved_pitch);
        packed_ih = carver.take(dense ? packed_size<V>(I, 1, Cell::kGates * H) : 0);
        for (int p = 0; p < Cell::kPhases; ++p)
            packed_hh[p] = carver.take(packed_size<V>(H, 1, Cell::kBackward[p].count * H));
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
template <class Cell>
void gates_in_order(const int* plane_of, int first, int count, int* gate) {
    for (int g = 0; g < Cell::kGates; ++g) {
        const int place = plane_of[g] - first;
        if (place >= 0 && place < count) gate[place] = g;
    }
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
