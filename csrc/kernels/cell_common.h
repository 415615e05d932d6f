// What both directions of a cell have in common.
#pragma once

#include "../cells/phase.h"
#include "memory.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <template <class> class CellOf>
constexpr CellShape kShape = shape_of<CellOf<Vec<float>>>();

// What zoneout makes of a state's change from `before` to `after`: exactly one of them, where keep is 0 or 1.
template <class V>
FASTRNN_INLINE V zoned_out(V keep, V before, V after) {
    return fma(keep, after, (V::broadcast(1) - keep) * before);
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
