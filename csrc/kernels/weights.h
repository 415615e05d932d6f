// The weights as the forward pass reads them. They may be kept from call to call: nothing in them depends on T or B.
#pragma once

#include "tape.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class Cell, class V>
struct Weights {
    using Real = typename V::Real;
    Real* hh[Cell::kPhases];       // panels of W_hh's gates in each phase
    Real* bias_ih;                 // (blocks of units, G, lanes), zeros where the caller gave none
    Real* bias_hh[Cell::kPhases];  // the same of the gates in each phase
    Real* ih;                      // panels of W_ih, if they are kept
    Real* vectors;                 // (V, H)
    Index total;

    Weights(const Sizes& size, bool keeps_ih, Real* base) {
        const Index H = size.H, Hp = padded<V>(H);
        Carver<Real> carver{base};
        for (int p = 0; p < Cell::kPhases; ++p)
            hh[p] = carver.take(packed_size<V>(H, Cell::kForward[p].count, depth_of(Cell::kForward[p], size)));
        bias_ih = carver.take(Cell::kGates * Hp);
        for (int p = 0; p < Cell::kPhases; ++p) bias_hh[p] = carver.take(Cell::kForward[p].count * Hp);
        ih = carver.take(keeps_ih ? packed_size<V>(H, Cell::kGates, size.I) : 0);
        vectors = carver.take(Cell::kVectors * H);
        total = carver.used;
    }
};

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
