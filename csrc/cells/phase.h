// How a cell's step is cut into products, for the driver.
#pragma once

namespace fastrnn::FASTRNN_ISA {
namespace {

// Operands of a product, other than a plane of `saved`, which stands for itself as a number >= 0.
constexpr int kNothing = -2;        // there is no product: the sums are the biases, or zeros
constexpr int kPreviousH = -1;      // forward: h of the step before
constexpr int kNextGradients = -1;  // backward: the gates' gradients of the step after
constexpr int kSameGradients = 0;   // backward: those of the same step, from an earlier phase

// One product and the arithmetic that follows it.
struct Phase {
    int first, count;  // the gates (forward) or the planes of gradients (backward) that take part in the product
    int operand;       // what the weights are multiplied with
    unsigned writes;   // the planes of `saved` (forward) or of gradients (backward) that the arithmetic sets, as bits
};

// What most cells have none of.
struct Plain {
    static constexpr int kVectors = 0, kLearned = 0;  // parameters of each unit for itself, of which the first learn
    static constexpr int kMaskedPlane = -1;           // a plane of `saved` that is h' as a later product takes it
    static constexpr int kNormalised = 0, kFirstNormalised = 0;  // planes of `saved` that phase 0 leaves to normalise
};

// Blocks of rows in W_hh.
template <class Cell>
constexpr int recurrent_gates() {
    return static_cast<int>(sizeof Cell::kHiddenGradient / sizeof(int));
}

// Whether gate g, or its plane of gradients, is no gate but what becomes h: W_hr (o * tanh c).
template <class Cell>
constexpr bool is_projection(int g) {
    return recurrent_gates<Cell>() > Cell::kGates && g == Cell::kGates;
}

// Blocks of rows in W_ih or in W_hh, whichever has more.
template <class Cell>
constexpr int most_gates() {
    return Cell::kGates > recurrent_gates<Cell>() ? Cell::kGates : recurrent_gates<Cell>();
}

constexpr bool writes(Phase phase, int plane) { return (phase.writes >> plane & 1u) != 0; }

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
