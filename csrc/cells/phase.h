// What all cells begin with: the plain values of constants that most have none of, and the constants as data.
#pragma once

#include "../cell.h"
#include "../layout.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// What most cells have none of.
struct Plain {
    static constexpr int kVectors = 0, kLearned = 0;  // parameters of each unit for itself, of which the first learn
    static constexpr int kMaskedPlane = -1;           // a plane of `saved` that is h' as a later product takes it
    static constexpr int kNormalised = 0, kFirstNormalised = 0;  // planes of `saved` that phase 0 leaves to normalise
    static constexpr int kActivations = 0;                       // that are data: see CellOptions
};

// What a cell has besides sums and states: parameters of each unit for itself, and if it has activations, its options.
template <class V>
struct Own {
    const V* vectors;
    const CellOptions<typename V::Real>* options;

    V operator[](int vector) const { return vectors[vector]; }
};

// Blocks of rows in W_hh.
template <class Cell>
constexpr int recurrent_gates() {
    return static_cast<int>(sizeof Cell::kHiddenGradient / sizeof(int));
}

// Blocks of rows in W_ih or in W_hh, whichever has more.
template <class Cell>
constexpr int most_gates() {
    return Cell::kGates > recurrent_gates<Cell>() ? Cell::kGates : recurrent_gates<Cell>();
}

constexpr bool writes(Phase phase, int plane) { return (phase.writes >> plane & 1u) != 0; }

// Whether the planes of gradients of some gates lie together.
constexpr bool lie_together(const int* planes, int count) {
    int first = planes[0], last = planes[0];
    for (int g = 1; g < count; ++g) {
        if (planes[g] < first) first = planes[g];
        if (planes[g] > last) last = planes[g];
    }
    return last - first + 1 == count;
}

// Whether the loop can go through the input's panels beside phase 0's, and a phase is of gates or of a projection.
constexpr bool panels_fit(const CellShape& shape) {
    for (int p = 0; p < shape.phases; ++p)
        if (shape.forward[p].first < shape.gates && shape.forward[p].first + shape.forward[p].count > shape.gates)
            return false;
    return panel_shift(shape.forward[0].count) >= panel_shift(shape.gates);
}

// Whether any phase of forward multiplies something with W_hh.
constexpr bool has_product(const CellShape& shape) {
    for (int p = 0; p < shape.phases; ++p)
        if (shape.forward[p].operand != kNothing) return true;
    return false;
}

template <class T, int n>
constexpr void fill(const T (&from)[n], T* to) {
    for (int i = 0; i < n; ++i) to[i] = from[i];
}

template <class Cell>
constexpr CellShape shape_of() {
    CellShape shape{};
    shape.states = Cell::kStates, shape.gates = Cell::kGates, shape.recurrent = recurrent_gates<Cell>();
    shape.saved = Cell::kSaved, shape.gradients = Cell::kGradients;
    shape.vectors = Cell::kVectors, shape.learned = Cell::kLearned;
    shape.normalised = Cell::kNormalised, shape.first_normalised = Cell::kFirstNormalised;
    shape.carries_h = Cell::kCarriesH;
    shape.phases = Cell::kPhases;
    fill(Cell::kForward, shape.forward);
    fill(Cell::kBackward, shape.backward);
    fill(Cell::kInputGradient, shape.input_gradient);
    fill(Cell::kHiddenGradient, shape.hidden_gradient);
    return shape;
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
