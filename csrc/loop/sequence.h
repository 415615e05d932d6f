// What the passes over a sequence share: its rows, its blocks of steps, and pieces of memory.
#pragma once

#include "../kernel_table.h"

namespace fastrnn {

// The rows of arrays over (T, B) before those of step t; and how many step t works on: none, past the end.
inline Index first_row(const Sizes& size, Index t) { return size.first_row ? size.first_row[t] : t * size.B; }
inline Index step_rows(const Sizes& size, Index t) {
    return t < size.T ? first_row(size, t + 1) - first_row(size, t) : 0;
}

// Rows of gate gradients between two rounds of weight gradients: so many that reading and writing all of those in each
// round costs little beside adding to them.
inline Index gradient_rows(Index H) { return smaller(larger(512, 2 * H), 2048); }

// Steps in a block of backward's. At least two: a block's last step reads the gradients of the first step of the block
// after it, in the same memory. Blocks are counted from step 0; the last may be shorter.
inline Index block_steps(const Sizes& size) {
    return smaller(size.T, larger(2, gradient_rows(size.H) / larger(1, size.B)));
}

// Whether a step has so many operations that asking once a step, whether somebody wants to stop, is not often enough.
inline bool has_long_steps(const CellShape& shape, const Sizes& size) {
    return work_of_sums(size.B * size.H, shape.gates * size.H) > 50e6;
}

// H rounded up to whole vectors: planes of gates and rows of states are read by these.
template <class Real>
Index padded(const Kernels<Real>& kernels, Index H) {
    return shift_up(H, kernels.lanes_log2) << kernels.lanes_log2;
}

// How many products a sum of a phase of forward has.
inline Index depth_of(Phase phase, const Sizes& size) {
    return phase.operand == kNothing ? 0 : phase.operand == kPreviousH ? units_of_h(size) : size.H;
}

// Of a phase of backward: the units that its sums are for, and how many products each has.
inline Index units_of(Phase phase, const Sizes& size) {
    return phase.operand == kNextGradients ? units_of_h(size) : size.H;
}
inline Index gradient_depth(const CellShape& shape, Phase phase, const Sizes& size) {
    return is_projection(shape, phase.first) ? units_of_h(size) : phase.count * size.H;
}

// The rows of W_hh, or of dW_hh, that belong to gate g or to a projection: the first one, the numbers before it, how
// many there are, and of how many numbers.
struct HiddenRows {
    Index row, number, rows, length;
};
inline HiddenRows hidden_rows(const CellShape& shape, int g, const Sizes& size) {
    const Index H = size.H, P = units_of_h(size);
    if (is_projection(shape, g)) return {g * H, g * H * P, P, H};
    return {g * H, g * H * P, H, P};
}

// Whether there is anything to do.
template <class Real>
bool regularises(const CellShape& shape, const Regularisation<Real>& regularisation) {
    return regularisation.mask || regularisation.keep[0] || regularisation.keep[shape.states - 1];
}

// How much of its change state `state` takes over from row `row` of all on; null: all.
template <class Real>
const Real* keep_of(const Regularisation<Real>& regularisation, int state, Index row) {
    const Real* const keep = regularisation.keep[state];
    return keep ? keep + row * regularisation.keep_pitch : nullptr;
}

// The product of all rows of [row_begin, row_end) with this thread's panels, whose sums `function` takes as an epilogue
// does.
template <class Real, class Function>
void multiply(const ProductKernels<Real>& product, const Rows<Real>& rows, Index row_begin, Index row_end,
              const Panels<Real>& panels, const Turns& turns, const Function& function,
              const Touched<Real>* touched = nullptr) {
    product.multiply(rows, row_begin, row_end, panels, turns, epilogue_of<Real>(function), touched);
}

// Buffers that each thread writes for itself again and again lie so far apart: what the processor fetches ahead of one
// is taken from the other. With a few lines between them two threads are up to 8 % slower.
template <class Real>
Index threads_apart(Index threads) {
    return threads > 1 ? 65536 / static_cast<Index>(sizeof(Real)) : 0;
}

// Hands out pieces of one allocation, each on a cache line of its own; with a null base it only measures.
template <class Real>
struct Carver {
    Real* base;
    Index used = 0;

    Real* take(Index n) {
        Real* const piece = base ? base + used : nullptr;
        used += pitch<Real>(n);
        return piece;
    }
};

}  // namespace fastrnn
