// A cell as the loop over time knows it: its constants as plain data, and the functions that carry its arithmetic over
// the rows and units of a panel, which are compiled for each instruction set (kernels/forward_cell.h, backward_cell.h).
#pragma once

#include "problem.h"

namespace fastrnn {

class Team;  // thread_pool.h

constexpr int kMostPhases = 2, kMostPlanes = 5;  // of any cell; the latter: gates, with a projection

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

// The constants of a cell, which kernels/README.md explains.
struct CellShape {
    int states, gates, recurrent, saved, gradients, vectors, learned;
    int normalised, first_normalised;
    bool carries_h;
    int phases;
    Phase forward[kMostPhases], backward[kMostPhases];
    int input_gradient[kMostPlanes], hidden_gradient[kMostPlanes];
};

// Whether gate g, or its plane of gradients, is no gate but what becomes h: W_hr (o * tanh c).
static inline bool is_projection(const CellShape& shape, int g) {
    return shape.recurrent > shape.gates && g == shape.gates;
}

// --- forward

// What is the same in all steps of a run. Pitches are from row to row.
template <class Real>
struct ForwardRun {
    Index H, Hp, blocks;  // units, and up to whole vectors, which is from plane to plane of `saved`; blocks of units
    Index saved_pitch, state_pitch, keep_pitch;
    const Real* projected;  // W_ih x + b_ih: see projected_offset()
    Index projected_rows;
    const Real* vectors;  // (V, H)
    const CellOptions<Real>* options;
    const Real* mask;  // null: none
    bool training;
};

// Where a step finds and leaves what it works on, of row 0 and unit 0.
template <class Real>
struct ForwardStep {
    const ForwardRun<Real>* run;
    const Real* prev[kMaxStates];
    Real* next[kMaxStates];        // h's is y
    Real* first[kMaxStates];       // where the tape keeps the states before the step; null if it does not
    Real* masked;                  // h as the next step's product takes it; null without a mask
    const Real* keep[kMaxStates];  // null: all
    Real* saved;
    const std::int32_t* slot;  // (B,): the rows of `projected`; null without tokens: row b's is first_projected + b
    Index first_projected;
};

template <class Real>
struct ForwardCell {
    // Of one block of units of some rows, whose sums are `sums_row` apart.
    using OfRows = void (*)(const ForwardStep<Real>&, Index row, Index rows, Index block, const Real* sums,
                            Index sums_row);
    // Of some blocks of units of one row, whose sums lie side by side.
    using OfBlocks = void (*)(const ForwardStep<Real>&, Index row, Index block, Index blocks, const Real* sums);
    struct {
        OfRows pairs;     // of an even number of rows: of whole blocks, without anything of Regularisation
        OfBlocks blocks;  // likewise
        OfRows careful;   // of any block
    } phase[kMostPhases];
    const CellShape* shape;
};

// --- backward

template <class Real>
struct BackwardRun {
    Index H, Hp;
    Index saved_pitch, state_pitch, gradient_pitch, carry_pitch, keep_pitch;
    Real* carry[kMaxStates];
    const Real* vectors;
    const CellOptions<Real>* options;
    const Real* mask;
    bool carries_h;
};

template <class Real>
struct BackwardStep {
    const BackwardRun<Real>* run;
    const Real* prev[kMaxStates];
    const Real* keep[kMaxStates];  // null: all
    const Real* saved;
    const Real* dy;  // null is zeros
    Real* dh;        // null: not wanted
    Real* gradient;
    bool adds_carry;  // whether something of dL/dh is carried past the gates
};

// A row of a step whose states after it are to be restored.
template <class Real>
struct RestoredRow {
    const Real* saved;
    const Real* before[kMaxStates];
    Real* after[kMaxStates];
    const Real* keep[kMaxStates];  // null: all
};

template <class Real>
struct BackwardCell {
    // Of one block of units of `count` rows, whose sums are `sums_row` apart; or, where that is 0, of `count` blocks of
    // one row, whose sums lie side by side.
    using Apply = void (*)(const BackwardStep<Real>&, Index row, Index block, Index count, const Real* sums,
                           Index sums_row);
    struct {
        Apply plain;    // of whole blocks, without anything of Regularisation
        Apply careful;  // of any block
    } phase[kMostPhases];
    // Units [begin, end) of H.
    void (*restore)(const RestoredRow<Real>&, Index H, const Real* vectors, const CellOptions<Real>*, Index begin,
                    Index end);
};

// --- the single step from plain weights; null for cells that only layers have

template <class Real>
struct StepCell {
    Index (*workspace)(Index H);
    // Called by every member of the team with the same arguments, or by one thread alone: with no team.
    void (*run)(const StepArgs<Real>&, Team*);
};

// In the order of the list of cells.
template <class Real>
struct CellTables {
    ForwardCell<Real> forward[kCellCount];
    BackwardCell<Real> backward[kCellCount];
    StepCell<Real> step[kCellCount];
};

}  // namespace fastrnn
