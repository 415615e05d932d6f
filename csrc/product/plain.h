// The plain weight format: weights are of the type that rows have, float32 or float64. And products with the columns of
// a matrix, for the way back, of such weights alone.
#pragma once

#include "tiles.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

template <class V>
Index packed_size(Index units, int gates, Index depth) {
    return ceil_div(units, V::kLanes) * V::kLanes * gates * strip_pitch(depth);
}

template <class V>
void pack_rows(const GateRows& rows, const void* numbers, const float*, Index unit_blocks, Index panel, void* packed) {
    using Real = typename V::Real;
    const Real* const first_row = static_cast<const Real*>(numbers);
    constexpr Index lanes = V::kLanes;
    const int gates = rows.gates, blocks_of_panel = 1 << panel_shift(gates);
    const Panels<Real> all{packed, unit_blocks * gates, blocks_of_panel * gates, rows.depth};
    const PanelsOf<V> panels{all};
    const Index first = panel * blocks_of_panel, k_step = panels.k_step(panel);
    const int blocks = static_cast<int>(smaller(blocks_of_panel, unit_blocks - first));
    for (int v = 0; v < blocks * gates; ++v) {  // each to its end: so the processor foresees what it reads
        const Index unit = (first + v / gates) * lanes;
        Real* const to = static_cast<Real*>(packed) + panels.vector_offset(panel, v);
        const Index valid = larger(0, smaller(lanes, rows.units - unit));
        if (valid < lanes)
            for (Index k = 0; k < rows.depth; ++k) V::zero().store(to + k * k_step);
        transpose<V>(first_row + (v % gates * rows.apart + unit) * rows.depth, rows.depth, valid, rows.depth, to,
                     k_step);
    }
}

// --- products with the columns of a matrix, for the way back

template <class V>
Index columns_size(Index columns, Index depth) {
    return packed_size<V>(columns, 1, depth);
}

template <class V>
void pack_columns(const typename V::Real* w, Index pitch, Index units, Index columns, const int* gate, int gates,
                  Index panel, typename V::Real* packed) {
    constexpr Index lanes = V::kLanes;
    const Panels<typename V::Real> all{packed, ceil_div(columns, lanes), kMaxWidth, gates * units};
    const PanelsOf<V> panels{all};
    const int width = panels.width_of(panel), wide = strip_width<V>(width);
    for (int first = 0; first < width; first += wide) {
        const Index column = (panel * kMaxWidth + first) * lanes;
        typename V::Real* to = packed + panels.vector_offset(panel, first);
        for (int g = 0; g < gates; ++g) {
            const typename V::Real* row = w + gate[g] * units * pitch + column;
            for (Index unit = 0; unit < units; ++unit, row += pitch, to += wide * lanes)
                for (int v = 0; v < wide; ++v)
                    load_part<V>(row + v * lanes, smaller(lanes, columns - column - v * lanes)).store(to + v * lanes);
        }
    }
}

template <class V>
void multiply_into(const Rows<typename V::Real>& rows, Index row_begin, Index row_end,
                   const Panels<typename V::Real>& panels, Index columns, bool add, typename V::Real* out, Team& team) {
    using Real = typename V::Real;
    const auto epilogue = [&](Index first, Index count, Index panel, int width, const Real* sums) {
        for (Index row = first; row < first + count; ++row) {
            for (int v = 0; v < width; ++v, sums += V::kLanes) {
                const Index column = (panel * panels.width + v) * V::kLanes;
                const Index n = smaller(V::kLanes, columns - column);
                Real* const to = out + row * columns + column;
                const V sum = V::load(sums);
                store_part(add ? sum + load_part<V>(to, n) : sum, to, n);
            }
        }
        team.poll(work_of_sums(count * width * V::kLanes, panels.depth));
    };
    Touched<Real> touched;
    touched.array[0] = {out, columns}, touched.count = 1;
    product<V>(rows, row_begin, row_end, panels, {0, panel_count(panels)}, epilogue_of<Real>(epilogue), &touched);
}

template <class V>
constexpr ProductKernels<typename V::Real> product_kernels() {
    return {packed_size<V>, pack_rows<V>, nullptr, product<V>, product_of_block<V>, nullptr, nullptr, nullptr};
}

template <class V>
constexpr ColumnKernels<typename V::Real> column_kernels() {
    return {columns_size<V>, pack_columns<V>, multiply_into<V>};
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
