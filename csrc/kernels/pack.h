// Weight layouts, and the arithmetic of memory that kernels share.
//
// Units are cut in blocks of one vector. A panel holds, for each k, the vectors of all gates of one or more blocks of
// units, in the order (block, gate), so that a register tile gets everything that the cell's arithmetic needs.
#pragma once

#include <cstring>

#include "gemm.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Planes of gates and rows of states are read by whole vectors: Hp is H rounded up to them.
template <class V>
constexpr Index padded(Index H) {
    return ceil_div(H, V::kLanes) * V::kLanes;
}

// Unit blocks in a panel that holds this many gates: 1 for three or four gates, 2 for two, 4 for one.
constexpr int blocks_per_panel(int gates) { return gates >= 3 ? 1 : kMaxWidth / gates; }

// Row length, in elements, for n used ones: whole cache lines, and an odd number of them, so that a column of
// rows does not fall into one set of the cache.
template <class Real>
constexpr Index pitch(Index n) {
    constexpr Index line = 64 / sizeof(Real);
    return (ceil_div(n, line) | 1) * line;
}

// Part `part` of `parts` of [0, n).
struct Range {
    Index begin, end;
};
constexpr Range share(Index n, Index part, Index parts) { return {n * part / parts, n * (part + 1) / parts}; }

template <class V>
V load_part(const typename V::Real* p, Index n) {
    return n == V::kLanes ? V::load(p) : V::load_n(p, n);
}

template <class V>
void store_part(V v, typename V::Real* p, Index n) {
    if (n == V::kLanes)
        v.store(p);
    else
        v.store_n(p, n);
}

// The vectors of so many rows, `to_second` elements apart if they are two. Two are whole ones.
template <class V, int rows>
struct RowsAtOnce {
    using Vector = V;
    static V load(const typename V::Real* p, Index, Index n) { return load_part<V>(p, n); }
    static void store(V v, typename V::Real* p, Index, Index n) { store_part(v, p, n); }
};
template <class V>
struct RowsAtOnce<V, 2> {
    using Vector = Pair<V>;
    static Vector load(const typename V::Real* p, Index to_second, Index) {
        return {V::load(p), V::load(p + to_second)};
    }
    static void store(Vector v, typename V::Real* p, Index to_second, Index) { v.a.store(p), v.b.store(p + to_second); }
};

// Moving a number from one place in memory to another takes about the time of so many floating-point operations: for
// Team::poll().
constexpr double kWorkOfMoving = 20;

template <class Real>
void copy(const Real* from, Index n, Real* to) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(Real));
}

template <class Real>
void clear(Real* to, Index n) {
    std::memset(to, 0, static_cast<std::size_t>(n) * sizeof(Real));
}

// Hands out pieces of one allocation, each on a cache line of its own; with a null base it only measures.
template <class Real>
struct Carver {
    Real* base;
    Index used = 0;

    Real* take(Index n) {
        Real* const piece = base ? base + used : nullptr;
        used += pitch<Real>(n);
        return piece;
    }
};

// to (columns, to_pitch) = from (rows, from_pitch), transposed.
template <class V>
FASTRNN_NOINLINE void transpose(const typename V::Real* from, Index from_pitch, Index rows, Index columns,
                                typename V::Real* to, Index to_pitch) {
    constexpr Index lanes = V::kLanes;
    for (Index row = 0; row < rows; row += lanes) {
        for (Index column = 0; column < columns; column += lanes) {
            const Index height = smaller(lanes, rows - row), width = smaller(lanes, columns - column);
            V square[lanes];
            for (Index i = 0; i < lanes; ++i)
                square[i] = i < height ? load_part<V>(from + (row + i) * from_pitch + column, width) : V::zero();
            transpose(square);
            for (Index i = 0; i < width; ++i) store_part(square[i], to + (column + i) * to_pitch + row, height);
        }
    }
}

// Elements of the panels of `gates` gates of H units over `depth` k.
template <class V>
constexpr Index packed_size(Index units, int gates, Index depth) {
    return ceil_div(units, V::kLanes) * V::kLanes * gates * strip_pitch(depth);
}

// Where vector v of a packed panel begins.
template <class V>
constexpr Index vector_offset(const Panels<V>& panels, Index panel, int v) {
    const int wide = strip_width<V>(panels.width_of(panel));
    return panels.offset(panel) + v / wide * panels.strip_step(panel) + v % wide * V::kLanes;
}

// One panel for x W^T: W is (count*units, depth), the rows of `count` gates, of which unit blocks [block, block +
// blocks) are taken. What is beyond the units is filled with zeros.
template <class V>
FASTRNN_NOINLINE void pack_rows_panel(const typename V::Real* w, Index units, Index depth, int count, Index block,
                                      int blocks, typename V::Real* packed) {
    constexpr Index lanes = V::kLanes;
    const Panels<V> panels{packed, blocks * count, blocks * count, depth};
    for (int v = 0; v < blocks * count; ++v) {  // each to its end: so the processor foresees what it reads
        const Index unit = (block + v / count) * lanes;
        const typename V::Real* const rows = w + (v % count * units + unit) * depth;
        typename V::Real* const to = packed + vector_offset(panels, 0, v);
        const Index valid = larger(0, smaller(lanes, units - unit)), k_step = panels.k_step(0);
        if (valid < lanes)
            for (Index k = 0; k < depth; ++k) V::zero().store(to + k * k_step);
        transpose<V>(rows, depth, valid, depth, to, k_step);
    }
}

// One of all panels, which have `all` unit blocks.
template <class V>
void pack_rows(const typename V::Real* w, Index units, Index all, Index depth, int count, Index panel,
               typename V::Real* packed) {
    const int blocks = blocks_per_panel(count);
    const Panels<V> panels{packed, all * count, blocks * count, depth};
    pack_rows_panel<V>(w, units, depth, count, panel * blocks, static_cast<int>(smaller(blocks, all - panel * blocks)),
                       packed + panels.offset(panel));
}

// One of the panels for d W: W is (G*H, columns), its rows `pitch` apart; k runs over the rows of gates gate[0],
// gate[1],
// ... in turn.
template <class V>
FASTRNN_NOINLINE void pack_columns(const typename V::Real* w, Index pitch, Index units, Index columns, const int* gate,
                                   int gates, Index panel, typename V::Real* packed) {
    constexpr Index lanes = V::kLanes;
    const Panels<V> panels{packed, ceil_div(columns, lanes), kMaxWidth, gates * units};
    const int width = panels.width_of(panel), wide = strip_width<V>(width);
    for (int first = 0; first < width; first += wide) {
        const Index column = (panel * kMaxWidth + first) * lanes;
        typename V::Real* to = packed + vector_offset(panels, panel, first);
        for (int g = 0; g < gates; ++g) {
            const typename V::Real* row = w + gate[g] * units * pitch + column;
            for (Index unit = 0; unit < units; ++unit, row += pitch, to += wide * lanes)
                for (int v = 0; v < wide; ++v)
                    load_part<V>(row + v * lanes, smaller(lanes, columns - column - v * lanes)).store(to + v * lanes);
        }
    }
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
