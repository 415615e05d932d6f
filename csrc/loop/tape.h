// What forward leaves for backward, and for traces. It is a snapshot: nothing in it refers to the caller's arrays.
//
// Of the states it has only those before the first step of each block of steps, which is what backward works on at a
// time: the rest is restored from `saved`, which costs less than to write, keep and read it.
//
// Through a call with weights in a format there is no way back: of that there is what traces read, up to `vectors`.
#pragma once

#include "sequence.h"

namespace fastrnn {

// From row to row of a tape, and of what takes its place.
template <class Real>
Index saved_pitch(const Kernels<Real>& kernels, const CellShape& shape, Index H) {
    return pitch<Real>(shape.saved * padded(kernels, H));
}

template <class Real>
struct Tape {
    Index state_pitch = 0, saved_pitch = 0;
    Real* state[kMaxStates] = {};       // (blocks of steps * B, state_pitch): before the first step of each
    Real* saved = nullptr;              // (T * B, saved_pitch): `saved` planes of Hp
    Real* vectors = nullptr;            // (V, H)
    Real* x = nullptr;                  // (T * B, I); absent with tokens
    Real* scale = nullptr;              // (T * B, `normalised`): of what was normalised
    Real* packed_ih = nullptr;          // W_ih for dx, k in the order of the gradients' planes; absent with tokens
    Real* packed_hh[kMostPhases] = {};  // W_hh for each phase of backward
    Index total = 0;

    Tape() = default;
    Tape(const Kernels<Real>& kernels, const CellShape& shape, const Sizes& size, WeightFormat format, Real* base) {
        const Index T = size.T, B = size.B, I = size.I, H = size.H, rows = first_row(size, T);
        state_pitch = pitch<Real>(H);
        saved_pitch = fastrnn::saved_pitch(kernels, shape, H);
        Carver<Real> carver{base};
        const Index blocks = T > 0 ? ceil_div(T, block_steps(size)) : 0;
        for (int s = 0; s < shape.states; ++s) state[s] = carver.take(blocks * B * state_pitch);
        saved = carver.take(rows * saved_pitch);
        vectors = carver.take(shape.vectors * H);
        total = carver.used;
        if (format != WeightFormat::plain) return;
        const bool dense = size.D == 0;
        x = carver.take(dense ? rows * I : 0);
        scale = carver.take(rows * shape.normalised);
        const auto columns_size = kernels.columns->packed_size;
        packed_ih = carver.take(dense ? columns_size(I, shape.gates * H) : 0);
        for (int p = 0; p < shape.phases; ++p) {
            const Phase phase = shape.backward[p];
            packed_hh[p] = carver.take(columns_size(units_of(phase, size), gradient_depth(shape, phase, size)));
        }
        total = carver.used;
    }
};

// The planes of the gradients of the gates' W_ih x sums lie together, from this one on.
inline int first_input_plane(const CellShape& shape) {
    int first = shape.input_gradient[0];
    for (int g = 1; g < shape.gates; ++g) first = shape.input_gradient[g] < first ? shape.input_gradient[g] : first;
    return first;
}

}  // namespace fastrnn
