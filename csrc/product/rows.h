// What the product of any weight format needs: where rows begin, and how wide panels are.
#pragma once

#include "../kernels/memory.h"
#include "../product.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class Real>
const Real* row_at(const Rows<Real>& rows, Index r) {
    if (r < rows.per_step) return rows.base + r * rows.stride;
    return rows.base + (r / rows.per_step) * rows.step_stride + (r % rows.per_step) * rows.stride;
}

// A block of rows, at most kRowBlock: where each begins.
template <class Real>
struct RowBlock {
    const Real* row[kRowBlock];
    Index count;

    RowBlock(const Rows<Real>& rows, Index first, Index end) : count(end - first) {
        if (count > kRowBlock) count = kRowBlock;
        for (Index i = 0; i < count; ++i) row[i] = row_at(rows, first + i);
    }
};

// Vectors in a panel, of which the last may have fewer; and what their sums start from, or null.
template <class Real>
int width_of(const Panels<Real>& panels, Index panel) {
    const Index rest = panels.vectors - panel * panels.width;
    return rest < panels.width ? static_cast<int>(rest) : panels.width;
}
template <class V>
const typename V::Real* start_of(const Panels<typename V::Real>& panels, Index panel) {
    return panels.start ? panels.start + panel * panels.width * V::kLanes : nullptr;
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
