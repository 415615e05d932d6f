// The weights as the forward pass reads them. They may be kept from call to call: nothing in them depends on T or B.
#pragma once

#include "loop.h"
#include "sequence.h"

namespace fastrnn {

template <class Real>
struct Weights {
    Real* hh[kMostPhases] = {};       // panels of W_hh's gates in each phase
    Real* bias_ih;                    // (blocks of units, G, lanes), zeros where the caller gave none
    Real* bias_hh[kMostPhases] = {};  // the same of the gates in each phase
    Real* ih;                         // panels of W_ih, if they are kept
    Real* vectors;                    // (V, H)
    Index total;

    Weights(const Net<Real>& net, const Sizes& size, WeightFormat format, bool keeps_ih, Real* base) {
        const CellShape& shape = net.shape();
        const Index H = size.H, Hp = padded(net.kernels, H);
        const auto packed_size = net.product(format).packed_size;
        Carver<Real> carver{base};
        for (int p = 0; p < shape.phases; ++p) {
            const Phase phase = shape.forward[p];
            hh[p] = carver.take(packed_size(H, phase.count, depth_of(phase, size)));
        }
        bias_ih = carver.take(shape.gates * Hp);
        for (int p = 0; p < shape.phases; ++p) bias_hh[p] = carver.take(shape.forward[p].count * Hp);
        ih = carver.take(keeps_ih ? packed_size(H, shape.gates, size.I) : 0);
        vectors = carver.take(shape.vectors * H);
        total = carver.used;
    }
};

// One of the matrices that are packed: W_ih, or W_hh's gates of a phase.
template <class Real>
struct PackedMatrix {
    bool hidden;        // whether its rows are W_hh's
    Index row, number;  // the first one, and the numbers before it
    GateRows rows;
    Real* packed;
};

template <class Real, class Use>
void each_matrix(const CellShape& shape, const Sizes& size, const Weights<Real>& weights, bool keeps_ih,
                 const Use& use) {
    const Index H = size.H;
    if (keeps_ih) use(PackedMatrix<Real>{false, 0, 0, {H, H, size.I, shape.gates}, weights.ih});
    for (int p = 0; p < shape.phases; ++p) {
        const Phase phase = shape.forward[p];
        if (phase.operand == kNothing) continue;
        const HiddenRows w = hidden_rows(shape, phase.first, size);
        use(PackedMatrix<Real>{true, w.row, w.number, {w.rows, w.rows, w.length, phase.count}, weights.hh[p]});
    }
}

}  // namespace fastrnn
