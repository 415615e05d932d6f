// What both directions of a cell have in common.
#pragma once

#include "../cells/phase.h"
#include "memory.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <template <class> class CellOf>
constexpr CellShape kShape = shape_of<CellOf<Vec<float>>>();

// Whether a cell's arithmetic is carried over rows and units by one function, not by one for each way: where the others
// save little, since activations are out of line or a normalisation comes between; and without a fused multiply-add,
// for processors that have none are rare, and a smaller module is for all.
template <template <class> class CellOf, class Real>
constexpr bool kInOneFunction =
    CellOf<Vec<Real>>::kActivations > 0 || CellOf<Vec<Real>>::kNormalised > 0 || !Vec<Real>::kFused;

// What zoneout makes of a state's change from `before` to `after`: exactly one of them, where keep is 0 or 1.
template <class V>
FASTRNN_INLINE V zoned_out(V keep, V before, V after) {
    return fma(keep, after, (V::broadcast(1) - keep) * before);
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
