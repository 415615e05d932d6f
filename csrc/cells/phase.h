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

// What most cells have none of: parameters that each unit has for itself, of which the first are learned.
struct NoVectors {
    static constexpr int kVectors = 0, kLearned = 0;
};

constexpr bool writes(Phase phase, int plane) { return (phase.writes >> plane & 1u) != 0; }

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
